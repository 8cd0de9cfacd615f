"""An encoder of plain operations leaves as a program of torch's own, for any batch."""

import pytest
import torch
from torch import Tensor, nn

from skelcontrast.nn import EADM, STGCN, GraphConv, TemporalConv
from skelcontrast.skeleton import NTU_RGBD_25


class Dropping(nn.Module):
    """An encoder, plain and with a drop layer."""

    def __init__(self, order: str) -> None:
        super().__init__()
        self.encoder = STGCN(NTU_RGBD_25, channels=(8, 64, 64), strides=(1, 2, 1))
        self.drop = EADM(drop_share=0.2)
        for module in self.encoder.modules():
            if isinstance(module, GraphConv):
                module.order = order  # type: ignore[assignment]  # one of the names, as the test says
            if isinstance(module, TemporalConv):
                module.implementation = "direct"

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        feature_map, present = self.encoder.feature_map(x), self.encoder.present_bodies(x)
        return self.encoder.pool(feature_map, present), self.encoder.pool(self.drop(feature_map), present)


@pytest.mark.parametrize("order", ["project-first", "aggregate-first", "dense"])
def test_exports_for_any_batch(order: str) -> None:
    model = Dropping(order).eval()
    example = torch.randn(2, 3, 20, 25, 2)
    program = torch.export.export(
        model, (example,), dynamic_shapes={"x": {0: torch.export.Dim("batch", min=1, max=4096)}}
    )
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert not any(name.startswith("skelcontrast") for name in names)
    for samples in (1, 2, 5):
        x = torch.randn(samples, 3, 20, 25, 2)
        for found, expected in zip(program.module()(x), model(x), strict=True):
            torch.testing.assert_close(found, expected)
