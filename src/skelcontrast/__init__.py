"""Composable components for contrastive self-supervised learning on skeleton sequences.

Import the room you need: `skelcontrast.skeleton`, `.augment`, `.nn`, `.memory`, `.moco`, `.losses`, `.methods`,
`.data`, `.evaluation`, `.checkpoint`, `.cuda_graph`, `.viz`.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
