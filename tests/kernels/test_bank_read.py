"""The Triton twin of the bank read: in Triton's interpreter without a GPU, on the device with one."""

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib.metadata import version

import pytest
import torch
from tests.reference.losses import unit_rows
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from skelcontrast.losses import aimclr_loss, bank_read, cross_stream, nearest_neighbors
from skelcontrast.losses.bank_read import Implementation, choose

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def draw(N: int, D: int, K: int, views: int, dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor, Tensor]:
    drawn = [unit_rows(N, D, seed, dtype=dtype).to(DEVICE) for seed in range(views)]
    return drawn, unit_rows(N, D, 8, dtype=dtype).to(DEVICE), unit_rows(K, D, 9, dtype=dtype).to(DEVICE)


def assert_like_dense(
    views: list[Tensor], positive: Tensor, bank: Tensor, *, temperature: float, k: int, tolerance: float = 1e-5
) -> None:
    """Compare with the dense twin in float64; where rows are equally near, any of them is right."""
    found = bank_read(views, positive, bank, temperature=temperature, k=k, implementation="triton")
    alone = nearest_neighbors(views, bank, k=k, implementation="triton").chunk(len(views), dim=1) if k else []
    wide = [view.double() for view in views]
    expected = bank_read(wide, positive.double(), bank.double(), temperature=temperature, k=k, implementation="dense")
    for index, (read, right) in enumerate(zip(found, expected, strict=True)):
        torch.testing.assert_close(read.log_partition.double(), right.log_partition, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(read.attended.double(), right.attended, rtol=tolerance, atol=tolerance)
        products = wide[index] @ bank.double().T
        best = products.gather(1, right.neighbors)
        scale = float(products.abs().max()) if products.numel() else 0.0
        for rows in (read.neighbors, *alone[index : index + 1]):
            assert rows.dtype == torch.int64
            assert all(len(set(one)) == k for one in rows.tolist())
            torch.testing.assert_close(products.gather(1, rows), best, rtol=1e-5, atol=1e-6 * scale)


# Odd widths, banks smaller than a tile, of several parts and with a part that is not full, more queries than a tile.
@pytest.mark.parametrize(
    ("N", "D", "K", "views", "k"),
    [(1, 24, 1, 1, 1), (3, 65, 7, 2, 7), (2, 24, 0, 1, 0), (2, 16, 300, 1, 3), (35, 8, 70, 1, 1), (1, 130, 520, 2, 8)],
)
def test_agrees_with_the_dense_twin(N: int, D: int, K: int, views: int, k: int) -> None:
    assert_like_dense(*draw(N, D, K, views), temperature=0.1, k=k)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_narrow_banks_are_read_as_they_are(dtype: torch.dtype) -> None:
    views, positive, bank = draw(2, 24, 130, 1)
    assert_like_dense(views, positive, bank.to(dtype), temperature=0.07, k=2)
    assert_like_dense([views[0].to(dtype)], positive.to(dtype), bank.to(dtype), temperature=0.07, k=2)


@pytest.mark.parametrize("temperature", [0.01, 1.0])
def test_equally_near_keys(temperature: float) -> None:
    same = torch.full((1, 16), 0.25, device=DEVICE)
    assert_like_dense([same, -same], same, same.expand(70, -1), temperature=temperature, k=5)
    assert_like_dense([same, 0 * same], same, torch.cat([-same, same]).repeat(70, 1), temperature=temperature, k=5)


@pytest.mark.parametrize("norm", [1e-20, 1e4])
def test_huge_and_tiny_norms(norm: float) -> None:
    views, positive, bank = draw(2, 16, 70, 1)
    assert_like_dense([norm * views[0]], positive, bank, temperature=0.01, k=2)


def test_parts_of_memory() -> None:
    views, positive, bank = draw(2, 16, 140, 1)
    wide = torch.zeros(140, 40, device=DEVICE)
    wide[:, 3:19] = bank
    assert_like_dense([views[0]], positive, wide[:, 3:19], temperature=0.1, k=2)
    assert_like_dense([views[0]], positive, wide[::2, 3:19], temperature=0.1, k=2)


@pytest.mark.parametrize("mine", [False, True])
def test_gradients_of_the_whole_loss(mine: bool) -> None:
    drawn, positive, bank = draw(3, 24, 130, 3)
    gradients = []
    for implementation in ("triton", "dense"):
        views = [view.clone().requires_grad_() for view in drawn]
        loss = aimclr_loss(
            views[0], views[1:], positive, bank, mine=mine, k=2, form="kl", implementation=implementation
        )
        loss.total.backward()
        gradients.append([loss.total.detach(), *(view.grad for view in views)])
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=1e-5)


def test_cross_stream_reads_its_banks_with_it() -> None:
    queries, positive, bank = draw(2, 16, 70, 2)
    streams = queries, [positive, -positive], [bank, bank.flip(0)]
    found, expected = (cross_stream(*streams, k=2, implementation=name) for name in ("triton", "dense"))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
@pytest.mark.parametrize(
    ("queries", "K", "D"),
    [(1, 1, 3), (64, 100, 128), (384, 32768, 128), (128, 32768, 128), (1536, 2**20, 65), (9, 7, 256)],
)
def test_every_key_is_in_one_part(
    capability: tuple[int, int], queries: int, K: int, D: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = importlib.import_module("skelcontrast.kernels.bank_read")
    monkeypatch.setattr(kernels, "capability", lambda device: capability)
    monkeypatch.setattr(kernels, "multiprocessors", lambda device: 132)
    with FakeTensorMode():
        tiles = kernels._lay_out(queries, K, D, torch.empty(K, D, device="cuda"))
    assert (tiles.parts - 1) * tiles.tiles * tiles.keys < K <= tiles.parts * tiles.tiles * tiles.keys
    assert D <= tiles.width < 2 * max(D, 16)
    assert tiles.parts * tiles.width <= 16384  # what the second kernel holds of a query
    assert -(-queries // tiles.rows) * tiles.parts <= max(2 * 132, -(-queries // tiles.rows))


def test_tiles_of_tf32_are_for_devices_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = importlib.import_module("skelcontrast.kernels.bank_read")
    monkeypatch.setattr(kernels, "tf32_in_products", lambda: True)
    monkeypatch.setattr(kernels, "multiprocessors", lambda device: 40)
    for capability, precision in (((7, 5), "tf32x3"), ((8, 6), "tf32")):
        monkeypatch.setattr(kernels, "capability", lambda device, has=capability: has)
        with FakeTensorMode():
            tiles = kernels._lay_out(384, 32768, 128, torch.empty(32768, 128, device="cuda"))
        assert tiles.precision == precision


COMPILE = """
import sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from skelcontrast.kernels import _bank_read as kernels

pointers = {"views", "positives", "peaks", "totals", "sums", "maxima", "log_partition", "attended"}
others = {"bank": "*bf16", "found": "*i32", "nearest": "*i64", "scale": "fp32"}
shared = dict(PARTS=22, SLOTS=8, ATTEND=True, KEYS=64, WIDTH=128)
read, finish = dict(shared, ROWS=32, PRECISION="tf32x3"), dict(shared, PARTS_UP=32)
for kernel, constants, capability, warps in (
    (kernels.read_bank, read, 80, 8), (kernels.read_bank, read, 90, 8), (kernels.finish, finish, 90, 4)
):
    types = {
        name: "constexpr" if name in constants else "*fp32" if name in pointers else others.get(name, "i32")
        for name in kernel.arg_names
    }
    source = ASTSource(kernel, types, constants)
    options = {"num_warps": warps, "num_stages": 2, "enable_fp_fusion": True}
    compiled = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    print(kernel.__name__, capability, compiled.metadata.shared)
"""


@pytest.mark.slow
def test_compiles_for_devices_that_are_not_here() -> None:
    """Down to machine code; the shared memory is what the smallest of the current devices have."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    if tuple(int(part) for part in version("triton").split(".")[:2]) < (3, 2):
        pytest.skip("Triton's compiler had another interface before 3.2")
    run = subprocess.run([sys.executable, "-c", COMPILE], check=False, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    lines = [line.split() for line in run.stdout.splitlines()]
    assert [line[:2] for line in lines] == [["read_bank", "80"], ["read_bank", "90"], ["finish", "90"]]
    assert all(int(shared) <= 99 * 1024 for _, _, shared in lines)


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@needs_cuda
@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["highest", "high"])
@pytest.mark.parametrize(
    ("N", "D", "K", "k"), [(127, 24, 4097, 8), (128, 128, 32768, 1), (128, 65, 32768, 8), (3, 256, 100_000, 3)]
)
def test_on_a_gpu(N: int, D: int, K: int, k: int, precision: str) -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        views, positive, bank = draw(N, D, K, 3)
        found = bank_read(views, positive, bank, k=k, implementation="triton")
        assert choose("bank_read", "auto", bank, queries=3 * N, dtype=bank.dtype, k=k) == "triton"
        wide = [view.double() for view in views]
        expected = bank_read(wide, positive.double(), bank.double(), k=k, implementation="dense")
        tolerance = 1e-5 if precision == "highest" else 2e-2
        for read, right in zip(found, expected, strict=True):
            torch.testing.assert_close(read.log_partition.double(), right.log_partition, rtol=tolerance, atol=tolerance)
            torch.testing.assert_close(read.attended.double(), right.attended, rtol=tolerance, atol=tolerance)
    finally:
        torch.set_float32_matmul_precision(before)


@needs_cuda
@pytest.mark.gpu
@pytest.mark.parametrize("implementation", ["triton", "chunked"])
def test_on_a_gpu_it_never_waits_and_can_be_captured(
    implementation: Implementation, without_waiting: Callable[[], AbstractContextManager[None]]
) -> None:
    drawn, positive, bank = draw(128, 128, 8192, 3)
    views = [view.requires_grad_() for view in drawn]

    def step() -> Tensor:
        loss = aimclr_loss(views[0], views[1:], positive, bank, mine=True, implementation=implementation).total
        for view, gradient in zip(views, torch.autograd.grad(loss, views), strict=True):
            view.grad = gradient
        return loss.detach()

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    with without_waiting():
        expected = step()
    gradients = [view.grad.clone() for view in views if view.grad is not None]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    for view in views:
        assert view.grad is not None
    graph.replay()
    torch.testing.assert_close(found, expected)
    for view, gradient in zip(views, gradients, strict=True):
        torch.testing.assert_close(view.grad, gradient)
