"""Forms of one operation, timed in turn: forward, backward and both, beside a baseline of equal numbers.

On CUDA every form is captured as a graph, forward and both, and backward is the difference; beside that stands both as
it is launched one operation after the other.

What is measured becomes rows of a table, and a benchmark's result is a list of such tables, which `benchmarks.report`
renders. A row holds its case and form, how often the case counts, the spread of seconds and of the ratio to the first
form per part, peak bytes, and the share of the machine's limit where the work is known.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from benchmarks.measure import (
    Limits,
    Spread,
    Timing,
    Work,
    full_precision,
    interleaved,
    peak_memory,
    show_bytes,
    show_number,
    speedup,
)

LAUNCHED = "launched"
PARTS = ("forward", "backward", "both", LAUNCHED)
LEAST = 1e-7
"""Seconds of the shortest backward, which the difference of two noisy times could put below zero."""
Row: TypeAlias = dict[str, Any]
Times: TypeAlias = dict[str, list[float]]
"""Seconds of every repeat, by part."""


class Form(NamedTuple):
    """A way to compute an operation: what is called with the inputs that are trained, and the gradient of its result.

    Of a layer both are in the memory format that they have in the encoder.
    """

    call: Callable[..., Tensor]
    inputs: list[Tensor]
    upstream: Tensor

    @classmethod
    def of_loss(cls, call: Callable[..., Tensor], inputs: Sequence[Tensor]) -> "Form":
        """Differentiate a scalar; forms share these inputs."""
        return cls(call, list(inputs), torch.ones((), dtype=inputs[0].dtype, device=inputs[0].device))

    @classmethod
    def of(cls, call: Callable[..., Tensor], values: Sequence[Tensor], memory_format: torch.memory_format) -> "Form":
        """Copy the inputs, of which the first are features."""
        x, *others = (value.detach().clone() for value in values)
        x = x.contiguous(memory_format=memory_format)
        inputs = [value.requires_grad_() for value in (x, *others)]
        out = call(*inputs)
        upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out)
        return cls(call, inputs, upstream.contiguous(memory_format=memory_format))

    def forward(self) -> Tensor:
        """Go forward, keep what backward would need as long as that takes, and return the values."""
        return self.call(*self.inputs).detach()

    def both(self) -> tuple[Tensor, ...]:
        """Go forward and backward; return values and gradients."""
        out = self.call(*self.inputs)
        return (out.detach(), *torch.autograd.grad(out, self.inputs, self.upstream))


class Binding(NamedTuple):
    """What binds a case: its work, and what the machine gives."""

    work: Work
    limits: Limits


def measure_forms(
    case: str,
    forms: Mapping[str, Form],
    timing: Timing,
    *,
    count: int = 1,
    bound: Binding | None = None,
    tolerance: float = 1e-4,
) -> list[Row]:
    """Check that all forms give the first one's numbers, then print and return a row for each."""
    check_that_numbers_agree(forms, tolerance)
    times = _time_parts(forms, timing)
    baseline, rows = next(iter(forms)), []
    for name, parts in times.items():
        row = part_row(case, name, parts, times[baseline], peak_memory(forms[name].both, timing.device))
        row["count"] = count
        if bound is not None:
            share = bound.limits.share(bound.work, row["seconds"]["both"]["median"])
            row |= {**bound.work._asdict(), "share": share}
        rows.append(row)
        print_row(row, is_first=name == baseline)
    return rows


def whole_row(case: str, form: str, seconds: Sequence[float], baseline: Sequence[float], held: int | None) -> Row:
    """Return the row of something that has no parts; where memory was not measured it is `None`."""
    return part_row(case, form, {"both": seconds}, {"both": baseline}, held)


def part_row(
    case: str,
    form: str,
    parts: Mapping[str, Sequence[float]],
    baseline: Mapping[str, Sequence[float]],
    held: int | None,
) -> Row:
    """Return the row of something that has parts."""
    seconds = {part: Spread.of(values)._asdict() for part, values in parts.items()}
    ratios = {part: speedup(baseline[part], values)._asdict() for part, values in parts.items()}
    return {"case": case, "form": form, "seconds": seconds, "times_faster": ratios, "bytes": held}


def measure_calls(
    case: str, calls: Mapping[Any, Callable[[], object]], timing: Timing, *, warmup: int = 2
) -> list[Row]:
    """Time what has no parts beside the first of its kind; print and return a row for each."""
    times = time_calls(calls, timing, warmup=warmup)
    baseline, rows = next(iter(calls)), []
    for name, call in calls.items():
        rows.append(part_row(case, name, times[name], times[baseline], peak_memory(call, timing.device)))
        print_row(rows[-1], is_first=name == baseline)
    return rows


def time_calls(calls: Mapping[str, Callable[[], object]], timing: Timing, *, warmup: int = 2) -> dict[str, Times]:
    """Time what has no parts in turn: "both", and on CUDA, where that is captured, "launched" as well."""
    on_cuda = timing.device.type == "cuda"
    times = interleaved(calls, timing, warmup=warmup, captured=on_cuda)
    launched = interleaved(calls, timing, warmup=warmup) if on_cuda else {}
    return {name: {"both": times[name]} | ({LAUNCHED: launched[name]} if on_cuda else {}) for name in calls}


def table(title: str, case: str, rows: Sequence[Row], **more: object) -> dict[str, Any]:
    """Return a table for the result of a benchmark; `case` says what tells its cases apart, such as "layer"."""
    return {"title": title, "case": case, "rows": list(rows), **more}


def print_head(title: str) -> None:
    """Print a title and the names of the columns of `print_row`."""
    head = "".join(f"{part:>12}" for part in PARTS[:3])
    print(f"\n{title}\n{'':26}{'times':>6}  {'form':36}{'ms, both (quartiles)':>26}{head}{'memory':>12}{'share':>8}")


def print_row(row: Row, *, is_first: bool) -> None:
    """Print times, ratios to the first form, memory and the share of the limit; the case in its first row."""
    title = f"{row['case']:26}{row.get('count', 1):>6}" if is_first else " " * 32
    ratios = "".join(
        f"{row['times_faster'][p]['median']:>10.2f} x" if p in row["times_faster"] else " " * 12 for p in PARTS[:3]
    )
    share = f"{row['share']:>8.0%}" if "share" in row else ""
    seconds = Spread(**row["seconds"]["both"]).show(1e3)
    held = "" if row["bytes"] is None else show_bytes(row["bytes"])
    launched = ""
    if LAUNCHED in row["seconds"]:
        alone, ratio = (row[of][LAUNCHED]["median"] for of in ("seconds", "times_faster"))
        launched = f"  launched one by one {show_number(1e3 * alone)} ms, {ratio:.2f} x"
    print(f"{title}  {row['form']:36}{seconds:>26}{ratios}{held:>12}{share}{launched}", flush=True)


def geometric_mean(found: Sequence[Row], form: str, part: str) -> float:
    """Average a form's ratios, each as often as its case counts."""
    mine = [entry for entry in found if entry["form"] == form]
    total = sum(entry["count"] * math.log(entry["times_faster"][part]["median"]) for entry in mine)
    return math.exp(total / sum(entry["count"] for entry in mine))


def check_that_numbers_agree(forms: Mapping[str, Form], tolerance: float = 1e-4) -> None:
    """Stop where a form's values or gradients are others than the first form's, in full precision."""
    with full_precision():
        expected = next(iter(forms.values())).both()
        for name, form in forms.items():
            for one, two in zip(form.both(), expected, strict=True):
                error = ((one - two).norm() / two.norm()).item()
                if not error < tolerance:
                    raise ArithmeticError(f"{name} differs from {next(iter(forms))} by {error:.1e}")


def _time_parts(forms: Mapping[str, Form], timing: Timing) -> dict[str, Times]:
    """Time forward and backward of every form in turn."""
    return _time_graphs(forms, timing) if timing.device.type == "cuda" else _time_one_by_one(forms, timing)


def _time_graphs(forms: Mapping[str, Form], timing: Timing) -> dict[str, Times]:
    graphs: dict[str, Callable[[], object]] = {}
    for name, form in forms.items():
        graphs[f"{name}, forward"], graphs[f"{name}, both"] = form.forward, form.both
    times = interleaved(graphs, timing, captured=True)
    launched = interleaved({name: form.both for name, form in forms.items()}, timing)
    found = {}
    for name in forms:
        forward, both = times[f"{name}, forward"], times[f"{name}, both"]
        backward = [max(b - a, LEAST) for a, b in zip(forward, both, strict=True)]
        found[name] = {"forward": forward, "backward": backward, "both": both, LAUNCHED: launched[name]}
    return found


def _time_one_by_one(forms: Mapping[str, Form], timing: Timing) -> dict[str, Times]:
    steps: dict[str, Callable[[], object]] = {}
    outputs: dict[str, Tensor] = {}
    for name, form in forms.items():

        def forward(name: str = name, form: Form = form) -> None:
            outputs[name] = form.call(*form.inputs)

        def backward(name: str = name, form: Form = form) -> None:
            torch.autograd.grad(outputs.pop(name), form.inputs, form.upstream)

        steps[f"{name}, forward"], steps[f"{name}, backward"] = forward, backward
    times = interleaved(steps, timing)
    found = {}
    for name in forms:
        forwards, backwards = times[f"{name}, forward"], times[f"{name}, backward"]
        together = [a + b for a, b in zip(forwards, backwards, strict=True)]
        found[name] = {"forward": forwards, "backward": backwards, "both": together}
    return found
