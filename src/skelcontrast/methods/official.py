"""Reader for the authors' released checkpoints."""

import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, overload

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast.methods.aimclr import AimCLR
from skelcontrast.methods.skeletonclr import SkeletonCLR
from skelcontrast.nn import STGCN, ProjectionHead
from skelcontrast.skeleton import KINECT_V1_20, NTU_RGBD_25, OPENPOSE_18, SkeletonLayout

_LAYOUTS: dict[int, SkeletonLayout] = {layout.num_joints: layout for layout in (NTU_RGBD_25, KINECT_V1_20, OPENPOSE_18)}
_SIDES = ("encoder_q", "encoder_k")
# What torch's reader raises, as it comes, on bytes that are none of its files or not all of one.
_UNREADABLE = (
    pickle.UnpicklingError,
    struct.error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


@overload
def load_official(path: str | Path, *, method: Literal["aimclr"] = "aimclr") -> AimCLR: ...
@overload
def load_official(path: str | Path, *, method: Literal["skeletonclr"]) -> SkeletonCLR: ...
def load_official(path: str | Path, *, method: Literal["aimclr", "skeletonclr"] = "aimclr") -> AimCLR | SkeletonCLR:
    """Build a model from a state dict of the released AimCLR or SkeletonCLR code.

    Widths, joints, embedding and queue size are read from the file. The model computes as the released code does:
    absent bodies are averaged in, and an `AimCLR` has the ``"official"`` preset. Training goes on where the file ends.

    Args:
        path: File with the state dict; read with ``weights_only=True``. A ``module.`` prefix is accepted.
        method: Which model to build. The two methods save the same keys.

    Returns:
        The model, in training mode, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, wants to import something, is no state dict, holds the graph of another
            skeleton, or a key is missing, left over, of another shape or not finite. All such keys are named.

    References:
        Key names: repository Levigty/AimCLR, ``net/aimclr.py`` and ``net/st_gcn.py``.

    Example:
        >>> load_official("no_such_file.pt")
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] No such file or directory: 'no_such_file.pt'
    """
    _check.choice("load_official", "method", method, ("aimclr", "skeletonclr"))
    official = _read(Path(path))
    encoder, head, queue_size = _build(path, official)
    model = (
        AimCLR(encoder, head, queue_size=queue_size, preset="official")
        if method == "aimclr"
        else SkeletonCLR(encoder, head, queue_size=queue_size, key_init="independent")
    )
    state = model.state_dict()
    names = {ours: _official_name(ours) for ours in state if ours != "bank.enqueued"}
    graph = encoder.get_submodule("blocks.0.gcn").get_buffer("adjacency")
    shapes = {theirs: _official_shape(theirs, state[ours]) for ours, theirs in names.items()}
    _compare(path, official, {**shapes, **{f"{side}.A": tuple(graph.shape) for side in _SIDES}})
    _check_values(path, official, graph, encoder.layout.name, queue_size)
    for ours, theirs in names.items():
        value = official[theirs]
        if theirs == "queue":
            value = value.T  # the released queue keeps a key per column
        state[ours] = value.reshape(state[ours].shape)
    state["bank.enqueued"] = torch.tensor(queue_size)
    model.load_state_dict(state)
    return model


def _read(path: Path) -> dict[str, Tensor]:
    with path.open("rb") as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except _UNREADABLE as error:
            wanted = re.search(r"GLOBAL (\S+)", str(error))
            got = f"which asks for {wanted[1]}" if wanted else f"which torch cannot read ({type(error).__name__})"
            hint = "Loading it could run any code." if wanted else "Is it damaged, or something else?"
            _check.fail("load_official", "path", "be a whole file of tensors", f"{path}, {got}", hint=hint)
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        _check.fail("load_official", "path", "hold a state dict of tensors", f"{type(content).__name__} in {path}")
    return {re.sub(r"^module\.", "", key): value for key, value in content.items()}


def _build(path: str | Path, official: Mapping[str, Tensor]) -> tuple[STGCN, ProjectionHead, int]:
    """Read the sizes that the shapes in the file imply."""
    numbered = {match[1] for key in official if (match := re.match(r"encoder_q\.st_gcn_networks\.(\d+)\.", key))}
    blocks = range(max(len(numbered), 1))
    needed = (
        "encoder_q.A",
        "encoder_q.data_bn.weight",
        *(f"encoder_q.st_gcn_networks.{i}.tcn.2.weight" for i in blocks),
        "encoder_q.fc.0.weight",
        "encoder_q.fc.2.weight",
        "queue",
    )
    missing = [key for key in needed if key not in official]
    if missing:
        _check.fail(
            "load_official", "path", "hold a pre-training state dict", f"{path} with missing: {', '.join(missing)}"
        )

    def sizes(key: str, axes: str) -> torch.Size:
        return _check.shape("load_official", key, official[key], axes, why=f"in {path}").shape

    joints = sizes("encoder_q.A", "P V V")[-1]
    if joints not in _LAYOUTS:
        _check.fail("load_official", "path", f"have {sorted(_LAYOUTS)} joints", f"{joints} in {path}")
    channels = [sizes(f"encoder_q.st_gcn_networks.{i}.tcn.2.weight", "C C T 1")[0] for i in blocks]
    # The released network halves the frame rate where it doubles the width for the first and second time.
    strides = [2 if i in (4, 7) else 1 for i in blocks]
    coordinates = max(sizes("encoder_q.data_bn.weight", "V*C")[0] // joints, 1)
    encoder = STGCN(_LAYOUTS[joints], in_channels=coordinates, channels=channels, strides=strides, bodies="all")
    hidden, out = sizes("encoder_q.fc.0.weight", "H D")[0], sizes("encoder_q.fc.2.weight", "D H")[0]
    return encoder, ProjectionHead(channels[-1], out, hidden_features=hidden), sizes("queue", "D K")[1]


def _official_name(ours: str) -> str:
    if ours.startswith("bank."):
        return {"bank.keys": "queue", "bank.pointer": "queue_ptr"}[ours]
    name = ours.removeprefix("moco.")
    for side, theirs in (("query", "encoder_q"), ("key", "encoder_k")):
        name = re.sub(rf"^{side}_encoder\.(module\.)?", f"{theirs}.", name)
        name = re.sub(rf"^{side}_head\.(module\.)?layers\.", f"{theirs}.fc.", name)
    name = re.sub(r"\.blocks\.(\d+)\.gcn\.edge_importance$", r".edge_importance.\1", name)
    name = re.sub(r"\.blocks\.(\d+)\.gcn\.(weight|bias)$", r".blocks.\1.gcn.conv.\2", name)
    return name.replace(".blocks.", ".st_gcn_networks.")


def _official_shape(name: str, ours: Tensor) -> tuple[int, ...]:
    if name == "queue":
        return tuple(ours.T.shape)
    if name == "queue_ptr":
        return (1,)
    if name.endswith(".gcn.conv.weight"):
        partitions, out_channels, in_channels = ours.shape
        return (partitions * out_channels, in_channels, 1, 1)
    if name.endswith(".gcn.conv.bias"):
        return (ours.numel(),)
    return tuple(ours.shape)


def _compare(path: str | Path, official: Mapping[str, Tensor], wanted: Mapping[str, tuple[int, ...]]) -> None:
    missing = sorted(wanted.keys() - official.keys())
    left_over = sorted(official.keys() - wanted.keys())
    reshaped = sorted(
        f"{key} {_check.show(official[key].shape)} where {_check.show(shape)} is expected"
        for key, shape in wanted.items()
        if key in official and tuple(official[key].shape) != shape
    )
    problems = [
        f"{title}: {', '.join(keys)}"
        for title, keys in (("missing", missing), ("left over", left_over), ("of another shape", reshaped))
        if keys
    ]
    if problems:
        must = "hold the keys of the model that it describes"
        _check.fail("load_official", "path", must, f"{path} with {'; '.join(problems)}")


def _check_values(
    path: str | Path, official: Mapping[str, Tensor], graph: Tensor, layout: str, queue_size: int
) -> None:
    strange = sorted(key for key, value in official.items() if not value.isfinite().all())
    if strange:
        _check.fail(
            "load_official", "path", "hold finite numbers", f"NaN or infinity in {', '.join(strange)} of {path}"
        )
    _check.integer("load_official", "queue_ptr", int(official["queue_ptr"]), 0, queue_size - 1)
    for side in _SIDES:
        if not torch.allclose(official[f"{side}.A"].float(), graph, atol=1e-6):
            must = f"hold the spatial graph of layout {layout!r}"
            _check.fail("load_official", "path", must, f"another in {side}.A of {path}")
