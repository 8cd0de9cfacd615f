"""What the benchmarks of single layers share: forms of one layer, timed in turn, beside a baseline of equal numbers."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.measure import Clock, Spread, interleaved, peak_memory, show_bytes, speedup

PARTS = ("forward", "backward", "both")


class Form(NamedTuple):
    """A way to compute a layer; its inputs, and what comes back, in the memory format that it has in the encoder."""

    call: Callable[..., Tensor]
    inputs: list[Tensor]
    upstream: Tensor

    @classmethod
    def of(cls, call: Callable[..., Tensor], values: Sequence[Tensor], memory_format: torch.memory_format) -> "Form":
        """Copy the inputs, of which the first are features."""
        x, *others = (value.detach().clone() for value in values)
        x = x.contiguous(memory_format=memory_format)
        inputs = [value.requires_grad_() for value in (x, *others)]
        out = call(*inputs)
        upstream = torch.randn(out.shape, generator=torch.Generator().manual_seed(0)).to(out)
        return cls(call, inputs, upstream.contiguous(memory_format=memory_format))

    def both(self) -> tuple[Tensor, ...]:
        """Go forward and backward; return values and gradients."""
        out = self.call(*self.inputs)
        return (out.detach(), *torch.autograd.grad(out, self.inputs, self.upstream))


class Timing(NamedTuple):
    """How to time."""

    repeats: int
    device: torch.device
    clock: Clock


def measure_forms(label: str, count: int, forms: Mapping[str, Form], timing: Timing) -> list[dict[str, Any]]:
    """Check that all forms give the first one's numbers, then print and return times, ratios to it and memory."""
    check_that_numbers_agree(forms)
    baseline, times, found = next(iter(forms)), _time_parts(forms, timing), []
    for name, parts in times.items():
        seconds, ratios = (
            Spread.of(parts["both"]),
            {part: speedup(times[baseline][part], parts[part]) for part in PARTS},
        )
        held = peak_memory(forms[name].both, timing.device)
        title = f"{label:20}{count:>6}" if name == baseline else " " * 26
        shown = "".join(f"{ratios[part].median:>18.2f} x" for part in PARTS)
        print(f"{title}  {name:24}{seconds.show(1e3):>26}{shown}{show_bytes(held):>12}", flush=True)
        entry = {"layer": label, "count": count, "form": name, "bytes": held}
        entry["seconds"] = {part: Spread.of(parts[part])._asdict() for part in PARTS}
        entry["times_faster"] = {part: ratio._asdict() for part, ratio in ratios.items()}
        found.append(entry)
    return found


def print_head() -> None:
    """Print the names of the columns of `measure_forms`."""
    head = "".join(f"{part:>20}" for part in PARTS)
    print(f"\n{'layer':20}{'times':>6}  {'form':24}{'ms, both (quartiles)':>26}{head}{'memory':>12}")


def geometric_mean(found: Sequence[Mapping[str, Any]], form: str, part: str) -> float:
    """Average a form's ratios, each as often as its layer occurs."""
    mine = [entry for entry in found if entry["form"] == form]
    total = sum(entry["count"] * math.log(entry["times_faster"][part]["median"]) for entry in mine)
    return math.exp(total / sum(entry["count"] for entry in mine))


def check_that_numbers_agree(forms: Mapping[str, Form]) -> None:
    """Stop where a form's values or gradients are others than the first form's."""
    expected = next(iter(forms.values())).both()
    for form in forms.values():
        for one, two in zip(form.both(), expected, strict=True):
            error = ((one - two).norm() / two.norm()).item()
            if not error < 1e-4:
                raise ArithmeticError(f"two forms of one layer differ by {error:.1e}")


def copy_rate(timing: Timing) -> float:
    """Return the bytes per second, read and written, of a copy that no cache holds."""
    source = torch.randn(2**26, device=timing.device)
    target = torch.empty_like(source)
    copies = {"copy": lambda: target.copy_(source)}
    times = interleaved(copies, repeats=9, device=timing.device, clock=timing.clock)["copy"]
    return 2 * source.nbytes / Spread.of(times).median


def _time_parts(forms: Mapping[str, Form], timing: Timing) -> dict[str, dict[str, list[float]]]:
    """Time forward and backward of every form in turn; seconds."""
    steps: dict[str, Callable[[], object]] = {}
    outputs: dict[str, Tensor] = {}
    for name, form in forms.items():

        def forward(name: str = name, form: Form = form) -> None:
            outputs[name] = form.call(*form.inputs)

        def backward(name: str = name, form: Form = form) -> None:
            torch.autograd.grad(outputs.pop(name), form.inputs, form.upstream)

        steps[f"{name}, forward"], steps[f"{name}, backward"] = forward, backward
    times = interleaved(steps, repeats=timing.repeats, device=timing.device, clock=timing.clock)
    found = {}
    for name in forms:
        forwards, backwards = times[f"{name}, forward"], times[f"{name}, backward"]
        together = [a + b for a, b in zip(forwards, backwards, strict=True)]
        found[name] = {"forward": forwards, "backward": backwards, "both": together}
    return found
