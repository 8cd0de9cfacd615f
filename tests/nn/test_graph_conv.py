"""Graph convolution against one joint at a time, in every order and implementation, with every gradient."""

import re
from typing import Any, NamedTuple, TypedDict

import pytest
import torch
from tests.reference import nn as reference
from torch import Tensor

from skelcontrast.nn import GraphConv, graph_conv
from skelcontrast.nn import _graph_conv_blocked as blocked
from skelcontrast.nn._graph_conv_choice import ContractionOrder, GraphConvImplementation
from skelcontrast.skeleton import NTU_RGBD_25, adjacency


class Form(TypedDict):
    order: ContractionOrder
    implementation: GraphConvImplementation


AUTO: Form = {"order": "auto", "implementation": "auto"}
PROJECT: Form = {"order": "project-first", "implementation": "torch"}
AGGREGATE: Form = {"order": "aggregate-first", "implementation": "auto"}
DENSE: Form = {"order": "dense", "implementation": "auto"}
BLOCKED: Form = {"order": "auto", "implementation": "blocked"}
NAMED = (PROJECT, AGGREGATE, DENSE, BLOCKED)
FORMS = (AUTO, *NAMED)


@pytest.fixture(params=[True, False], ids=["many blocks", "one block"])
def _block_size(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a block hold a few frames only, so that samples are split, or as many as it will."""
    if request.param:
        monkeypatch.setattr(blocked, "SCRATCH_BYTES", 8000)


class Case(NamedTuple):
    samples: int
    fan_in: int
    fan_out: int
    frames: int
    joints: int
    partitions: int


CASES = [
    Case(1, 3, 8, 13, 17, 1),
    Case(3, 8, 3, 37, 20, 2),
    Case(1, 5, 5, 13, 25, 3),
    Case(3, 1, 2, 37, 17, 3),
    Case(3, 4, 1, 1, 25, 1),
]


def draw(case: Case, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return x, weight, bias and adjacency, all with gradients."""
    shapes = (
        (case.samples, case.fan_in, case.frames, case.joints),
        (case.partitions, case.fan_out, case.fan_in),
        (case.partitions, case.fan_out),
        (case.partitions, case.joints, case.joints),
    )
    x, weight, bias, graph = (torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_() for shape in shapes)
    return x, weight, bias, graph


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.usefixtures("_block_size")
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_oracle(case: Case, form: Form, with_bias: bool) -> None:
    x, weight, bias, graph = draw(case)
    out = graph_conv(x, weight, bias if with_bias else None, graph, **form)
    x_, weight_, bias_, graph_ = (reference.array(value) for value in (x, weight, bias, graph))
    expected = reference.graph_conv(x_, weight_, bias_ if with_bias else None, graph_)
    torch.testing.assert_close(out, torch.from_numpy(expected), rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("_block_size")
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-4)])
def test_forms_agree_in_values_and_gradients(case: Case, with_bias: bool, dtype: torch.dtype, tolerance: float) -> None:
    x, weight, bias, graph = draw(case, dtype)
    inputs = (x, weight, bias, graph) if with_bias else (x, weight, graph)
    found = []
    for form in FORMS:
        out = graph_conv(x, weight, bias if with_bias else None, graph, **form)
        upstream = torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)
        found.append((out, *torch.autograd.grad(out, inputs, upstream)))
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            torch.testing.assert_close(two, one, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", NAMED)
@pytest.mark.parametrize("with_bias", [True, False])
def test_gradients_against_finite_differences(form: Form, with_bias: bool) -> None:
    x, weight, bias, graph = draw(Case(1, 2, 3, 2, 4, 2))

    def run(x: Tensor, weight: Tensor, graph: Tensor, *bias: Tensor) -> Tensor:
        return graph_conv(x, weight, bias[0] if bias else None, graph, **form)

    assert torch.autograd.gradcheck(run, (x, weight, graph, bias) if with_bias else (x, weight, graph))


@pytest.mark.parametrize(
    ("fan_in", "fan_out", "form"), [(3, 16, DENSE), (16, 16, BLOCKED), (16, 32, BLOCKED), (64, 16, PROJECT)]
)
def test_auto_takes_what_was_fastest(fan_in: int, fan_out: int, form: Form) -> None:
    x, weight, bias, graph = draw(Case(2, fan_in, fan_out, 5, 25, 3), torch.float32)
    assert torch.equal(graph_conv(x, weight, bias, graph), graph_conv(x, weight, bias, graph, **form))


@pytest.mark.parametrize("form", NAMED)
def test_takes_views_with_any_strides(form: Form) -> None:
    x, weight, bias, graph = draw(Case(2, 3, 4, 7, 5, 2))
    turned = x.detach().permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0).requires_grad_()
    out, expected = graph_conv(turned, weight, bias, graph, **form), graph_conv(x, weight, bias, graph, **form)
    torch.testing.assert_close(out, expected)
    upstream = torch.randn_like(expected)
    (one,), (two,) = torch.autograd.grad(out, [turned], upstream), torch.autograd.grad(expected, [x], upstream)
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("form", NAMED)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_every_form_keeps_the_memory_format(form: Form, memory_format: torch.memory_format) -> None:
    x, weight, bias, graph = (value.detach() for value in draw(Case(2, 3, 4, 7, 5, 2)))
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    out = graph_conv(x, weight, bias, graph, **form)
    assert out.is_contiguous(memory_format=memory_format)
    (gradient,) = torch.autograd.grad(out, [x], torch.ones_like(out))
    if memory_format == torch.channels_last or form == BLOCKED:  # plain products compute with channels last
        assert gradient.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("form", NAMED)
def test_an_empty_batch_stays_empty(form: Form) -> None:
    x, weight, bias, graph = draw(Case(0, 3, 4, 7, 5, 2))
    out = graph_conv(x, weight, bias, graph, **form)
    assert out.shape == (0, 4, 7, 5)
    assert all(not gradient.any() for gradient in torch.autograd.grad(out.sum(), (x, weight, bias, graph)))


@pytest.mark.parametrize("form", [PROJECT, AGGREGATE, DENSE])
@pytest.mark.parametrize("mapped", range(4))
def test_plain_forms_are_mapped_over_each_argument_alone(form: Form, mapped: int) -> None:
    arguments = [value.detach() for value in draw(Case(2, 3, 4, 7, 5, 2))]
    several = torch.stack([arguments[mapped], 2 * arguments[mapped]])

    def convolve(one: Tensor) -> Tensor:
        x, weight, bias, graph = (one if i == mapped else argument for i, argument in enumerate(arguments))
        return graph_conv(x, weight, bias, graph, **form)

    torch.testing.assert_close(torch.func.vmap(convolve)(several), torch.stack([convolve(one) for one in several]))


def test_blocked_is_differentiable_once() -> None:
    x, weight, bias, graph = draw(Case(1, 2, 3, 2, 4, 2))
    out = graph_conv(x, weight, bias, graph, implementation="blocked")
    for value in (out.square().sum(), out.sum()):  # the gradient of a sum needs none itself
        (gradient,) = torch.autograd.grad(value, [x], create_graph=True, retain_graph=True)
        with pytest.raises(RuntimeError, match=r"^graph_conv cannot be differentiated twice"):
            torch.autograd.grad(gradient.square().sum() + x.square().sum(), x)  # of which a part has a derivative


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("autocast", [True, False])
def test_bfloat16(form: Form, autocast: bool) -> None:
    x, weight, bias, graph = (value.detach() for value in draw(Case(2, 3, 4, 7, 25, 3), torch.float32))
    graph = graph.softmax(1)
    expected = graph_conv(x, weight, bias, graph)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        x, weight, bias = (value if autocast else value.bfloat16() for value in (x, weight, bias))
        out = graph_conv(x, weight, bias, graph, **form)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("bias", [True, False])
def test_module_learns_through_weight_bias_and_edges_alike_in_every_form(bias: bool) -> None:
    graph = adjacency(NTU_RGBD_25)
    x = torch.randn(2, 3, 13, 25, dtype=torch.float64)
    gradients = []
    for form in FORMS:
        torch.manual_seed(1)
        layer = GraphConv(3, 7, graph, bias=bias, **form).double()
        layer(x).square().sum().backward()
        gradients.append({name: value.grad for name, value in layer.named_parameters()})
    assert gradients[0].keys() == {"weight", "edge_importance"} | ({"bias"} if bias else set())
    for other in gradients[1:]:
        for name, gradient in other.items():
            torch.testing.assert_close(gradient, gradients[0][name], rtol=1e-10, atol=1e-10)
    edges = gradients[0]["edge_importance"]
    assert edges is not None
    assert torch.equal(edges[graph == 0], torch.zeros(int((graph == 0).sum()), dtype=torch.float64))


def test_module_is_the_function_on_masked_edges() -> None:
    layer = GraphConv(3, 5, adjacency(NTU_RGBD_25))
    x = torch.randn(2, 3, 4, 25)
    assert layer.edge_importance is not None
    assert torch.equal(layer(x), graph_conv(x, layer.weight, layer.bias, layer.adjacency))  # the mask starts at ones
    torch.nn.init.uniform_(layer.edge_importance)
    graph = layer.adjacency * layer.edge_importance
    assert torch.equal(layer(x), graph_conv(x, layer.weight, layer.bias, graph))


def test_module_without_bias_and_edges() -> None:
    layer = GraphConv(3, 5, torch.eye(4)[None], bias=False, edge_importance=False)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
    x = torch.randn(2, 3, 6, 4)
    torch.testing.assert_close(layer(x), torch.einsum("oc,nctv->notv", layer.weight[0], x))


def test_module_owns_its_adjacency_and_keeps_it_out_of_the_state() -> None:
    graph = torch.eye(4)[None]
    layer = GraphConv(3, 5, graph)
    graph.zero_()
    assert torch.equal(layer.adjacency, torch.eye(4)[None])
    assert set(layer.state_dict()) == {"weight", "bias", "edge_importance"}
    other = GraphConv(3, 5, torch.eye(4)[None])
    other.load_state_dict(layer.state_dict())
    x = torch.randn(1, 3, 2, 4)
    assert torch.equal(layer(x), other(x))


def test_reset_draws_anew_within_bounds() -> None:
    layer = GraphConv(16, 64, torch.eye(25).expand(3, 25, 25))
    assert layer.bias is not None
    assert layer.edge_importance is not None
    before = layer.weight.detach().clone()
    torch.nn.init.zeros_(layer.edge_importance)
    layer.reset_parameters()
    assert not torch.equal(layer.weight, before)
    assert torch.equal(layer.edge_importance, torch.ones(3, 25, 25))
    for parameter in (layer.weight, layer.bias):
        assert parameter.abs().max() <= 0.25  # 1 / sqrt(16)
        assert parameter.abs().max() > 0.24
        assert parameter.std().item() == pytest.approx(0.25 / 3**0.5, rel=0.1)


def test_repr() -> None:
    assert repr(GraphConv(3, 16, torch.eye(25).expand(3, 25, 25))) == (
        "GraphConv(3, 16, partitions=3, joints=25, order='auto', implementation='auto')"
    )


ARGUMENTS: dict[str, Any] = {
    "x": torch.zeros(2, 3, 5, 4),
    "weight": torch.zeros(2, 6, 3),
    "bias": torch.zeros(2, 6),
    "adjacency": torch.zeros(2, 4, 4),
}


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        (
            {"order": "x"},
            ValueError,
            "`order` must be one of 'auto', 'project-first', 'aggregate-first', 'dense', got 'x'.",
        ),
        (
            {"implementation": "x"},
            ValueError,
            "`implementation` must be one of 'auto', 'torch', 'blocked', 'triton', got 'x'.",
        ),
        (
            {"implementation": "blocked", "order": "dense"},
            ValueError,
            "`order` must be 'auto' with implementation='blocked', got 'dense'. The blocked implementation has an",
        ),
        ({"weight": torch.zeros(6, 3)}, ValueError, "`weight` must have shape (2, C_out, C_in), got (6, 3)."),
        ({"weight": torch.zeros(3, 6, 3)}, ValueError, "`weight` must have shape (2, C_out, C_in), got (3, 6, 3)."),
        ({"adjacency": torch.zeros(2, 4, 5)}, ValueError, "`adjacency` must have shape (P, 4, 4), got (2, 4, 5)."),
        ({"adjacency": torch.tensor(1.0)}, ValueError, "`adjacency` must have shape (P, V, V), got ()."),
        ({"x": torch.zeros(2, 5, 5, 4)}, ValueError, "`x` must have shape (N, 3, T, 4), got (2, 5, 5, 4)."),
        ({"x": torch.zeros(2, 3, 5, 5)}, ValueError, "`x` must have shape (N, 3, T, 4), got (2, 3, 5, 5)."),
        ({"x": torch.zeros(2, 3, 4)}, ValueError, "`x` must have shape (N, 3, T, 4), got (2, 3, 4)."),
        ({"bias": torch.zeros(6)}, ValueError, "`bias` must have shape (2, 6), got (6,)."),
        ({"x": torch.zeros(2, 3, 5, 4).long()}, TypeError, "`x` must be floating point, got torch.int64."),
        ({"x": [1.0]}, TypeError, "`x` must be a torch.Tensor, got list."),
        ({"weight": None}, TypeError, "`weight` must be a torch.Tensor, got NoneType."),
    ],
)
def test_errors_of_the_function(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"graph_conv: {message}")):
        graph_conv(**{**ARGUMENTS, **change})


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"in_channels": 0}, ValueError, "`in_channels` must be at least 1, got 0."),
        ({"out_channels": 2.0}, TypeError, "`out_channels` must be an integer, got 2.0."),
        (
            {"order": "x"},
            ValueError,
            "`order` must be one of 'auto', 'project-first', 'aggregate-first', 'dense', got 'x'.",
        ),
        (
            {"implementation": "triton", "order": "dense"},
            ValueError,
            "`order` must be 'auto' with implementation='triton', got 'dense'.",
        ),
        ({"adjacency": torch.eye(4)}, ValueError, "`adjacency` must have shape (P, V, V), got (4, 4)."),
        ({"adjacency": torch.zeros(2, 3, 4)}, ValueError, "`adjacency` must have shape (P, 3, 3), got (2, 3, 4)."),
        ({"adjacency": torch.tensor(1.0)}, ValueError, "`adjacency` must have shape (P, V, V), got ()."),
        ({"adjacency": torch.ones(2, 4, 4).long()}, TypeError, "`adjacency` must be floating point, got torch.int64."),
        ({"adjacency": [[1]]}, TypeError, "`adjacency` must be a torch.Tensor, got list."),
    ],
)
def test_errors_of_the_constructor(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"in_channels": 3, "out_channels": 5, "adjacency": torch.zeros(2, 4, 4), **change}
    with pytest.raises(kind, match=re.escape(f"GraphConv: {message}")):
        GraphConv(**arguments)


def test_errors_of_the_module() -> None:
    layer = GraphConv(3, 5, torch.zeros(2, 4, 4))
    message = "GraphConv: `x` must have shape (N, 3, T, 4) to match the layer, got (2, 3, 5, 5)."
    with pytest.raises(ValueError, match=re.escape(message)):
        layer(torch.zeros(2, 3, 5, 5))
    with pytest.raises(TypeError, match=re.escape("GraphConv: `x` must be a torch.Tensor, got ndarray.")):
        layer(torch.zeros(2, 3, 5, 4).numpy())
