"""The mean over frames and joints, in 16 bits on a CPU too, against torch's own."""

import io

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

from skelcontrast.nn._average import average

ROUNDING = {torch.float64: 1e-7, torch.float32: 1e-5, torch.bfloat16: 1.01 * 2**-8, torch.float16: 1.01 * 2**-11}
"""How far a mean may be off: in 16 bits half of the last place, which being rounded twice would exceed."""


@pytest.mark.parametrize("dtype", ROUNDING)
@pytest.mark.parametrize("shape", [(2, 8, 13, 25), (3, 5, 1, 1), (1, 1, 7, 2), (0, 4, 3, 2)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_is_the_mean_rounded_once(
    dtype: torch.dtype, shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    x = torch.randn(shape).to(dtype).contiguous(memory_format=memory_format).requires_grad_()
    found = average(x)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), x.detach().double().mean((2, 3)), rtol=ROUNDING[dtype], atol=1e-6)
    upstream = torch.randn(shape[:2]).to(dtype)
    (gradient,) = torch.autograd.grad(found, [x], upstream)
    expected = (upstream / (shape[2] * shape[3]))[..., None, None].expand(shape)
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_without_channels_or_frames(dtype: torch.dtype) -> None:
    assert average(torch.ones(2, 0, 3, 4, dtype=dtype)).shape == (2, 0)
    none = average(torch.ones(2, 3, 0, 4, dtype=dtype))
    assert none.shape == (2, 3)
    assert none.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_is_channels_last(dtype: torch.dtype) -> None:
    x = torch.randn(2, 8, 5, 3).to(dtype).requires_grad_()
    (gradient,) = torch.autograd.grad(average(x).sum(), [x])
    assert gradient.is_contiguous(memory_format=torch.channels_last)


def test_transforms_and_second_derivatives() -> None:
    x = torch.randn(4, 2, 3, 5, 2).bfloat16()
    torch.testing.assert_close(torch.func.vmap(average)(x), x.mean((3, 4)))

    def energy(x: Tensor) -> Tensor:
        return average(x).square().sum()

    gradients = torch.func.vmap(torch.func.grad(energy))(x)
    torch.testing.assert_close(gradients, (2 * x.mean((3, 4), keepdim=True) / 10).expand_as(x), rtol=2e-2, atol=1e-3)
    second = torch.func.jacrev(torch.func.jacrev(energy))(torch.randn(1, 1, 2, 2).bfloat16()).flatten()
    torch.testing.assert_close(second, torch.full_like(second, 2 / 16))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")  # torch's own call
def test_forward_derivative() -> None:
    tangent = torch.randn(2, 3, 4, 5).bfloat16()
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(average(forward_ad.make_dual(torch.zeros_like(tangent), tangent))).tangent
    torch.testing.assert_close(found, tangent.mean((2, 3)))


@pytest.mark.filterwarnings("ignore:.torch.jit")  # torch's own calls
def test_a_trace_can_be_kept() -> None:
    x, file = torch.randn(5, 3, 4, 2).bfloat16(), io.BytesIO()
    torch.jit.save(torch.jit.trace(average, (x[:2],)), file)
    file.seek(0)
    torch.testing.assert_close(torch.jit.load(file)(x), average(x))
