"""The mean over frames and joints."""

import torch
from torch import Tensor
from torch.nn import functional as F

from skelcontrast.nn._recorded import is_recorded
from skelcontrast.nn._twin import Context


def average(x: Tensor) -> Tensor:
    """Return the mean of features (N, C, T, V) over frames and joints, (N, C); its gradient is channels-last."""
    if x.device.type == "cpu" and x.element_size() == 2 and not is_recorded() and x.numel():
        mean: Tensor = _Average.apply(x)  # type: ignore[no-untyped-call]  # torch's
        return mean
    return x.permute(0, 2, 3, 1).flatten(1, 2).mean(1)


class _Average(torch.autograd.Function):
    """The same in 16 bits on a CPU, where torch's mean first writes all of its input in float32."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return F.avg_pool2d(x, x.shape[2:])[:, :, 0, 0]

    @staticmethod
    def setup_context(ctx: Context, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004  torch's signature
        ctx.how = tuple(inputs[0].shape)

    @staticmethod
    def backward(ctx: Context, upstream: Tensor) -> Tensor:
        _, _, T, V = ctx.how
        of_frame = (upstream / (T * V))[:, None, None]
        of_x: Tensor = of_frame.repeat(1, T, V, 1).permute(0, 3, 1, 2)  # an expanded one takes its reader longer
        return of_x

    @staticmethod
    def jvp(_ctx: Context, tangent: Tensor) -> Tensor:
        return average(tangent)
