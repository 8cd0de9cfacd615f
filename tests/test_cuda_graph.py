"""A captured step computes what the plain one does; elsewhere than on CUDA it says so."""

import pytest
import torch
from torch import Tensor

from skelcontrast import augment, cuda_graph
from skelcontrast.cuda_graph import CapturedStep
from skelcontrast.methods import AimCLR
from skelcontrast.nn import STGCN, ProjectionHead
from skelcontrast.skeleton import NTU_RGBD_25


def train(
    *, capture: bool, steps: int, dropout: float = 0.5, compiled: bool = False, in_order: bool = False
) -> tuple[list[float], dict[str, Tensor]]:
    """Return the loss of every step and the model's state, with a rate that changes on the way."""
    torch.manual_seed(0)
    encoder = STGCN(NTU_RGBD_25, channels=(8, 16), strides=(1, 2), dropout=dropout)
    model = AimCLR(encoder, ProjectionHead(16, 8), queue_size=64, momentum=0.9).to("cuda")
    optimizer = torch.optim.SGD(model.query_parameters(), lr=0.05, momentum=0.9, weight_decay=1e-4)
    normal, extreme = augment.normal(), augment.extreme(NTU_RGBD_25)
    views = augment.Views(normal, normal, extreme)

    apply = torch.compile(views.apply, fullgraph=True, dynamic=False) if compiled else views.apply
    if compiled:
        model.compile(fullgraph=True, dynamic=False)

    def step(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = views.sample(x, generator)
        model.momentum_update()
        embedded = model.embed(*apply(x, drawn))
        loss = model.loss(embedded, mine=True).total
        loss.backward()
        model.enqueue(embedded.key)
        return {"total": loss.detach()}

    clips = torch.randn(steps, 8, 3, 16, 25, 2, generator=torch.Generator().manual_seed(1)).to("cuda")
    take = CapturedStep(step, clips[0], model, in_order=in_order) if capture else step
    torch.manual_seed(2)  # dropout's
    losses = []
    for number, x in enumerate(clips):
        optimizer.param_groups[0]["lr"] = 0.05 / (1 + number // 5)
        optimizer.zero_grad(set_to_none=True)
        losses.append(take(x, torch.Generator("cuda").manual_seed(number))["total"])
        optimizer.step()
    return torch.stack(losses).tolist(), model.state_dict()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_and_plain_steps_agree() -> None:
    (plain, state), (captured, state_captured) = (train(capture=capture, steps=20) for capture in (False, True))
    assert captured == pytest.approx(plain, rel=1e-3)
    assert len(set(captured)) == 20, "a step was repeated"
    for name, value in state.items():
        torch.testing.assert_close(state_captured[name], value, rtol=1e-2, atol=1e-3, msg=name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_side_by_side_and_in_order_are_the_same_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    losses, state = train(capture=True, steps=20)
    in_order, state_in_order = train(capture=True, steps=20, in_order=True)
    assert losses == in_order
    for name, value in state.items():
        assert torch.equal(value, state_in_order[name]), name


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_passes_run_on_streams_of_their_own_while_a_step_is_recorded() -> None:
    linear, x, streams = torch.nn.Linear(3, 1).cuda(), torch.ones(2, 3, device="cuda"), list[int]()

    def call(x: Tensor) -> Tensor:
        streams.append(torch.cuda.current_stream().cuda_stream)
        out: Tensor = linear(x)
        return out

    def step(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        torch.stack(cuda_graph.side_by_side([call, call], [x, 2 * x])).sum().backward()
        return {"gradient": linear.weight.grad}  # type: ignore[dict-item]  # it is there by now

    step(x, torch.Generator("cuda"))
    assert torch.equal(linear.weight.grad, torch.full((1, 3), 6.0, device="cuda"))  # type: ignore[arg-type]
    linear.weight.grad = None
    take = CapturedStep(step, x, linear, warmup=2)
    assert streams[0] == streams[1]
    assert streams[2:4] == streams[4:6] == streams[6:8]
    assert streams[2] != streams[3]
    for factor in (1, 2):
        found = take(factor * x, torch.Generator("cuda"))["gradient"]
        assert torch.equal(found, torch.full((1, 3), 6.0 * factor, device="cuda"))


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_compiled_and_captured_steps_agree_with_plain_ones() -> None:
    torch.compiler.reset()
    plain, state = train(capture=False, steps=5, dropout=0.0)
    captured, state_captured = train(capture=True, steps=5, dropout=0.0, compiled=True)
    assert captured == pytest.approx(plain, rel=1e-3)
    assert len(set(captured)) == 5, "a step was repeated"
    for name, value in state.items():
        torch.testing.assert_close(state_captured[name], value, rtol=1e-2, atol=1e-3, msg=name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_one_generator_for_all_steps_moves_on_as_it_does_without_capture() -> None:
    linear, x = torch.nn.Linear(3, 1).cuda(), torch.ones(2, 3, device="cuda")

    def step(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        noise = torch.randn(x.shape, generator=generator, device="cuda")
        loss = linear(x + noise).sum()
        loss.backward()
        return {"noise": noise}

    found = []
    for take in (step, CapturedStep(step, x, linear)):
        generator = torch.Generator("cuda").manual_seed(3)
        found.append(torch.stack([take(x, generator)["noise"] for _ in range(3)]))
    assert torch.equal(found[0], found[1])
    assert len(found[0].unique()) == 18


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_another_batch_is_refused() -> None:
    linear, x = torch.nn.Linear(3, 1).cuda(), torch.ones(2, 3, device="cuda")

    def step(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        loss = linear(x).sum()
        loss.backward()
        return {"total": loss.detach()}

    take = CapturedStep(step, x, linear)
    with pytest.raises(ValueError, match=r"`x` must be as it was captured, \[2, 3\] of torch\.float32 on cuda:0, got"):
        take(torch.ones(3, 3, device="cuda"), torch.Generator("cuda"))
    with pytest.raises(ValueError, match=r"CapturedStep: `generator` must be on cuda, as the batch is, got cpu\."):
        take(x, torch.Generator())


def never(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
    raise AssertionError("the step was run")


@pytest.mark.parametrize(
    ("x", "warmup", "error", "message"),
    [
        (torch.ones(2, 3), 3, ValueError, "CapturedStep: `x` must be on a CUDA device, got cpu. Elsewhere call"),
        (torch.ones(2, 3), 0, ValueError, "CapturedStep: `warmup` must be"),
        (torch.ones(2, 3, dtype=torch.long), 3, TypeError, "CapturedStep: `x` must be floating point"),
    ],
)
def test_what_cannot_be_captured_is_refused(x: Tensor, warmup: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        CapturedStep(never, x, torch.nn.Linear(3, 1), warmup=warmup)
