"""Which form is taken where, also for devices that are not here."""

import re

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from skelcontrast import _cuda
from skelcontrast.nn import _graph_conv_choice as choice
from skelcontrast.nn import graph_conv


def shapes(
    fan_in: int, fan_out: int, *, partitions: int = 3, joints: int = 25, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Return x and weight of a layer, without memory, on any device."""
    with FakeTensorMode():
        x = torch.empty(2, fan_in, 13, joints, device=device)
        return x, torch.empty(partitions, fan_out, fan_in, device=device)


@pytest.mark.parametrize(
    ("fan_in", "fan_out", "partitions", "joints", "expected"),
    [
        (3, 16, 3, 25, ("dense", "torch")),
        (3, 64, 3, 25, ("dense", "torch")),
        (16, 16, 3, 25, ("auto", "blocked")),
        (3, 64, 1, 25, ("auto", "blocked")),
        (64, 17, 3, 25, ("auto", "blocked")),
        (64, 16, 3, 25, ("project-first", "torch")),
    ],
)
def test_on_a_cpu(
    fan_in: int,
    fan_out: int,
    partitions: int,
    joints: int,
    expected: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "TILES_IN_CPU", False)
    x, weight = shapes(fan_in, fan_out, partitions=partitions, joints=joints)
    assert choice.choose(x, weight, "auto", "auto") == expected
    wide = "aggregate-first" if fan_out > fan_in else "project-first"
    assert choice.choose(x, weight, "auto", "torch") == (wide, "torch")
    assert choice.choose(x.bfloat16(), weight, "auto", "auto") == (wide, "torch")
    with torch.autocast("cpu", torch.bfloat16):
        assert choice.choose(x, weight, "auto", "auto") == (wide, "torch")
    assert choice.choose(x, weight, "dense", "auto") == ("dense", "torch")


@pytest.mark.parametrize(("frames", "order"), [(2134, "dense"), (2133, "aggregate-first")])
def test_on_a_cpu_that_multiplies_tiles(frames: int, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "TILES_IN_CPU", True)
    with FakeTensorMode():
        x, weight = torch.empty(1, 32, frames, 25), torch.empty(3, 64, 32)
    with torch.autocast("cpu", torch.bfloat16):
        assert choice.choose(x, weight, "auto", "auto") == (order, "torch")
    with torch.autocast("cpu", torch.float16):
        assert choice.choose(x, weight, "auto", "auto") == ("aggregate-first", "torch")
    assert choice.choose(x.bfloat16(), weight, "auto", "auto") == (order, "torch")
    assert choice.choose(x, weight, "auto", "auto") == ("auto", "blocked")


@pytest.mark.parametrize(
    ("capability", "dtype", "options", "expected"),
    [
        ((9, 0), torch.float32, {}, "triton"),
        ((8, 9), torch.float32, {}, "torch"),
        ((8, 9), torch.bfloat16, {}, "triton"),
        ((7, 5), torch.bfloat16, {}, "torch"),
        ((9, 0), torch.float64, {}, "torch"),
        ((9, 0), torch.float32, {"joints": 33}, "torch"),
        ((9, 0), torch.float32, {"partitions": 5}, "torch"),
    ],
)
def test_on_cuda(
    capability: tuple[int, int],
    dtype: torch.dtype,
    options: dict[str, int],
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(choice, "capability", lambda device: capability)
    monkeypatch.setattr(choice, "HAS_TRITON", True)
    x, weight = shapes(16, 16, device="cuda", **options)
    assert choice.choose(x.to(dtype), weight.to(dtype), "auto", "auto")[1] == expected
    monkeypatch.setattr(choice, "HAS_TRITON", False)
    assert choice.choose(x.to(dtype), weight.to(dtype), "auto", "auto")[1] == "torch"


@pytest.mark.parametrize(
    ("fan_in", "fan_out", "joints", "dtype", "expected"),
    [
        (16, 16, 25, torch.float32, "dense"),
        (16, 16, 25, torch.float64, "dense"),
        (16, 16, 26, torch.float32, "aggregate-first"),
        (16, 32, 25, torch.float32, "aggregate-first"),
        (32, 16, 25, torch.float32, "project-first"),
        (64, 256, 25, torch.bfloat16, "dense"),
        (64, 64, 33, torch.bfloat16, "dense"),
        (64, 256, 26, torch.bfloat16, "aggregate-first"),
        (64, 64, 133, torch.bfloat16, "project-first"),
    ],
)
def test_plain_orders_on_cuda(fan_in: int, fan_out: int, joints: int, dtype: torch.dtype, expected: str) -> None:
    x, weight = (value.to(dtype) for value in shapes(fan_in, fan_out, joints=joints, device="cuda"))
    assert choice.choose(x, weight, "auto", "torch") == (expected, "torch")


def test_triton_is_refused_where_it_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = (torch.zeros(2, 3, 5, 4), torch.zeros(2, 6, 3), None, torch.zeros(2, 4, 4))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    message = "graph_conv: `implementation` must not be 'triton' for tensors on cpu, got 'triton'. Pass 'auto'."
    with pytest.raises(ValueError, match=re.escape(message)):
        graph_conv(*arguments, implementation="triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(ValueError, match="must not be 'triton' for float64, got"):
        graph_conv(arguments[0].double(), *arguments[1:], implementation="triton")
    many = (torch.zeros(2, 3, 5, 65), arguments[1], None, torch.zeros(2, 65, 65))
    with pytest.raises(ValueError, match="for more than 4 partitions or 32 joints, here 2 and 65, got 'triton'"):
        graph_conv(*many, implementation="triton")
    far = torch.empty_strided((1, 3, 1, 4), (1, 2**30 + 8, 4, 1), device="meta")  # as a view of something larger
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    weight, graph = arguments[1].to("meta"), arguments[3].to("meta")
    with pytest.raises(ValueError, match=re.escape("for samples whose numbers lie 2^31 places apart or more, got")):
        graph_conv(far, weight, None, graph, implementation="triton")
    with monkeypatch.context() as traced:
        traced.setattr(torch._C, "_get_tracing_state", object)
        with pytest.raises(ValueError, match=re.escape("under torch.jit.trace, which does not see what kernels write")):
            graph_conv(*arguments, implementation="triton")
    monkeypatch.setattr(torch.version, "hip", "6.0")
    with pytest.raises(ValueError, match="for AMD devices, which the kernels were not written for, got 'triton'"):
        graph_conv(*arguments, implementation="triton")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(_cuda, "HAS_TRITON", False)
    message = "graph_conv: `implementation='triton'` needs Triton. Run `pip install triton`, or pass 'auto'."
    with pytest.raises(ImportError, match=re.escape(message)):
        graph_conv(*arguments, implementation="triton")
