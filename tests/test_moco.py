"""The key side: its average against Eq. 2 in float64, what it copies, and what it never does."""

import re
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelcontrast.moco import MoCo, MomentumEncoder
from skelcontrast.nn import STGCN, ProjectionHead
from skelcontrast.skeleton import COCO_17


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 4))


def moved(module: nn.Module, step: float = 0.1) -> None:
    """Do what an optimiser does: change every parameter in place."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=step)


@pytest.mark.parametrize("momentum", [0.0, 0.3, 0.5, 0.999, 1.0])
@pytest.mark.parametrize("init", ["copy", "independent"])
def test_average_is_equation_2(momentum: float, init: Literal["copy", "independent"]) -> None:
    online = network()
    follower = MomentumEncoder(online, momentum=momentum, init=init)
    expected = {name: value.detach().double().numpy() for name, value in follower.module.named_parameters()}
    for _ in range(5):
        moved(online)
        follower.update(online)
        for name, value in online.named_parameters():
            expected[name] = momentum * expected[name] + (1 - momentum) * value.detach().double().numpy()
    for name, value in follower.module.named_parameters():
        np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-5, atol=1e-6)


def test_extremes_of_momentum_are_exact() -> None:
    online = network()
    frozen, mirror = MomentumEncoder(online, momentum=1.0), MomentumEncoder(online, momentum=0.0)
    before = [value.clone() for value in frozen.module.parameters()]
    moved(online)
    frozen.update(online)
    mirror.update(online)
    assert all(torch.equal(a, b) for a, b in zip(before, frozen.module.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(online.parameters(), mirror.module.parameters(), strict=True))


def test_copy_is_equal_and_shares_nothing() -> None:
    online = network()
    follower = MomentumEncoder(online)
    assert follower.module.state_dict().keys() == online.state_dict().keys()
    for name, value in online.state_dict().items():
        assert torch.equal(follower.module.state_dict()[name], value)
        assert follower.module.state_dict()[name].data_ptr() != value.data_ptr()
    assert all(parameter.requires_grad for parameter in online.parameters())
    assert not any(parameter.requires_grad for parameter in follower.parameters())


def test_independent_differs_in_every_drawn_layer_and_leaves_the_source() -> None:
    online = STGCN(COCO_17, channels=(4, 8), strides=(1, 2))
    before = {name: value.clone() for name, value in online.state_dict().items()}
    follower = MomentumEncoder(online, init="independent")
    for name, value in follower.module.named_parameters():
        constant = "edge_importance" in name or "bn" in name or re.search(r"tcn\.[03]|residual\.1", name)
        assert torch.equal(value, before[name]) == bool(constant), name
    assert all(torch.equal(value, before[name]) for name, value in online.state_dict().items())


def test_independent_starts_statistics_anew() -> None:
    online = network()
    online(torch.randn(10, 3) * 5)
    copied, drawn = MomentumEncoder(online), MomentumEncoder(online, init="independent")
    assert torch.equal(copied.module.get_buffer("1.running_var"), online.get_buffer("1.running_var"))
    assert torch.equal(drawn.module.get_buffer("1.running_var"), torch.ones(5))


def test_buffers_follow_the_copys_own_batches() -> None:
    online = network()
    follower = MomentumEncoder(online, momentum=0.5)
    online(torch.randn(10, 3))
    before = follower.module.get_buffer("1.running_mean").clone()
    follower.update(online)
    assert torch.equal(follower.module.get_buffer("1.running_mean"), before)
    follower(torch.randn(10, 3))
    assert not torch.equal(follower.module.get_buffer("1.running_mean"), before)
    assert follower.module.get_buffer("1.num_batches_tracked").item() == 1
    follower.eval()
    follower(torch.randn(10, 3))
    assert follower.module.get_buffer("1.num_batches_tracked").item() == 1


def test_no_gradient_reaches_the_key_side() -> None:
    net = MoCo(network(), nn.Linear(4, 2), momentum=0.9)
    x = torch.randn(6, 3, requires_grad=True)
    query, key = net.query(x), net.key(x)
    assert query.requires_grad
    assert not key.requires_grad
    (query * key).sum().backward()
    net.momentum_update()
    assert all(parameter.grad is not None for parameter in net.query_parameters())
    assert all(parameter.grad is None for side in (net.key_encoder, net.key_head) for parameter in side.parameters())


def test_both_sides_embed_alike_at_the_start_and_to_unit_length() -> None:
    net = MoCo(network(), ProjectionHead(4, 2))
    x = torch.randn(6, 3)
    query = net.query(x)
    assert torch.equal(query, net.key(x))
    torch.testing.assert_close(query.norm(dim=1), torch.ones(6))
    assert torch.equal(net.project(net.query_encoder(x)), query)
    independent = MoCo(network(), ProjectionHead(4, 2), key_init="independent")
    assert not torch.allclose(independent.query_encoder(x), independent.key_encoder(x))
    features = torch.randn(6, 4)
    assert not torch.allclose(independent.query_head(features), independent.key_head(features))


def test_momentum_update_moves_encoder_and_head() -> None:
    net = MoCo(network(), nn.Linear(4, 2), momentum=0.75)
    start = [value.clone() for value in (*net.key_encoder.parameters(), *net.key_head.parameters())]
    moved(net.query_encoder)
    moved(net.query_head)
    net.momentum_update()
    after = [*net.key_encoder.parameters(), *net.key_head.parameters()]
    for old, new, query in zip(start, after, net.query_parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * query)


def test_parts_without_parameters() -> None:
    net = MoCo(nn.Flatten(), nn.Identity())
    net.momentum_update()
    assert net.query_parameters() == []
    assert net.key(torch.ones(2, 3)).shape == (2, 3)


def test_query_parameters_are_the_query_sides_alone() -> None:
    net = MoCo(network(), nn.Linear(4, 2))
    named = {id(value): name for name, value in net.named_parameters()}
    names = [named[id(value)] for value in net.query_parameters()]
    assert names == [name for name, _ in net.named_parameters() if name.startswith("query_")]
    assert all(value.requires_grad for value in net.query_parameters())


def test_state_round_trip() -> None:
    net, other = (MoCo(network(), nn.Linear(4, 2), momentum=0.5) for _ in range(2))
    x = torch.randn(6, 3)
    for _ in range(3):
        net.key(x)
        moved(net.query_encoder)
        net.momentum_update()
    other.load_state_dict(net.state_dict())
    other.momentum_update()
    net.momentum_update()
    assert torch.equal(other.key(x), net.key(x))
    assert torch.equal(other.query(x), net.query(x))


def test_modules_are_used_not_copied_on_the_query_side() -> None:
    encoder, head = network(), nn.Linear(4, 2)
    net = MoCo(encoder, head)
    assert net.query_encoder is encoder
    assert net.query_head is head


def test_repr() -> None:
    assert repr(MomentumEncoder(nn.ReLU(), momentum=0.9)) == "MomentumEncoder(\n  momentum=0.9\n  (module): ReLU()\n)"


def test_update_from_another_module() -> None:
    follower = MomentumEncoder(nn.Linear(3, 2))
    before = [value.clone() for value in follower.parameters()]
    must = "`source` must have the parameters of the copied module, by name, shape and dtype, got others"
    for source, names in (
        (nn.Linear(3, 2, bias=False), "bias"),
        (nn.Sequential(nn.Linear(3, 2)), "0.bias, 0.weight, bias, weight"),
        (nn.Linear(1, 2), "weight"),  # would broadcast
        (nn.Linear(3, 1), "bias, weight"),
        (nn.Linear(3, 2).double(), "bias, weight"),
    ):
        with pytest.raises(ValueError, match=re.escape(f"MomentumEncoder.update: {must} in {names}.")):
            follower.update(source)
    assert all(torch.equal(a, b) for a, b in zip(before, follower.parameters(), strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_update_of_narrow_parameters_is_refused(dtype: torch.dtype) -> None:
    online = nn.Linear(3, 2).to(dtype)  # where 1 + 0.001 (2 - 1) is 1
    message = f"`source` must have parameters of float32 or wider, got {dtype}. Keep the weights in float32"
    with pytest.raises(ValueError, match=re.escape(message)):
        MomentumEncoder(online).update(online)


def test_a_whole_is_drawn_after_its_parts() -> None:
    class Zeroed(nn.Sequential):
        def reset_parameters(self) -> None:
            nn.init.zeros_(self[0].get_parameter("weight"))

    follower = MomentumEncoder(nn.Sequential(Zeroed(nn.Linear(3, 2))), init="independent")
    assert not follower.module.get_parameter("0.0.weight").any()


class Scale(nn.Module):
    """A layer that does not say how it is drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.rand(3))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


def test_independent_refuses_what_it_cannot_draw() -> None:
    message = "MomentumEncoder: `module` must have `reset_parameters` in every layer with parameters when `init` is"
    with pytest.raises(TypeError, match=re.escape(f"{message} 'independent', got Scale as 1.")):
        MomentumEncoder(nn.Sequential(nn.Linear(3, 3), Scale()), init="independent")
    with pytest.raises(TypeError, match=re.escape(f"{message} 'independent', got Scale as 1.0.")):
        MomentumEncoder(nn.Sequential(nn.Linear(3, 3), nn.Sequential(Scale())), init="independent")
    with pytest.raises(TypeError, match=re.escape(f"{message} 'independent', got Scale.")):
        MomentumEncoder(Scale(), init="independent")
    MomentumEncoder(Scale())


@pytest.mark.parametrize(
    ("owner", "modules", "message"),
    [
        (MomentumEncoder, [Scale], "`module` must be a built torch.nn.Module, got the class Scale."),
        (MoCo, [Scale, nn.Identity()], "`encoder` must be a built torch.nn.Module, got the class Scale."),
        (MoCo, [nn.Identity(), None], "`head` must be a built torch.nn.Module, got NoneType."),
    ],
)
def test_what_is_no_module_is_refused(owner: type[nn.Module], modules: list[Any], message: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"{owner.__name__}: {message}")):
        owner(*modules)


@pytest.mark.parametrize("owner", [MomentumEncoder, MoCo])
@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"momentum": 1.1}, ValueError, "`momentum` must lie in [0, 1], got 1.1."),
        ({"momentum": -0.1}, ValueError, "`momentum` must lie in [0, 1], got -0.1."),
        ({"momentum": None}, TypeError, "`momentum` must be a number, got None."),
        ({"init": "zero"}, ValueError, "must be one of 'copy', 'independent', got 'zero'."),
    ],
)
def test_errors_of_the_constructors(
    owner: type[nn.Module], options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    if owner is MoCo:
        options = {"key_init" if name == "init" else name: value for name, value in options.items()}
    modules = [nn.Linear(2, 2)] * (2 if owner is MoCo else 1)
    with pytest.raises(kind, match=rf"^{owner.__name__}: .*{re.escape(message)}"):
        owner(*modules, **options)
