"""Checks of what a dataset is made of: sequences, integers, truth values and names."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.data._array import Array
from skelcontrast.skeleton import SkeletonLayout
from skelcontrast.skeleton.layout import check_layout

Integers: TypeAlias = Sequence[int] | Array | Tensor
Booleans: TypeAlias = Sequence[bool] | Array | Tensor


def sequences(owner: str, data: object, layout: SkeletonLayout | None) -> Array | Tensor:
    """Return `data` if it is a non-empty (N, C, T, V, M) array or tensor of floating point with V joints."""
    if not isinstance(data, np.ndarray | Tensor):
        _check.fail(owner, "data", "be a numpy.ndarray or a torch.Tensor", type(data).__name__, kind=TypeError)
    floating = data.is_floating_point() if isinstance(data, Tensor) else data.dtype.kind == "f"
    if not floating:
        _check.fail(owner, "data", "be floating point", data.dtype, kind=TypeError)
    if isinstance(data, np.ndarray) and not data.dtype.isnative:
        _check.fail(owner, "data", "have this machine's byte order", data.dtype.str, kind=TypeError)
    if data.ndim != 5 or 0 in data.shape:
        hint = "One sequence is data[None], one body data[..., None]." if data.ndim == 4 else ""
        _check.fail(owner, "data", "have shape (N, C, T, V, M), none of them 0", _check.show(data.shape), hint=hint)
    if layout is not None and data.shape[3] != check_layout(owner, layout).num_joints:
        must = f"have the {layout.num_joints} joints of layout '{layout.name}' on axis V"
        _check.fail(owner, "data", must, _check.show(data.shape))
    return data


def integers(owner: str, name: str, values: Integers | Sequence[object], length: int | None = None) -> Tensor:
    """Return integers as a new int64 tensor (n,) on the CPU, n `length` where given."""
    array = _one_axis(owner, name, values, length)
    if array.dtype.kind not in "iu" and array.size > 0:
        hint = (
            f"Number them: `_, {name} = numpy.unique({name}, return_inverse=True)`." if array.dtype.kind in "US" else ""
        )
        _check.fail(owner, name, "be integers", _kind(values, array), hint=hint, kind=TypeError)
    return torch.from_numpy(array.astype(np.int64))


def flags(owner: str, name: str, values: Booleans, length: int) -> Tensor:
    """Return truth values as a new bool tensor (length,) on the CPU."""
    array = _one_axis(owner, name, values, length)
    if array.dtype.kind != "b":
        _check.fail(owner, name, "be booleans", _kind(values, array), kind=TypeError)
    return torch.from_numpy(array.copy())


def strings(owner: str, name: str, values: Sequence[object], length: int | None = None) -> tuple[str, ...]:
    """Return different strings, `length` of them where given."""
    if isinstance(values, str):
        _check.fail(owner, name, "be a sequence of strings", "one string", kind=TypeError)
    found: list[str] = []
    for value in values:
        if not isinstance(value, str):
            _check.fail(owner, name, "be strings", repr(value), kind=TypeError)
        found.append(value)
    _check_length(owner, name, len(found), length)
    repeated = _check.first_repeated(found)
    if repeated is not None:
        _check.fail(owner, name, "be different", f"{repeated!r} twice")
    return tuple(found)


def number_of_classes(owner: str, labels: Tensor, class_names: tuple[str, ...] | None, given: int | None) -> int:
    """Return how many classes there are: as given, or of the names, or up to the largest label."""
    largest = int(labels.max())
    if int(labels.min()) < 0:
        _check.fail(owner, "labels", "be at least 0", int(labels.min()))
    if given is not None:
        given = _check.integer(owner, "num_classes", given, 1)
    if class_names is not None and given is not None and given != len(class_names):
        _check.fail(owner, "num_classes", f"be the number of `class_names`, {len(class_names)}", given)
    count = len(class_names) if class_names is not None else largest + 1 if given is None else given
    if largest >= count:
        hint = "Labels count from 0." if largest == count else ""
        _check.fail(owner, "labels", f"lie below the number of classes, {count}", largest, hint=hint)
    return count


def _one_axis(owner: str, name: str, values: object, length: int | None) -> Array:
    try:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except ValueError:  # lists of different lengths
        _check.fail(owner, name, "have one axis", "nested lists")
    if array.ndim != 1:
        _check.fail(owner, name, "have one axis", _check.show(array.shape))
    _check_length(owner, name, array.size, length)
    return array


def _check_length(owner: str, name: str, got: int, length: int | None) -> None:
    if length is not None and got != length:
        _check.fail(owner, name, f"have one entry for each of the {length} sequences of `data`", f"{got} entries")


def _kind(values: object, array: Array) -> str:
    return str(values.dtype) if isinstance(values, Tensor) else str(array.dtype)
