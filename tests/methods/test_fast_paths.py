"""Training with every fast path at once against training with every plain form; a step against the released one."""

import importlib.util
import statistics
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import pytest
import torch
from tests.reference.released_step import ReleasedStep, Views
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from skelcontrast import augment
from skelcontrast.methods import AimCLR, AimCLRLoss, CrosSCLR, SkeletonCLR
from skelcontrast.nn import STGCN, GraphConv, ProjectionHead, TemporalConv, _batch_norm
from skelcontrast.skeleton import NTU_RGBD_25

SAMPLES = 8
Draw: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]
Update: TypeAlias = Callable[[AimCLR], None]


class Forms(NamedTuple):
    """How everything in a training step is computed."""

    set_up: Callable[[AimCLR], None]
    normal: Draw
    extreme: Draw
    foreach: bool
    momentum_update: Update


def fast_layers(model: AimCLR) -> None:
    """Bank in chunks; a dense, a blocked and an automatic graph convolution; frames in the frequency domain."""
    model.implementation = "chunked"
    for module in model.moco.modules():
        if isinstance(module, GraphConv):
            module.implementation = "blocked" if module.in_channels > 3 else "auto"
        if isinstance(module, TemporalConv) and module.stride == (1, 1):
            module.implementation = "spectral"


def kernel_layers(model: AimCLR) -> None:
    """All kernels, as on a GPU; batch norm takes its own there, and with `on_kernels` in the interpreter too."""
    model.implementation = "triton"
    for module in model.moco.modules():
        if isinstance(module, GraphConv | TemporalConv):
            module.implementation = "triton"


def plain_layers(model: AimCLR) -> None:
    """All similarities, the released order of contraction, convolutions as torch has them."""
    model.implementation = "dense"
    for module in model.moco.modules():
        if isinstance(module, GraphConv):
            module.order, module.implementation = "project-first", "torch"
        if isinstance(module, TemporalConv):
            module.implementation = "direct"


def one_by_one(recipe: augment.Compose) -> Draw:
    """Apply the transforms of a recipe one after another, from the same draws."""

    def draw(x: Tensor, generator: torch.Generator) -> Tensor:
        params = recipe.sample(x, generator)
        for transform, drawn in zip(recipe.transforms, params, strict=True):
            x = transform.apply(x, drawn)
        return x

    return draw


@torch.no_grad()
def update_one_by_one(model: AimCLR) -> None:
    """Eq. 2, parameter by parameter."""
    moco = model.moco
    for follower, source in ((moco.key_encoder, moco.query_encoder), (moco.key_head, moco.query_head)):
        for key, query in zip(follower.module.parameters(), source.parameters(), strict=True):
            key.copy_(follower.momentum * key + (1 - follower.momentum) * query)


NORMAL, EXTREME = augment.normal(), augment.extreme(NTU_RGBD_25)
FAST = Forms(fast_layers, NORMAL, EXTREME, True, AimCLR.momentum_update)
KERNELS = Forms(kernel_layers, NORMAL, EXTREME, True, AimCLR.momentum_update)
PLAIN = Forms(plain_layers, one_by_one(NORMAL), one_by_one(EXTREME), False, update_one_by_one)


def build(**options: object) -> AimCLR:
    torch.manual_seed(0)
    encoder = STGCN(NTU_RGBD_25, channels=(4, 8), strides=(1, 1), dropout=0.0, bodies="all")
    settings = {"queue_size": 64, "momentum": 0.99, "temperature": 0.2, **options}
    return AimCLR(encoder, ProjectionHead(8, 8), **settings)  # type: ignore[arg-type]  # of several kinds


def draw_clips() -> Tensor:
    """Draw 64 clips that move smoothly, half of them with a second body."""
    generator = torch.Generator().manual_seed(0)
    poses = torch.randn(64, 3, 1, 25, 2, generator=generator)
    clips = poses + 0.2 * torch.randn(64, 3, 8, 25, 2, generator=generator).cumsum(2)
    clips[::2, ..., 1] = 0
    return clips


def finish(model: AimCLR, optimizer: torch.optim.Optimizer, views: Views, *, mine: bool) -> AimCLRLoss:
    """Do what follows the momentum update in a training step."""
    embedded = model.embed(*views)
    loss = model.loss(embedded, mine=mine)
    optimizer.zero_grad()
    loss.total.backward()
    optimizer.step()
    model.enqueue(embedded.key)
    return loss


def train(
    forms: Forms, *, steps: int, mine_from: int, device: str = "cpu", size: tuple[int, int, int] = (SAMPLES, 8, 2)
) -> list[float]:
    """Return the total loss of every step, in the second stage from `mine_from` on; clips, frames and bodies a step."""
    samples, frames, bodies = size
    model, clips, losses = build().to(device), draw_clips()[:, :, :frames, :, :bodies], []
    forms.set_up(model)
    optimizer = torch.optim.SGD(
        model.query_parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4, foreach=forms.foreach
    )
    generator = torch.Generator().manual_seed(0)
    for step in range(steps):
        x = clips[torch.randperm(len(clips), generator=generator)[:samples]]
        draws = (forms.normal, forms.normal, forms.extreme)
        views = Views(*(draw(x, generator).to(device) for draw in draws))
        forms.momentum_update(model)
        losses.append(finish(model, optimizer, views, mine=step >= mine_from).total.detach())
    return torch.stack(losses).tolist()


def standard_error(one: Sequence[float], two: Sequence[float]) -> float:
    """Of the difference of two means, each step taken as a draw of its own."""
    return float(((statistics.variance(one) + statistics.variance(two)) / len(one)) ** 0.5)


class _Watched(TorchDispatchMode):
    """Remember which operations were called, and refuse what makes the host wait for a device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # its base is untyped
        self.called: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero"}
        self.called.append(name)
        return func(*args, **(kwargs or {}))


def test_a_step_asks_the_device_for_nothing_and_updates_momentum_by_foreach() -> None:
    model, x = build(), draw_clips()[:SAMPLES]
    model.implementation = "dense"  # the chunked form asks, but on a CPU alone
    optimizer = torch.optim.SGD(model.query_parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    generator = torch.Generator().manual_seed(0)
    views = Views(NORMAL(x, generator), NORMAL(x, generator), EXTREME(x, generator))  # tested in their own room
    with _Watched() as watched:
        model.momentum_update()
        assert watched.called.count("_foreach_lerp_") == 2  # encoder and head
        for mine in (False, True):
            finish(model, optimizer, views, mine=mine)


@pytest.mark.slow
def test_training_is_the_same_with_every_fast_path_and_without_any() -> None:
    fast, plain = (train(forms, steps=200, mine_from=100) for forms in (FAST, PLAIN))
    assert fast != plain  # bit for bit it would be one form twice
    torch.testing.assert_close(torch.tensor(fast[:20]), torch.tensor(plain[:20]), rtol=1e-4, atol=0)
    # From here on rounding may grow, as in any training; then the two are draws from one distribution. Plain runs that
    # start 1e-7 apart end with means that differ by about one of these standard errors.
    difference = abs(statistics.fmean(fast[-50:]) - statistics.fmean(plain[-50:]))
    assert difference <= 3 * standard_error(fast[-50:], plain[-50:])


def test_the_second_stage_is_the_same_from_its_first_step() -> None:
    fast, plain = (train(forms, steps=20, mine_from=0) for forms in (FAST, PLAIN))
    torch.testing.assert_close(torch.tensor(fast), torch.tensor(plain), rtol=1e-4, atol=0)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="needs Triton")
@pytest.mark.skipif(torch.cuda.is_available(), reason="kernels are interpreted where there is no GPU alone")
def test_training_is_the_same_with_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = train(PLAIN, steps=2, mine_from=1, size=(2, 3, 1))
    monkeypatch.setattr(_batch_norm, "_is_on_gpu", lambda _: True)
    kernels = train(KERNELS, steps=2, mine_from=1, size=(2, 3, 1))
    assert kernels != plain
    torch.testing.assert_close(torch.tensor(kernels), torch.tensor(plain), rtol=1e-4, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_a_gpu_is_the_same_with_every_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = train(KERNELS, steps=200, mine_from=100, device="cuda")
    monkeypatch.setattr(_batch_norm, "_is_on_gpu", lambda _: False)
    plain = train(PLAIN, steps=200, mine_from=100, device="cuda")
    torch.testing.assert_close(torch.tensor(kernels[:20]), torch.tensor(plain[:20]), rtol=1e-4, atol=0)
    difference = abs(statistics.fmean(kernels[-50:]) - statistics.fmean(plain[-50:]))
    assert difference <= 3 * standard_error(kernels[-50:], plain[-50:])


def test_a_step_agrees_with_the_operations_of_the_released_code() -> None:
    ours = build(preset="official", key_init="copy").double()
    released = ReleasedStep(ours, lr=0.02)
    optimizer = torch.optim.SGD(ours.query_parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    clips = draw_clips().double()
    for start in range(0, 24, SAMPLES):
        x = clips[start : start + SAMPLES]
        views = Views(x, x * 1.1, x.flip(2) * 2)
        ours.momentum_update()
        loss = finish(ours, optimizer, views, mine=True).total
        torch.testing.assert_close(loss.item(), released(views), rtol=1e-10, atol=0)
    torch.testing.assert_close(ours.bank.keys.T, released.queue)
    assert int(ours.bank.pointer) == released.pointer
    torch.testing.assert_close(dict(ours.moco.named_parameters()), dict(released.model.moco.named_parameters()))


def test_methods_hand_their_implementation_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)

    def build(method: Callable[..., Any], **options: Any) -> Any:
        return method(torch.nn.Flatten(), torch.nn.Linear(6, 4), queue_size=8, implementation="triton", **options)

    alone, whole = build(SkeletonCLR), build(AimCLR, drop=None)
    across = CrosSCLR({"joint": alone, "bone": build(SkeletonCLR)})
    x = torch.randn(5, 6)
    streams = {"joint": x, "bone": x}
    calls: dict[str, Callable[[], object]] = {
        "info_nce": lambda: alone.loss(alone.embed(x, x)),
        "aimclr_loss": lambda: whole.loss(whole.embed(x, x, x)),
        "d3m": lambda: whole.divergence(whole.embed(x, x, x)),
        "cross_stream": lambda: across.loss(across.embed(streams, streams), cross=True),
    }
    for owner, call in calls.items():
        with pytest.raises(ValueError, match=rf"^{owner}: `implementation` must not be 'triton' for tensors on cpu"):
            call()
