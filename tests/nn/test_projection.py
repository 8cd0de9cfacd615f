"""The projection head."""

import re
from typing import Any

import pytest
import torch

from skelcontrast.nn import ProjectionHead


def test_is_linear_relu_linear() -> None:
    head = ProjectionHead(6, 4, hidden_features=5).double()
    x = torch.randn(3, 6, dtype=torch.float64)
    first, _, second = head.layers
    expected = torch.stack(
        [(row @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias for row in x]
    )
    torch.testing.assert_close(head(x), expected)
    assert torch.autograd.gradcheck(head, x.requires_grad_())


def test_sizes() -> None:
    head = ProjectionHead(256, 128)
    assert (head.in_features, head.out_features) == (256, 128)
    assert sum(parameter.numel() for parameter in head.parameters()) == 920_068 - 821_380
    assert head(torch.zeros(0, 256)).shape == (0, 128)


def test_repr_shows_the_layers() -> None:
    text = repr(ProjectionHead(8, 2, hidden_features=4))
    assert "Linear(in_features=8, out_features=4" in text
    assert "Linear(in_features=4, out_features=2" in text


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"in_features": 0}, ValueError, "`in_features` must be at least 1, got 0."),
        ({"out_features": -1}, ValueError, "`out_features` must be at least 1, got -1."),
        ({"hidden_features": 0}, ValueError, "`hidden_features` must be at least 1, got 0."),
        ({"out_features": 1.5}, TypeError, "`out_features` must be an integer, got 1.5."),
    ],
)
def test_errors_of_the_constructor(change: dict[str, Any], kind: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"in_features": 4, "out_features": 2, **change}
    with pytest.raises(kind, match=re.escape(f"ProjectionHead: {message}")):
        ProjectionHead(**arguments)


def test_errors_of_the_input() -> None:
    head = ProjectionHead(4, 2)
    with pytest.raises(ValueError, match=re.escape("ProjectionHead: `features` must have shape (N, 4), got (3, 5).")):
        head(torch.zeros(3, 5))
    with pytest.raises(ValueError, match=re.escape("ProjectionHead: `features` must have shape (N, 4), got (4,).")):
        head(torch.zeros(4))
    with pytest.raises(TypeError, match=re.escape("ProjectionHead: `features` must be a torch.Tensor, got list.")):
        head([[0.0]])
