"""The passes of `embed`: compiled each by itself, and what of them waits for another while a step is recorded."""

import copy
import pickle
from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import pytest
import torch
from tests.compiling import needs_compiler
from tests.streams import Device
from torch import Tensor, nn
from torch._inductor import list_options
from torch._subclasses.fake_tensor import FakeTensorMode

from skelcontrast._side_by_side import streams_may_part
from skelcontrast.kernels import batch_norm
from skelcontrast.methods import AimCLR, CrosSCLR, SkeletonCLR
from skelcontrast.nn import STGCN, GraphConv, ProjectionHead, TemporalConv, _batch_norm
from skelcontrast.skeleton import COCO_17

Method: TypeAlias = SkeletonCLR | AimCLR | CrosSCLR


def build(kind: type[SkeletonCLR | AimCLR], width: int = 4, **options: Any) -> SkeletonCLR | AimCLR:
    torch.manual_seed(0)
    encoder = STGCN(COCO_17, channels=(width, 8), strides=(1, 2), dropout=0.0)
    return kind(encoder, ProjectionHead(8, 6), **{"queue_size": 16, **options})


def cross() -> CrosSCLR:
    return CrosSCLR({"joint": build(AimCLR), "motion": build(AimCLR, width=6)})


def learn(model: Any, views: Tensor, **options: bool) -> list[Tensor]:
    """Return losses, keys, gradients and the state after one step with some views (R, N, C, T, V, M)."""
    model.zero_grad()
    given = [dict.fromkeys(model.streams, view) if isinstance(model, CrosSCLR) else view for view in views]
    embedded = model.embed(*given)
    loss = model.loss(embedded, **options)
    loss.total.backward()
    gradients = [parameter.grad for parameter in model.query_parameters()]
    keys = list(embedded.key.values()) if isinstance(model, CrosSCLR) else [embedded.key]
    return [loss.total, *keys, *gradients, *model.state_dict().values()]


@needs_compiler
@pytest.mark.parametrize(
    ("make", "views", "options", "graphs"),
    [
        (lambda: build(SkeletonCLR), 2, {}, 3),
        (lambda: build(AimCLR), 2, {}, 3),
        (lambda: build(AimCLR), 3, {"mine": True}, 4),
        (lambda: build(AimCLR, drop=None), 3, {"mine": False}, 4),
        (cross, 3, {"cross": False}, 7),
        (cross, 3, {"cross": True}, 6),
    ],
)
def test_compiled_each_by_itself_they_give_the_same(
    make: Callable[[], Method], views: int, options: dict[str, bool], graphs: int
) -> None:
    torch.compiler.reset()
    seen: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        seen.append(graph)
        return graph

    model, x = make().double(), torch.randn(views, 4, 3, 6, 17, 1, dtype=torch.float64)
    expected = learn(copy.deepcopy(model), x, **options)
    assert seen == []
    model.compile(backend=backend, fullgraph=True, dynamic=False)
    for one, two in zip(learn(model, x, **options), expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-12)
    assert len(seen) == graphs
    learn(model, x, **options)
    assert len(seen) == graphs, "compiled once more"


@pytest.mark.parametrize("make", [lambda: build(SkeletonCLR), lambda: build(AimCLR), cross])
def test_a_copy_is_not_compiled_and_the_state_is_the_same(make: Callable[[], Method]) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the copy calls what was compiled of the model")

    model = make()
    plain = model.state_dict().keys()
    model.compile(backend=refuse)
    assert model.state_dict().keys() == plain
    x = torch.randn(2, 4, 3, 6, 17, 1)
    found = [learn(other, x)[0] for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)))]
    assert torch.equal(found[0], found[1])
    with pytest.raises(Exception, match="the copy calls what was compiled"):
        learn(model, x)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    """Streams that keep account of which pass changed which running mean, by the kernels of batch norm."""
    device = Device(monkeypatch)
    kernel, changes = vars(batch_norm)["finish_statistics"], dict[int, int]()

    class Watched:
        def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
            def launch(*args: Any, **options: Any) -> None:
                where = args[3].data_ptr()
                changes[where] = changes.get(where, 0) + 1
                device.do(f"{changes[where]} of {where}")
                kernel[grid](*args, **options)

            return launch

    monkeypatch.setattr(batch_norm, "finish_statistics", Watched())
    monkeypatch.setattr(_batch_norm, "_is_on_gpu", lambda _: True)
    return device


def norms(model: nn.Module) -> list[int]:
    """Return where the running means of a module lie, in the order of the layers."""
    return [buffer.data_ptr() for name, buffer in model.named_buffers() if name.endswith("running_mean")]


@pytest.mark.parametrize("implementation", ["auto", "triton"])
def test_layer_by_layer_the_extreme_pass_changes_what_the_query_pass_has_changed(
    device: Device, implementation: Literal["auto", "triton"]
) -> None:
    plain, model = build(AimCLR), build(AimCLR)
    for module in (*plain.modules(), *model.modules()):
        if isinstance(module, (GraphConv, TemporalConv)):
            module.implementation = implementation  # "triton" sums up for batch norm what it writes
    x = torch.randn(3, 4, 3, 6, 17, 1)
    expected = learn(plain, x)
    device.before.clear()
    with streams_may_part():
        found = learn(model, x)
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))
    query, key = norms(model.moco.query_encoder), norms(model.moco.key_encoder)
    assert all(f"1 of {where}" in device.before[f"2 of {where}"] for where in query)
    assert f"1 of {query[-1]}" not in device.before[f"2 of {query[0]}"], "the extreme pass began after the query's"
    assert not any(f"1 of {where}" in device.before[f"1 of {key[-1]}"] for where in query)
    assert not any(f"{number} of {where}" in device.before[f"1 of {query[-1]}"] for where in key for number in (1, 2))


@pytest.mark.parametrize(
    "why", ["heard", "block heard", "fewer parts", "spectral norm", "evaluated", "another kind", "head with a state"]
)
def test_otherwise_the_extreme_pass_follows_the_query_pass(device: Device, why: str) -> None:
    class Other(STGCN):
        pass

    model = build(AimCLR)
    if why == "heard":
        model.encoder.get_submodule("blocks.1.tcn.1").register_forward_hook(lambda *_: None)
    elif why == "block heard":
        model.encoder.get_submodule("blocks.1").register_forward_hook(lambda *_: None)
    elif why == "fewer parts":
        block = model.encoder.get_submodule("blocks.1")
        block.tcn = nn.Sequential(*list(block.get_submodule("tcn").children())[:4])
    elif why == "spectral norm":
        nn.utils.parametrizations.spectral_norm(model.encoder.get_submodule("blocks.0.gcn"))
    elif why == "evaluated":
        model.encoder.get_submodule("blocks.0.tcn.0").eval()
    elif why == "another kind":
        model.encoder.__class__ = Other
    else:
        model.moco.query_head.register_buffer("calls", torch.zeros(()))
    with streams_may_part():
        model.embed(*torch.randn(3, 4, 3, 6, 17, 1))
    query, key = norms(model.moco.query_encoder), norms(model.moco.key_encoder)
    first = device.before[f"2 of {query[0]}"]
    assert all(f"1 of {where}" in first for where in query if f"1 of {where}" in device.before)
    assert not any(f"1 of {where}" in device.before[f"1 of {key[-1]}"] for where in query)


@pytest.fixture
def sums(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many gradients were added up, call by call."""
    found, add = list[int](), torch._foreach_add

    def watched(ones: Any, twos: Any) -> Any:
        found.append(len(ones))
        return add(ones, twos)

    monkeypatch.setattr(torch, "_foreach_add", watched)
    return found


@pytest.mark.usefixtures("device")
def test_gradients_of_query_and_extreme_pass_are_added_up_all_at_once(sums: list[int]) -> None:
    model, x = build(AimCLR), torch.randn(3, 4, 3, 6, 17, 1)
    learn(model, x)
    assert sums == []
    with streams_may_part():
        learn(model, x)
    assert sums == [len(model.query_parameters())]


@needs_compiler
@pytest.mark.slow
def test_what_inductor_compiles_changes_and_learns_the_very_encoder(device: Device, sums: list[int]) -> None:
    torch.compiler.reset()
    model = build(AimCLR)
    model.compile(fullgraph=True, dynamic=False)
    with streams_may_part():
        learn(model, torch.randn(3, 4, 3, 6, 17, 1))
    assert sums == [len(model.query_parameters())]
    query = norms(model.moco.query_encoder)
    assert all(f"1 of {where}" in device.before[f"2 of {where}"] for where in query)
    assert f"1 of {query[-1]}" not in device.before[f"2 of {query[0]}"], "the extreme pass began after the query's"


def test_on_cuda_the_compiler_is_told_what_was_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    given = list[dict[str, object]]()

    def note(part: object, **options: object) -> object:
        given.append(options)
        return part

    monkeypatch.setattr(torch, "compile", note)
    model = build(SkeletonCLR)
    model.compile(fullgraph=True)
    assert given == 3 * [{"fullgraph": True}]
    with FakeTensorMode():
        there = torch.empty(1, device="cuda")
    monkeypatch.setattr(model, "parameters", lambda: iter([there]))
    model.compile(fullgraph=True)
    recent = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (2, 11)
    assert given[3]["fullgraph"] is True
    assert given[3]["options"] == {
        name: value
        for name, value in {"combo_kernels": recent, "layout_optimization": False}.items()
        if name in list_options()
    }
    for chosen in ({"mode": "reduce-overhead"}, {"options": {"max_autotune": True}}, {"backend": "eager"}):
        model.compile(**chosen)
        assert given[-1] == chosen
