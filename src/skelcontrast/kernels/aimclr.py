"""AimCLR's terms for CUDA: contrast, D3M and their gradients in one kernel, from what the views read of the bank."""

from torch import Tensor

from skelcontrast.kernels._aimclr import terms
from skelcontrast.kernels._device import on_device_of, padded


def triton_terms(
    views: Tensor,
    positive: Tensor,
    bank: Tensor,
    log_partition: Tensor,
    attended: Tensor,
    neighbors: Tensor,
    temperature: float,
    positives: str,
    form: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return contrast and D3M (N,), and the gradients (G, N, D) of the one in the query and of the other elsewhere.

    Views (G, N, D) and positives (N, D) are float32; log-partition (G, N), attended mean (G, N, D) and neighbours
    (G, N, k) are what they read.
    """
    G, N, D = views.shape
    contrast, d3m, gradients = views.new_empty(N), views.new_empty(N), views.new_empty(G, N, D)
    views, positive, bank = views.contiguous(), positive.contiguous(), bank.contiguous()
    log_partition, attended, neighbors = log_partition.contiguous(), attended.contiguous(), neighbors.contiguous()
    if N:
        with on_device_of(bank):
            terms[(N,)](
                views,
                positive,
                bank,
                log_partition,
                attended,
                neighbors,
                contrast,
                d3m,
                gradients,
                N,
                D,
                1 / temperature,
                1 / max(1, G - 1),
                neighbors.shape[2],
                VIEWS=G,
                POSITIVES=positives,
                KL=form == "kl",
                WIDTH=padded(D),
                num_warps=1,
                enable_fp_fusion=True,
            )
    return contrast, d3m, gradients
