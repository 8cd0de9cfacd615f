"""The loader: what it yields, and that it yields the same for the same (seed, epoch) in every way of running it."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, distributed

from skelcontrast.data import SkeletonBatch, SkeletonDataset, SkeletonLoader
from skelcontrast.data.loader import _seed


def clips(count: int = 11) -> SkeletonDataset:
    x = torch.arange(count, dtype=torch.float32).reshape(count, 1, 1, 1, 1).expand(count, 3, 4, 2, 1)
    return SkeletonDataset(x, [i % 3 for i in range(count)], names=[f"clip {i}" for i in range(count)])


def draws(batches: Iterable[SkeletonBatch]) -> list[tuple[Tensor, ...]]:
    """Return what each batch holds and what an augmentation would draw for it."""
    return [
        (b.x, b.labels, b.rows, torch.rand(b.x.shape[0], 4, generator=b.generator, device=b.x.device)) for b in batches
    ]


def same(one: list[tuple[Tensor, ...]], other: list[tuple[Tensor, ...]]) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)
    )


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 20), batch_size=st.integers(1, 20), shuffle=st.booleans(), drop_last=st.booleans(),
    seed=st.integers(0, 2**40),
)  # fmt: skip
def test_an_epoch_holds_every_sequence_at_most_once(
    count: int, batch_size: int, shuffle: bool, drop_last: bool, seed: int
) -> None:
    dataset = clips(count)
    if drop_last:
        batch_size = min(batch_size, count)
    loader = SkeletonLoader(dataset, batch_size, shuffle=shuffle, drop_last=drop_last, seed=seed)
    batches = list(loader)
    assert len(batches) == len(loader) == (count // batch_size if drop_last else -(-count // batch_size))
    seen = torch.cat([batch.rows for batch in batches])
    assert len(set(seen.tolist())) == len(seen) == (len(batches) * batch_size if drop_last else count)
    assert torch.equal(loader.order(0), seen)
    for batch in batches:
        assert torch.equal(batch.x, dataset.take(batch.rows))
        assert torch.equal(batch.labels, dataset.labels[batch.rows])
    if not shuffle:
        assert seen.tolist() == list(range(len(seen)))


def test_two_epochs_differ_in_order_and_in_draws() -> None:
    """The released code gave every epoch the same draws."""
    loader = SkeletonLoader(clips(), 3)
    first, second = draws(loader), draws(loader)
    assert not torch.equal(torch.cat([x[2] for x in first]), torch.cat([x[2] for x in second]))
    rows = torch.cat([x[3] for x in first + second])
    assert len({tuple(row) for row in rows.tolist()}) == len(rows), "no draw comes twice, in no step of either"


def test_without_shuffling_the_draws_still_differ() -> None:
    loader = SkeletonLoader(clips(), 3, shuffle=False)
    for one, other in zip(draws(loader), draws(loader), strict=True):
        assert torch.equal(one[0], other[0])
        assert not torch.equal(one[3], other[3])


def test_seed_and_epoch_decide_everything() -> None:
    loader = SkeletonLoader(clips(), 3, seed=5)
    epochs = [draws(loader) for _ in range(3)]
    again = SkeletonLoader(clips(), 3, seed=5)
    again.set_epoch(2)
    torch.manual_seed(123)  # the global generator has no say
    assert same(draws(again), epochs[2])
    again.set_epoch(0)
    assert same(draws(again), epochs[0])
    assert not same(draws(SkeletonLoader(clips(), 3, seed=6)), epochs[0])


def test_a_pass_is_an_epoch_even_if_left_early() -> None:
    loader = SkeletonLoader(clips(), 3)
    assert loader.epoch == 0
    first = draws(islice(loader, 1))
    assert loader.epoch == 1
    loader.set_epoch(0)
    assert same(draws(loader)[:1], first)
    one, other = iter(loader), iter(loader)
    assert loader.epoch == 3
    assert not torch.equal(next(other).rows, next(one).rows), "two passes at once are two epochs"


# A machine with one core warns of two workers, and Python 3.12 of forking beside threads.
@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:This process .* is multi-threaded")
def test_workers_change_nothing(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", clips().tensor().numpy())
    mapped = SkeletonDataset(np.load(tmp_path / "x.npy", mmap_mode="r"), clips().labels, names=clips().names)
    alone = SkeletonLoader(clips(), 3, seed=1, drop_last=False)
    expected = [draws(alone) for _ in range(2)]
    for workers, dataset in ((2, clips()), (2, mapped), (0, mapped)):
        loader = SkeletonLoader(dataset, 3, seed=1, drop_last=False, num_workers=workers)
        state = torch.get_rng_state()
        found = [draws(loader) for _ in range(2)]
        assert torch.equal(torch.get_rng_state(), state), "the global generator is not touched"
        assert all(same(one, other) for one, other in zip(found, expected, strict=True))


def test_no_number_is_drawn_from_the_global_generator() -> None:
    state = torch.get_rng_state()
    list(SkeletonLoader(clips(), 3))
    assert torch.equal(torch.get_rng_state(), state)


def test_seeds_are_far_apart() -> None:
    """Neighbouring numbers, and the order's stream and the first step's, give unrelated seeds."""
    seeds = {_seed(seed, epoch, 1, step) for seed in range(12) for epoch in range(12) for step in range(12)}
    seeds |= {_seed(seed, epoch, 0) for seed in range(12) for epoch in range(12)}
    assert len(seeds) == 12**3 + 12**2
    bits = np.array([[seed >> bit & 1 for bit in range(64)] for seed in seeds])
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.06, "every bit is a coin: 0.5 +- 5 standard deviations"


def test_device() -> None:
    assert SkeletonLoader(clips(), 3).device == torch.device("cpu")
    batch = next(iter(SkeletonLoader(clips(), 3, device="cpu")))
    assert batch.generator.device == batch.x.device == batch.labels.device == torch.device("cpu")


@settings(max_examples=30, deadline=None)
@given(
    count=st.integers(1, 30), world_size=st.integers(1, 5), batch_size=st.integers(1, 6), shuffle=st.booleans(),
    drop_last=st.booleans(),
)  # fmt: skip
@example(count=11, world_size=2, batch_size=3, shuffle=False, drop_last=False)  # neither divides the other
def test_processes_share_an_epoch(count: int, world_size: int, batch_size: int, shuffle: bool, drop_last: bool) -> None:
    dataset, share = clips(max(count, world_size)), max(count, world_size) // world_size
    batch_size = min(batch_size, share)
    options: dict[str, Any] = {"shuffle": shuffle, "drop_last": drop_last, "seed": 3}
    loaders = [
        SkeletonLoader(dataset, batch_size, rank=rank, world_size=world_size, **options) for rank in range(world_size)
    ]
    found = [draws(loader) for loader in loaders]
    assert {len(batches) for batches in found} == {len(loaders[0])}, "no process waits for another"
    seen = [row for batches in found for batch in batches for row in batch[2].tolist()]
    assert len(set(seen)) == len(seen) == world_size * (share - share % batch_size if drop_last else share)
    drawn = [tuple(row) for batches in found for batch in batches for row in batch[3].tolist()]
    assert len(set(drawn)) == len(drawn), "no two processes draw the same"
    if world_size == 1:
        assert same(found[0], draws(SkeletonLoader(dataset, batch_size, **options)))


def test_the_share_is_asked_of_torch_distributed(tmp_path: Path) -> None:
    assert (SkeletonLoader(clips(), 3).rank, SkeletonLoader(clips(), 3).world_size) == (0, 1)
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        loader = SkeletonLoader(clips(), 3)
    finally:
        distributed.destroy_process_group()
    assert (loader.rank, loader.world_size) == (0, 1)
    assert same(draws(loader), draws(SkeletonLoader(clips(), 3)))


SHARES = """
import sys
import torch
from torch import distributed
from skelcontrast.data import SkeletonDataset, SkeletonLoader

rank = int(sys.argv[2])
distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=rank, world_size=2)
dataset = SkeletonDataset(torch.zeros(11, 1, 1, 1, 1), [0] * 11, names=[str(i) for i in range(11)])
loader = SkeletonLoader(dataset.to("cpu"), 2)
mine = torch.tensor([[batch.rows.tolist() for batch in loader] for epoch in range(2)])
both = [torch.empty_like(mine) for _ in range(2)]
distributed.all_gather(both, mine)
if rank == 0:
    print([part.tolist() for part in both])
distributed.destroy_process_group()
"""


def test_two_processes_get_different_shares(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", SHARES, str(tmp_path / "meet")]
    other = subprocess.Popen([*command, "1"])
    first = subprocess.run([*command, "0"], check=True, capture_output=True, text=True, timeout=120)
    assert other.wait(timeout=60) == 0
    one, two = json.loads(first.stdout)
    whole = SkeletonLoader(clips(), 11)
    for mine, theirs in zip(one, two, strict=True):  # of each epoch
        order = torch.cat([batch.rows for batch in whole]).tolist()
        assert [row for batch in mine for row in batch] == order[0:10:2][:4]
        assert [row for batch in theirs for row in batch] == order[1:10:2][:4]


def test_a_resident_set_gives_the_same_batches() -> None:
    part = clips().subset([9, 2, 4, 0, 7, 1])
    assert same(draws(SkeletonLoader(part.to("cpu"), 2, seed=1)), draws(SkeletonLoader(part, 2, seed=1)))


@pytest.mark.gpu
def test_a_resident_epoch_never_waits_for_the_device(
    without_waiting: Callable[[], AbstractContextManager[None]],
) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    loader = SkeletonLoader(clips().to("cuda"), 3)
    draws(loader)
    with without_waiting():
        epoch = draws(loader)
    assert len(epoch) == 3


@pytest.mark.gpu
def test_batches_on_a_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    expected = draws(SkeletonLoader(clips(), 3))
    for loader in (
        SkeletonLoader(clips(), 3, device="cuda"),
        SkeletonLoader(clips().to("cuda"), 3),
        SkeletonLoader(clips(), 3, device="cuda", num_workers=1),
    ):
        found = draws(loader)
        assert all(tensor.is_cuda for x in found for tensor in (x[0], x[1], x[3]))
        assert same([(x[0].cpu(), x[1].cpu(), x[2]) for x in found], [x[:3] for x in expected])
        loader.set_epoch(0)
        assert same([x[3:] for x in draws(loader)], [x[3:] for x in found])


def test_repr() -> None:
    assert repr(SkeletonLoader(clips(), 3)) == (
        "SkeletonLoader(SkeletonDataset(11 sequences, C=3, T=4, V=2, M=1, 3 classes), batch_size=3, seed=0, "
        "shuffle=True, drop_last=True, num_workers=0, device='cpu')"
    )
    assert repr(SkeletonLoader(clips(), 3, rank=1, world_size=2)).endswith("device='cpu', rank=1 of 2)")


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"dataset": [1, 2]}, TypeError, "`dataset` must be a SkeletonDataset, got list"),
        ({"batch_size": 0}, ValueError, "`batch_size` must be at least 1, got 0"),
        ({"batch_size": 2.0}, TypeError, "`batch_size` must be an integer, got 2.0"),
        (
            {"batch_size": 12},
            ValueError,
            "`batch_size` must be at most the number of sequences, 11, with drop_last=True, got 12. No batch would be",
        ),
        ({"seed": -1}, ValueError, "`seed` must be at least 0, got -1"),
        ({"num_workers": -1}, ValueError, "`num_workers` must be at least 0, got -1"),
        (
            {"dataset": clips().to("meta"), "num_workers": 1},
            ValueError,
            "`num_workers` must be 0 for sequences on device 'meta', got 1. Worker processes read from the CPU only.",
        ),
        ({"rank": 0}, ValueError, "`world_size` must be given together with the other, got None"),
        ({"world_size": 2}, ValueError, "`rank` must be given together with the other, got None"),
        ({"rank": 2, "world_size": 2}, ValueError, "`rank` must lie in [0, 1], got 2"),
        (
            {"rank": 0, "world_size": 12},
            ValueError,
            "`world_size` must be at most the number of sequences, 11, got 12",
        ),
        (
            {"rank": 0, "world_size": 4},
            ValueError,
            "`batch_size` must be at most the number of sequences, 2, of each of 4 processes, with drop_last=True",
        ),
    ],
)
def test_wrong_options(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    given: dict[str, Any] = {"dataset": clips(), "batch_size": 3, **options}
    with pytest.raises(kind, match=re.escape(f"SkeletonLoader: {text}")):
        SkeletonLoader(given.pop("dataset"), given.pop("batch_size"), **given)
    with pytest.raises(ValueError, match=r"SkeletonLoader\.set_epoch: `epoch` must be at least 0, got -1"):
        SkeletonLoader(clips(), 3).set_epoch(-1)
    with pytest.raises(ValueError, match=r"SkeletonLoader\.order: `epoch` must be at least 0, got -1"):
        SkeletonLoader(clips(), 3).order(-1)
