"""A dataset from the user's own recordings, each of its own length."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from skelcontrast import _check
from skelcontrast.data._array import Array
from skelcontrast.data._fields import Booleans, Integers
from skelcontrast.data.dataset import SkeletonDataset
from skelcontrast.data.geometry import centre, fill_missing, resample
from skelcontrast.skeleton import SkeletonLayout
from skelcontrast.skeleton.layout import check_layout

Missing: TypeAlias = Literal["refuse", "fill"]
OWNER = "from_clips"
OTHER_ORDERS = {"T V C": (2, 0, 1), "T C V": (1, 0, 2), "T V C M": (2, 0, 1, 3), "M T V C": (3, 1, 2, 0)}
"""Orders of the axes that recordings often come in, and how each becomes C T V M."""


def from_clips(
    clips: Iterable[Array | Tensor],
    labels: Integers,
    *,
    layout: SkeletonLayout,
    frames: int = 50,
    missing: Missing = "refuse",
    centred: bool = True,
    origin: str | None = None,
    names: Sequence[str] | None = None,
    subjects: Integers | None = None,
    cameras: Integers | None = None,
    class_names: Sequence[str] | None = None,
    protocols: Mapping[str, Booleans] | None = None,
) -> SkeletonDataset:
    """Make a dataset of recordings that differ in length and in the number of bodies.

    Each recording is centred and resampled to `frames` frames by itself, in its own precision, and kept as float32.
    Recordings with fewer bodies than others get absent ones, all zeros, at the end.

    Args:
        clips: Joint positions, one (C, T, V, M) per recording, or (C, T, V) for one body; T and M may differ. Of a
            generator one at a time is asked for.
        labels: Class of each recording (N,), integers from 0.
        layout: The skeleton; V must be its number of joints. C is 3, or 2 for poses in the image.
        frames: Number of frames T of every sequence, at least 1.
        missing: What is done about joints that were not seen, marked by NaN: ``"refuse"`` them, or ``"fill"`` their
            places, see `fill_missing`.
        centred: Whether a joint is subtracted in every frame, see `centre`.
        origin: Name of that joint; the layout's `centre` unless given. Not with ``centred=False``.
        names: Name of each recording, N different ones; ``"0"``, ``"1"`` and so on unless given.
        subjects: Who is seen in each recording (N,), integers.
        cameras: Which camera recorded each (N,), integers.
        class_names: Name of each class, in the order of the labels.
        protocols: Named ways to split the set: for each name N truth values, true for training.

    Returns:
        A dataset (N, C, `frames`, V, M) in memory, M the largest number of bodies.

    Raises:
        TypeError: If a recording is not a floating-point array or tensor, or as `SkeletonDataset` says.
        ValueError: If there is no recording, one has another shape, another number of coordinates than the first, no
            frame, infinity, or NaN that is not to be filled; if `origin` is no joint, or nothing is centred; or as
            `SkeletonDataset` says.

    Example:
        Two recordings of 40 and 61 frames, the second with two people:

        >>> from skelcontrast.skeleton import COCO_17
        >>> clips = [np.zeros((2, 40, 17)), np.zeros((2, 61, 17, 2))]
        >>> from_clips(clips, [0, 1], layout=COCO_17, frames=30)
        SkeletonDataset(2 sequences, C=2, T=30, V=17, M=2, 2 classes)
    """
    check_layout(OWNER, layout)
    frames = _check.integer(OWNER, "frames", frames, 1)
    _check.choice(OWNER, "missing", missing, get_args(Missing))
    if origin is not None:
        _check.choice(OWNER, "origin", origin, layout.joints)
        if not centred:
            _check.fail(OWNER, "origin", "be absent when `centred` is False", repr(origin))
    sequences: list[Tensor] = []
    for row, clip in enumerate(clips):
        x = _checked(f"clips[{row}]", clip, layout, missing)
        if sequences and len(x) != len(sequences[0]):
            must = f"have the {len(sequences[0])} coordinates of clips[0]"
            _check.fail(OWNER, f"clips[{row}]", must, _check.show(x.shape))
        x = centre(x[None], layout, joint=origin) if centred else x[None]
        sequences.append(resample(x, frames)[0].float())
    if not sequences:
        _check.fail(OWNER, "clips", "hold at least one recording", "none")
    bodies = max(sequence.shape[3] for sequence in sequences)
    data = torch.stack([functional.pad(sequence, (0, bodies - sequence.shape[3])) for sequence in sequences])
    return SkeletonDataset(
        data,
        labels,
        names=[str(row) for row in range(len(data))] if names is None else names,
        subjects=subjects,
        cameras=cameras,
        layout=layout,
        class_names=class_names,
        protocols=protocols,
    )


def _checked(name: str, clip: object, layout: SkeletonLayout, missing: Missing) -> Tensor:
    """Return a recording as a finite tensor (C, T, V, M)."""
    if not isinstance(clip, np.ndarray | Tensor):
        _check.fail(OWNER, name, "be a numpy.ndarray or a torch.Tensor", type(clip).__name__, kind=TypeError)
    x = _check.tensor(OWNER, name, clip if isinstance(clip, Tensor) else _tensor(name, clip)).detach().cpu()
    x = x[..., None] if x.ndim == 3 else x
    joints = layout.num_joints
    if x.ndim != 4 or x.shape[0] not in (2, 3) or x.shape[2] != joints or 0 in x.shape:
        must = f"have shape (C, T, {joints}, M) or (C, T, {joints}), C 2 or 3 and none 0, for layout '{layout.name}'"
        _check.fail(OWNER, name, must, _check.show(clip.shape), hint=_order_hint(clip, joints))
    if missing == "fill" and x.isnan().any():
        x = fill_missing(x[None], layout)[0]
    if not x.isfinite().all():
        frame = int((~x.isfinite()).nonzero()[:, 1].min())
        hint = "Joints that were not seen are filled with missing='fill'." if x.isnan().any() else ""
        _check.fail(OWNER, name, "hold finite numbers only", f"NaN or infinity in frame {frame}", hint=hint)
    return x.float() if x.dtype in {torch.float16, torch.bfloat16} else x


def _order_hint(clip: Array | Tensor, joints: int) -> str:
    """Say how to bring the axes into order, where the shape suggests which they are."""
    turn = "permute" if isinstance(clip, Tensor) else "transpose"
    for order, places in OTHER_ORDERS.items():
        sizes = dict(zip(order.split(), clip.shape, strict=False))
        if len(sizes) == clip.ndim == len(places) and sizes["V"] == joints and sizes["C"] in (2, 3):
            return f"Is it ({', '.join(sizes)})? Pass `clip.{turn}{places}`."
    return ""


def _tensor(name: str, clip: Array) -> Tensor:
    if clip.dtype.kind != "f":
        hint = f"Pass `{name}.astype(numpy.float32)`." if clip.dtype.kind in "iu" else ""
        _check.fail(OWNER, name, "be floating point", clip.dtype, hint=hint, kind=TypeError)
    # A copy in this machine's byte order: arrays may be read-only, reversed or strided.
    return torch.from_numpy(np.array(clip, dtype=clip.dtype.newbyteorder("="), order="C"))
