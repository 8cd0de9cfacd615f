"""What of the tests asks for a PyTorch whose compiler follows the library."""

import pytest
import torch

needs_compiler = pytest.mark.skipif(
    tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 5),
    reason="before 2.5 torch.compile follows neither torch.amp.is_autocast_available nor os.environ",
)
