"""The one place where arguments are checked and the one form in which errors are said.

Every message reads ``<public name>: `<argument>` must ..., got .... <hint>``. Checks look at types, shapes and plain
numbers, never at tensor values, so they cost no device synchronisation.
"""

import math
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

_Value = TypeVar("_Value", bound=Hashable)


def fail(
    owner: str, name: str, must: str, got: object, *, hint: str = "", kind: type[Exception] = ValueError
) -> NoReturn:
    """Raise `kind` in the house form."""
    raise kind(f"{owner}: `{name}` must {must}, got {got}.{' ' + hint if hint else ''}")


def show(shape: Collection[int | str]) -> str:
    """Write a shape the way users write it: ``(4, 3, 50, 25, 2)``, or ``(N, C)`` where sizes are left open."""
    return f"({', '.join(str(size) for size in shape)}{',' if len(shape) == 1 else ''})"


def tensor(owner: str, name: str, value: object, *, floating: bool = True) -> "Tensor":
    """Return `value` if it is a tensor (of floating point, unless told otherwise)."""
    import torch  # here, so that what checks no tensor does without PyTorch

    if not isinstance(value, torch.Tensor):
        fail(owner, name, "be a torch.Tensor", type(value).__name__, kind=TypeError)
    if floating and not value.is_floating_point():
        fail(owner, name, "be floating point", value.dtype, hint=f"Call `{name}.float()` first.", kind=TypeError)
    return value


def module(owner: str, name: str, value: object) -> "nn.Module":
    """Return `value` if it is a module, and not a class of them."""
    from torch import nn

    if not isinstance(value, nn.Module):
        got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        fail(owner, name, "be a built torch.nn.Module", got, kind=TypeError)
    return value


def mapping(owner: str, name: str, value: object, *, of: str = "names", hint: str = "") -> Mapping[str, Any]:
    """Return `value` if it is a mapping."""
    if not isinstance(value, Mapping):
        fail(owner, name, f"be a mapping from {of}", type(value).__name__, hint=hint, kind=TypeError)
    return value


def shape(
    owner: str, name: str, value: "Tensor", axes: str, *, why: str = "", hint: str = "", **sizes: int
) -> "Tensor":
    """Check rank and named sizes: ``shape("EADM", "x", x, "N C T V", V=25)``.

    Args:
        owner: Public name that the user called.
        name: Name of the argument.
        value: The tensor.
        axes: Axis names separated by blanks.
        why: What the sizes come from, put behind the expected shape.
        hint: A sentence on the likely cause.
        **sizes: Sizes that axes must have, by axis name.
    """
    names, given = axes.split(), tuple(value.shape)
    fits = len(given) == len(names)
    for axis, size in zip(names, given, strict=False):
        fits = fits and sizes.get(axis, size) == size
    if not fits:
        wanted = show([sizes.get(axis, axis) for axis in names])
        fail(owner, name, f"have shape {wanted}{' ' + why if why else ''}", show(given), hint=hint)
    return value


def skeletons(owner: str, name: str, value: object, *, hint: str = "", **sizes: int) -> "Tensor":
    """Check a batch of skeleton sequences (N, C, T, V, M)."""
    return shape(owner, name, tensor(owner, name, value), "N C T V M", why="", hint=hint, **sizes)


def interval(
    owner: str,
    name: str,
    value: object,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    open_high: bool = False,
    hint: str = "",
) -> float:
    """Check that a plain number, or one of NumPy's, is finite and lies between `low` and `high`.

    Bounds belong to the interval unless they are open, as infinite ones always are.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        fail(owner, name, "be a number", repr(value), kind=TypeError)
    number = float(value)
    inside = (number > low if open_low else number >= low) and (number < high if open_high else number <= high)
    if not (inside and -math.inf < number < math.inf):
        left = "(" if open_low or low == -math.inf else "["
        right = ")" if open_high or high == math.inf else "]"
        fail(owner, name, f"lie in {left}{low:g}, {high:g}{right}", f"{number:g}", hint=hint)
    return number


def integer(owner: str, name: str, value: object, low: int, high: int | None = None, *, hint: str = "") -> int:
    """Check that a plain integer, or one of NumPy's, is at least `low` and, where given, at most `high`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        fail(owner, name, "be an integer", repr(value), kind=TypeError)
    number = int(value)
    if number < low or (high is not None and number > high):
        bounds = f"be at least {low}" if high is None else f"lie in [{low}, {high}]"
        fail(owner, name, bounds, number, hint=hint)
    return number


def choice(owner: str, name: str, value: object, options: Collection[str]) -> None:
    """Check that `value` is one of the named options."""
    if value not in options:
        fail(owner, name, f"be one of {', '.join(repr(option) for option in options)}", repr(value))


def first_repeated(values: Iterable[_Value]) -> _Value | None:
    """Return the first of some values, none of them `None`, that comes again; `None` if all are different."""
    return next((value for value, count in Counter(values).items() if count > 1), None)


def same_device(owner: str, name: str, value: "Tensor", other: str, device: "torch.device") -> None:
    """Check that two arguments live on one device."""
    if value.device != device:
        fail(owner, name, f"be on the device of `{other}` ({device})", value.device)
