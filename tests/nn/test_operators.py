"""The operators of the fast twins as torch wants them, and as one graph under `torch.compile`."""

import itertools

import pytest
import torch
from tests.compiling import needs_compiler
from torch import Tensor

from skelcontrast.nn import EADM, STGCN
from skelcontrast.nn._conv_operators import graph_conv_twin, spectral_twin
from skelcontrast.skeleton import NTU_RGBD_25

FORMATS = [torch.contiguous_format, torch.channels_last]


def draw(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [torch.randn(shape, requires_grad=True) for shape in shapes]


@pytest.mark.parametrize("memory_format", FORMATS)
def test_operators_keep_torchs_rules(memory_format: torch.memory_format) -> None:
    x, weight, bias, adjacency = draw((2, 3, 4, 5), (2, 6, 3), (2, 6), (2, 5, 5))
    x = x.detach().contiguous(memory_format=memory_format).requires_grad_()
    torch.library.opcheck(graph_conv_twin.operator, (x, weight, bias, adjacency, "blocked"))
    taps, bias = draw((6, 3, 5), (6,))
    torch.library.opcheck(
        spectral_twin.operator, (x.detach().contiguous(memory_format=torch.channels_last), taps, bias)
    )


def build(dropout: float = 0.0) -> STGCN:
    """Build an encoder with a block for every form that the paper's encoder takes: dense, blocked, spectral."""
    return STGCN(NTU_RGBD_25, channels=(8, 64, 64), strides=(1, 2, 1), dropout=dropout)


def test_every_form_gives_the_same_without_gradients() -> None:
    encoder, x = build(), torch.randn(2, 3, 13, 25, 2)
    expected = encoder(x).detach()
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            assert torch.equal(encoder(x), expected)


def test_the_encoder_compiles_to_one_graph() -> None:
    encoder, x = build(), torch.randn(2, 3, 13, 25, 2)
    torch._dynamo.reset()
    compiled = torch.compile(encoder, backend="aot_eager", fullgraph=True)
    found = []
    for forward in (encoder, compiled):
        encoder.zero_grad()
        out = forward(x)
        out.square().sum().backward()
        found.append([out, *(parameter.grad for parameter in encoder.parameters())])
    for one, two in itertools.zip_longest(*found):
        torch.testing.assert_close(one, two)


@needs_compiler
def test_the_encoder_compiles_with_dropout_autocast_and_a_drop_layer() -> None:
    encoder, drop = build(dropout=0.5), EADM(drop_share=0.1)
    torch._dynamo.reset()

    @torch.compile(backend="aot_eager", fullgraph=True)
    def embed(x: Tensor) -> Tensor:
        feature_map = encoder.feature_map(x)
        return encoder.pool(drop(feature_map), encoder.present_bodies(x))

    with torch.autocast("cpu", torch.bfloat16):
        out = embed(torch.randn(2, 3, 13, 25, 2))
    out.sum().backward()
    assert out.shape == (2, 64)
