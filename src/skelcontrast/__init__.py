"""Composable components for contrastive self-supervised learning on skeleton sequences.

Import the subpackage you need: `skelcontrast.skeleton`, `.augment`, `.nn`, `.memory`, `.moco`, `.losses`, `.methods`,
`.data`, `.evaluation`, `.checkpoint`, `.cuda_graph`, `.viz`. After ``import skelcontrast`` alone, each is imported when
it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from skelcontrast import augment as augment
    from skelcontrast import checkpoint as checkpoint
    from skelcontrast import cuda_graph as cuda_graph
    from skelcontrast import data as data
    from skelcontrast import evaluation as evaluation
    from skelcontrast import losses as losses
    from skelcontrast import memory as memory
    from skelcontrast import methods as methods
    from skelcontrast import moco as moco
    from skelcontrast import nn as nn
    from skelcontrast import skeleton as skeleton
    from skelcontrast import viz as viz
else:
    SUBPACKAGES = (
        *("augment", "checkpoint", "cuda_graph", "data", "evaluation", "losses"),
        *("memory", "methods", "moco", "nn", "skeleton", "viz"),
    )

    def __getattr__(name: str) -> object:
        """Import a subpackage; from then on it is simply there."""
        if name in SUBPACKAGES:
            return import_module(f"skelcontrast.{name}")
        raise AttributeError(f"module 'skelcontrast' has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *SUBPACKAGES})


__version__ = "0.1.0"

__all__ = ["__version__"]
