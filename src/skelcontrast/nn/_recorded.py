"""Whether torch writes down what runs."""

import torch


def is_recorded() -> bool:
    """Tell whether torch compiles, exports or traces what runs, so that it must hold for other batches too."""
    return torch.compiler.is_compiling() or bool(torch._C._get_tracing_state())
