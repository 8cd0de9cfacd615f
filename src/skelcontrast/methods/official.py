"""Readers for the authors' released checkpoints."""

import pickle
import re
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, NoReturn, overload

import torch
from torch import Tensor, nn

from skelcontrast import _check
from skelcontrast.methods.aimclr import AimCLR
from skelcontrast.methods.skeletonclr import SkeletonCLR
from skelcontrast.nn import STGCN, ProjectionHead
from skelcontrast.skeleton import KINECT_V1_20, NTU_RGBD_25, OPENPOSE_18, SkeletonLayout

_LAYOUTS: dict[int, SkeletonLayout] = {layout.num_joints: layout for layout in (NTU_RGBD_25, KINECT_V1_20, OPENPOSE_18)}
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
    absent bodies are averaged in, and an `AimCLR` has the ``"official"`` preset. Training can go on from there.

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
    file = _read("load_official", path, hint="Of other released files, `load_official_encoder` reads encoders.")
    _need(
        file,
        "a pre-training state dict",
        [*_needed(file, "encoder_q"), "encoder_q.fc.0.weight", "encoder_q.fc.2.weight", "queue"],
    )
    encoder = _build(file, "encoder_q")
    hidden, out = file.sizes("encoder_q.fc.0.weight", "H D")[0], file.sizes("encoder_q.fc.2.weight", "D H")[0]
    head = ProjectionHead(encoder.out_features, out, hidden_features=hidden)
    queue_size = file.sizes("queue", "D K")[1]
    model = (
        AimCLR(encoder, head, queue_size=queue_size, preset="official")
        if method == "aimclr"
        else SkeletonCLR(encoder, head, queue_size=queue_size, key_init="independent")
    )
    names = {ours: _official_name(ours) for ours in model.state_dict() if ours != "bank.enqueued"}
    _fill(file, model, names, encoder, ("encoder_q", "encoder_k"))
    _check.integer(file.owner, "queue_ptr", int(model.bank.pointer), 0, queue_size - 1)
    model.bank.enqueued.fill_(queue_size)
    return model


def load_official_encoder(path: str | Path, *, name: str = "encoder_q") -> STGCN:
    """Build one encoder from a state dict of the released AimCLR, SkeletonCLR or CrosSCLR code.

    The file may be of pre-training, linear evaluation or finetuning; what else it holds (heads, queues, other encoders)
    is ignored. The encoder computes as the released code does: absent bodies are averaged in.

    Args:
        path: File with the state dict; read with ``weights_only=True``. A ``module.`` prefix is accepted.
        name: Which one, by its name in the released model: ``"encoder_q"``, the query side; ``"encoder_k"``, the key
            side. In CrosSCLR these are of the joint stream, and ``"encoder_q_motion"``, ``"encoder_q_bone"`` of the
            others.

    Returns:
        The encoder, in training mode, on the CPU.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, wants to import something, is no state dict, has no such encoder or that of
            another skeleton, or a key of it is missing, left over, of another shape or not finite. All such keys are
            named.

    References:
        Key names: repositories Levigty/AimCLR and LinguoLi/CrosSCLR, ``net/crossclr_3views.py`` and ``net/st_gcn.py``.

    Example:
        >>> load_official_encoder("no_such_file.pt", name="encoder_q_bone")
        Traceback (most recent call last):
        ...
        FileNotFoundError: [Errno 2] No such file or directory: 'no_such_file.pt'
    """
    file = _read("load_official_encoder", path)
    names = sorted({match[1] for key in file.tensors if (match := re.match(r"(\w+)\.st_gcn_networks\.", key))})
    if name not in names:
        got = f"{name!r}, where {path} has {', '.join(map(repr, names)) or 'none'}"
        _check.fail(file.owner, "name", "be an encoder of the file", got)
    own = {key: value for key, value in file.tensors.items() if re.match(rf"{re.escape(name)}\.(?!fc\.)", key)}
    file = file._replace(tensors=own)
    _need(file, "a whole encoder", _needed(file, name))
    encoder = _build(file, name)
    _fill(file, encoder, {ours: f"{name}.{_official_part(ours)}" for ours in encoder.state_dict()}, encoder, (name,))
    return encoder


class _File(NamedTuple):
    """What a file holds, and what errors name."""

    owner: str
    path: str | Path
    tensors: Mapping[str, Tensor]
    hint: str = ""

    def fail(self, must: str, got: str, *, hint: str = "") -> NoReturn:
        _check.fail(self.owner, "path", must, got, hint=hint)

    def sizes(self, key: str, axes: str) -> torch.Size:
        return _check.shape(self.owner, key, self.tensors[key], axes, why=f"in {self.path}").shape


def _read(owner: str, path: str | Path, *, hint: str = "") -> _File:
    file = _File(owner, path, {}, hint)
    with Path(path).open("rb") as opened:
        try:
            content = torch.load(opened, map_location="cpu", weights_only=True)
        except _UNREADABLE as error:
            wanted = re.search(r"GLOBAL (\S+)", str(error))
            got = f"which asks for {wanted[1]}" if wanted else f"which torch cannot read ({type(error).__name__})"
            advice = "Loading it could run any code." if wanted else "Is it damaged, or something else?"
            file.fail("be a whole file of tensors", f"{path}, {got}", hint=advice)
    if not isinstance(content, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in content.items()
    ):
        file.fail("hold a state dict of tensors", f"{type(content).__name__} in {path}")
    return file._replace(tensors={re.sub(r"^module\.", "", key): value for key, value in content.items()})


def _needed(file: _File, name: str) -> list[str]:
    """Return the keys of an encoder that sizes are read from."""
    return [
        f"{name}.A",
        f"{name}.data_bn.weight",
        *(f"{name}.st_gcn_networks.{i}.tcn.2.weight" for i in _blocks(file, name)),
    ]


def _blocks(file: _File, name: str) -> range:
    """Return the numbers of the blocks that an encoder seems to have."""
    pattern = re.compile(rf"{re.escape(name)}\.st_gcn_networks\.(\d+)\.")
    return range(max(len({match[1] for key in file.tensors if (match := pattern.match(key))}), 1))


def _need(file: _File, what: str, keys: Sequence[str]) -> None:
    missing = [key for key in keys if key not in file.tensors]
    if missing:
        file.fail(f"hold {what}", f"{file.path} with missing: {', '.join(missing)}", hint=file.hint)


def _build(file: _File, name: str) -> STGCN:
    """Make an encoder of the sizes that the shapes in the file imply."""
    joints = file.sizes(f"{name}.A", "P V V")[-1]
    if joints not in _LAYOUTS:
        file.fail(f"have {sorted(_LAYOUTS)} joints", f"{joints} in {file.path}")
    blocks = _blocks(file, name)
    channels = [file.sizes(f"{name}.st_gcn_networks.{i}.tcn.2.weight", "C C T 1")[0] for i in blocks]
    # The released network halves the frame rate where it doubles the width for the first and second time.
    strides = [2 if i in (4, 7) else 1 for i in blocks]
    coordinates = max(file.sizes(f"{name}.data_bn.weight", "V*C")[0] // joints, 1)
    return STGCN(_LAYOUTS[joints], in_channels=coordinates, channels=channels, strides=strides, bodies="all")


def _fill(file: _File, model: nn.Module, names: Mapping[str, str], encoder: STGCN, sides: Sequence[str]) -> None:
    """Load a model, whose encoders are like `encoder`, from a file that holds the official `names` and no others."""
    state = model.state_dict()
    graph = encoder.get_submodule("blocks.0.gcn").get_buffer("adjacency")
    shapes = {theirs: _official_shape(theirs, state[ours]) for ours, theirs in names.items()}
    _compare(file, {**shapes, **{f"{side}.A": tuple(graph.shape) for side in sides}})
    strange = sorted(key for key, value in file.tensors.items() if not value.isfinite().all())
    if strange:
        file.fail("hold finite numbers", f"NaN or infinity in {', '.join(strange)} of {file.path}")
    for side in sides:
        if not torch.allclose(file.tensors[f"{side}.A"].float(), graph, atol=1e-6):
            must = f"hold the spatial graph of layout {encoder.layout.name!r}"
            file.fail(must, f"another in {side}.A of {file.path}")
    for ours, theirs in names.items():
        value = file.tensors[theirs]
        if theirs == "queue":
            value = value.T  # the released queue keeps a key per column
        state[ours] = value.reshape(state[ours].shape)
    model.load_state_dict(state)


def _official_name(ours: str) -> str:
    if ours.startswith("bank."):
        return {"bank.keys": "queue", "bank.pointer": "queue_ptr"}[ours]
    _, module, part = ours.split(".", 2)
    side, kind = module.split("_")
    part, name = part.removeprefix("module."), {"query": "encoder_q", "key": "encoder_k"}[side]
    return f"{name}.{_official_part(part)}" if kind == "encoder" else f"{name}.fc.{part.removeprefix('layers.')}"


def _official_part(ours: str) -> str:
    """Return the released name of an encoder's parameter or buffer."""
    name = re.sub(r"^blocks\.(\d+)\.gcn\.edge_importance$", r"edge_importance.\1", ours)
    name = re.sub(r"\.gcn\.(weight|bias)$", r".gcn.conv.\1", name)
    return re.sub(r"^blocks\.", "st_gcn_networks.", name)


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


def _compare(file: _File, wanted: Mapping[str, tuple[int, ...]]) -> None:
    missing = sorted(wanted.keys() - file.tensors.keys())
    left_over = sorted(file.tensors.keys() - wanted.keys())
    reshaped = sorted(
        f"{key} {_check.show(file.tensors[key].shape)} where {_check.show(shape)} is expected"
        for key, shape in wanted.items()
        if key in file.tensors and tuple(file.tensors[key].shape) != shape
    )
    problems = [
        f"{title}: {', '.join(keys)}"
        for title, keys in (("missing", missing), ("left over", left_over), ("of another shape", reshaped))
        if keys
    ]
    if problems:
        got = f"{file.path} with {'; '.join(problems)}"
        file.fail("hold the keys of the model that it describes", got, hint=file.hint)
