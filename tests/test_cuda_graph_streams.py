"""A captured step of CrosSCLR, whose streams run side by side, computes what it does in order."""

import pytest
import torch
from torch import Tensor

from skelcontrast.cuda_graph import CapturedStep
from skelcontrast.methods import AimCLR, CrosSCLR
from skelcontrast.nn import STGCN, ProjectionHead
from skelcontrast.skeleton import NTU_RGBD_25


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_side_by_side_and_in_order_are_the_same_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)

    def learn(*, in_order: bool) -> list[Tensor]:
        torch.manual_seed(0)
        encoders = (STGCN(NTU_RGBD_25, channels=(8, 16), strides=(1, 2)) for _ in range(2))
        one, two = (AimCLR(encoder, ProjectionHead(16, 8), queue_size=64) for encoder in encoders)
        model = CrosSCLR({"joint": one, "motion": two}).to("cuda")

        def step(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
            model.momentum_update()
            views = [dict.fromkeys(model.streams, x + 0.1 * number) for number in range(3)]
            embedded = model.embed(*views)
            loss = model.loss(embedded, cross=True).total
            loss.backward()
            model.enqueue(embedded.key)
            return {"total": loss.detach()}

        clips = torch.randn(5, 8, 3, 16, 25, 2, generator=torch.Generator().manual_seed(1)).to("cuda")
        take = CapturedStep(step, clips[0], model, in_order=in_order)
        torch.manual_seed(2)  # dropout's
        losses = [take(x, torch.Generator("cuda"))["total"] for x in clips]
        return [*losses, *model.state_dict().values(), *(weight.grad for weight in model.query_parameters())]

    together, one_by_one = learn(in_order=False), learn(in_order=True)
    assert all(torch.equal(one, two) for one, two in zip(together, one_by_one, strict=True))
