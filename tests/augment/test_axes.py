import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from skelcontrast.augment import AxisMaps
from skelcontrast.augment import _rows as room


def random_maps(kinds: frozenset[str], shape: tuple[int, ...], generator: torch.Generator) -> AxisMaps:
    N, C, T, V, _ = shape

    def numbers(*size: int) -> torch.Tensor:
        return torch.randn(size, dtype=torch.float64, generator=generator)

    def index(size: int) -> torch.Tensor:
        return torch.randint(size, (N, size), generator=generator)

    diagonal = numbers(N, C) if "diagonal" in kinds else None
    near = "near" in kinds and "mix" not in kinds
    return AxisMaps(
        channel=numbers(N, C, C) if "channel" in kinds else diagonal,
        joint=index(V) if "joint" in kinds else None,
        frame=index(T) if "frame" in kinds else None,
        mix=numbers(N, T, T) if "mix" in kinds else numbers(N, T, 3) if near else None,
        source=torch.randint(T, (N, T, 3), generator=generator) if near else None,
    )


def applied(x: torch.Tensor, maps: AxisMaps) -> torch.Tensor:
    """Do the four maps as their definitions say, sample by sample."""
    y = []
    for n, sample in enumerate(x):
        if maps.joint is not None:
            sample = sample[:, :, maps.joint[n]]
        if maps.frame is not None:
            sample = sample[:, maps.frame[n]]
        if maps.mix is not None and maps.source is not None:
            sample = torch.einsum("tk,ctkvm->ctvm", maps.mix[n], sample[:, maps.source[n]])
        elif maps.mix is not None:
            sample = torch.einsum("ts,csvm->ctvm", maps.mix[n], sample)
        if maps.channel is not None:
            matrix = maps.channel[n] if maps.channel.dim() == 3 else maps.channel[n].diag()
            sample = torch.einsum("ck,ktvm->ctvm", matrix, sample)
        y.append(sample)
    return torch.stack(y)


kinds = st.frozensets(st.sampled_from(["channel", "diagonal", "joint", "frame", "mix", "near"]))
shapes = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 6), st.integers(1, 5), st.integers(1, 3))


@settings(deadline=None, max_examples=80)
@given(kinds, shapes, st.integers(0, 2**20))
def test_maps_are_what_they_are_defined_to_be(chosen: frozenset[str], shape: tuple[int, ...], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    maps = random_maps(chosen, shape, generator)
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(maps.apply(x), applied(x, maps))
    # What runs away from a CPU computes the same, and runs here too.
    torch.testing.assert_close(maps._by_products(x), applied(x, maps))


@settings(deadline=None, max_examples=120)
@given(kinds, kinds, kinds, shapes, st.integers(0, 2**20))
def test_merged_maps_do_what_the_maps_do_in_turn(
    first: frozenset[str], second: frozenset[str], third: frozenset[str], shape: tuple[int, ...], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b, c = (random_maps(chosen, shape, generator) for chosen in (first, second, third))
    x = torch.randn(shape, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(a.then(b).then(c).apply(x), c.apply(b.apply(a.apply(x))))


def test_indices_alone_stay_indices() -> None:
    generator = torch.Generator().manual_seed(0)
    a = random_maps(frozenset({"frame", "joint"}), (2, 3, 4, 5, 1), generator)
    b = random_maps(frozenset({"frame", "joint"}), (2, 3, 4, 5, 1), generator)
    merged = a.then(b)
    assert merged.mix is None
    assert merged.channel is None
    x = torch.randn(2, 3, 4, 5, 1)
    torch.testing.assert_close(merged.apply(x), b.apply(a.apply(x)), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("M", [1, 2, 3, 4])
def test_joints_move_bit_by_bit_in_every_dtype(dtype: torch.dtype, M: int) -> None:
    maps = random_maps(frozenset({"frame", "joint"}), (3, 2, 4, 5, M), torch.Generator().manual_seed(0))
    x = torch.randn(3, 2, 4, 5, M).to(dtype)
    x[0, 0, 0, 0, 0] = float("nan")
    torch.testing.assert_close(maps.apply(x), applied(x, maps), rtol=0, atol=0, equal_nan=True)


def test_joints_move_where_memory_does_not_start_on_a_whole_word() -> None:
    maps = random_maps(frozenset({"joint"}), (2, 3, 4, 5, 2), torch.Generator().manual_seed(0))
    x = torch.randn(2 * 3 * 4 * 5 * 2 + 1)[1:].view(2, 3, 4, 5, 2)
    torch.testing.assert_close(maps.apply(x), applied(x, maps), rtol=0, atol=0)


def test_indices_beyond_int32_are_int64(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = random_maps(frozenset({"channel", "frame", "near"}), (2, 3, 4, 5, 1), torch.Generator().manual_seed(0))
    x = torch.randn(2, 3, 4, 5, 1, dtype=torch.float64)
    narrow = maps.apply(x)
    monkeypatch.setattr(room, "MANY", 1)
    assert torch.equal(maps.apply(x), narrow)


@pytest.mark.parametrize("chosen", ["channel", "diagonal", "joint", "frame", "mix", "near"])
def test_gradient(chosen: str) -> None:
    maps = random_maps(frozenset({chosen, "frame"}), (2, 2, 3, 4, 2), torch.Generator().manual_seed(0))
    x = torch.randn(2, 2, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(maps.apply, (x,))
