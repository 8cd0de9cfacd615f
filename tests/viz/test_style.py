"""What figures share: no global state, and a clear word where an optional package is missing."""

import sys

import pytest
import torch

from skelcontrast.skeleton import COCO_17
from skelcontrast.viz import _style, draw_skeleton, plot_curves, plot_embedding


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    install = (
        r'Install it with `pip install "skelcontrast\[plots\]"`, or in a checkout `pip install -e "\.\[plots\]"`\.'
    )
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=f"plot_embedding: this figure needs scikit-learn. {install}"):
        plot_embedding({"a": (torch.eye(4), torch.zeros(4).long())})
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=f"plot_curves: this figure needs Matplotlib. {install}"):
        plot_curves([{"epoch": 1, "total": 2.0}])
    with pytest.raises(ImportError, match=f"draw_skeleton: this figure needs Matplotlib. {install}"):
        draw_skeleton(None, torch.rand(2, 17), COCO_17)  # type: ignore[arg-type]  # there are no axes without it


def test_no_figure_touches_pyplot() -> None:
    before = "matplotlib.pyplot" in sys.modules
    plot_curves([{"epoch": 1, "total": 2.0}])
    assert ("matplotlib.pyplot" in sys.modules) == before


def test_colours_start_again_when_they_run_out() -> None:
    assert _style.cycle(12) == [*_style.SERIES, *_style.SERIES[:2]]
