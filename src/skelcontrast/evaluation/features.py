"""Features of a frozen encoder: computed once, kept on the host, read by every protocol of this room."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from skelcontrast import _check, _progress
from skelcontrast.evaluation._feature_cache import content_key, open_folder, read_features, write_features
from skelcontrast.evaluation._frozen import frozen
from skelcontrast.skeleton import SkeletonLayout, Stream, to_stream


class Features(NamedTuple):
    """Features of a set of sequences and the classes these belong to.

    Attributes:
        features: Features (N, D), float32, on the CPU.
        labels: Classes (N,), int64, on the CPU.
    """

    features: Tensor
    labels: Tensor


@runtime_checkable
class SkeletonSource(Protocol):
    """What `extract_features` needs of a data set; `skelcontrast.data.SkeletonDataset` has it."""

    @property
    def labels(self) -> Tensor:
        """Classes (N,)."""

    @property
    def layout(self) -> SkeletonLayout | None:
        """Skeleton of the sequences, where it is known."""

    def __len__(self) -> int:
        """Return N."""

    def take(self, indices: Tensor, /) -> Tensor:
        """Return some of the sequences (n, C, T, V, M)."""


def extract_features(
    encoder: nn.Module,
    data: SkeletonSource | Tensor,
    *,
    labels: Sequence[int] | Tensor | None = None,
    batch_size: int = 128,
    stream: Stream = "joint",
    layout: SkeletonLayout | None = None,
    device: torch.device | str | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> Features:
    """Run a frozen encoder over a data set.

    The encoder works in evaluation mode, without gradients; afterwards each of its submodules is back in the mode it
    was in. No augmentation is applied and the order of the sequences is kept; they come in the type of the encoder's
    parameters.

    With a `cache` folder, features are stored under a key made of the encoder (its state, its buffers and the structure
    that it prints), of every number of the sequences and of the stream. A file found there is used only if its checksum
    holds and four of the sequences, run again, have the stored features; else it is made anew. A setting of the encoder
    that is in none of these is therefore noticed only if it changes the features of those four: let the module's
    ``extra_repr`` name such settings, or use a folder for each.

    Args:
        encoder: Any module that maps (N, C, T, V, M) to (N, D).
        data: A data set, or sequences (N, C, T, V, M).
        labels: Classes (N,). Those of the data set unless given; a tensor of sequences needs them.
        batch_size: Sequences per forward pass; changes memory and time, not the features.
        stream: What the encoder sees of the sequences: joints, bones or motion.
        layout: Skeleton that the bone and motion streams are computed on. That of the data set unless given.
        device: Where the forward passes run. The encoder's own device unless given; the encoder is not moved.
        cache: Folder to keep features in, made if absent; None to keep none. Files appear whole or not at all.
        progress: Whether progress is shown, on the standard error stream.

    Returns:
        The features (N, D), float32, and the labels (N,), both on the CPU.

    Raises:
        OSError: If `cache` cannot be written to, before the encoder runs; or the disk is full.
        TypeError: If `encoder` is no module with a forward or returns no tensor, or `data` is neither a data set nor a
            floating point tensor.
        ValueError: If shapes, labels, layout or device do not fit together.
        RuntimeError: If the encoder is not frozen: a submodule stays in training mode, batch norm works on the
            statistics of the batch, or a buffer changes. Its buffers are put back.

    Example:
        >>> encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5))
        >>> x = torch.arange(6.0).reshape(2, 3, 1, 1, 1)
        >>> extract_features(encoder, x, labels=[1, 0])
        Features(features=tensor([[0., 1., 2.],
                [3., 4., 5.]]), labels=tensor([1, 0]))
        >>> encoder.training
        True
    """
    owner = "extract_features"
    batch_size = _check.integer(owner, "batch_size", batch_size, 1)
    read, classes, layout = _unpack(owner, data, labels, layout)
    check_stream(owner, stream, layout, source="data")
    _check_encoder(owner, encoder)
    where, dtype = _device(owner, encoder, device), encoder_dtype(encoder)

    def run(rows: Tensor, *, shown: bool = False) -> Tensor:
        outputs = []
        with _progress.progress("features", len(rows), shown=shown) as advance:
            for part in torch.split(rows, batch_size):
                x = read(part).to(where)
                if layout is not None:
                    x = to_stream(x, stream, layout)
                outputs.append(_output(owner, encoder(x.to(dtype or x.dtype)), len(x)))
                advance(len(x))
        return torch.cat(outputs).cpu()

    everything = torch.arange(len(classes), device="cpu")
    with frozen(owner, encoder):
        if cache is None:
            features = run(everything, shown=progress)
        else:
            folder = Path(cache)
            if folder.exists() and not folder.is_dir():
                _check.fail(owner, "cache", "be a folder", f"the file {folder}")
            path = folder / f"features-{content_key(encoder, read, len(classes), stream, layout)}.npz"
            stored = read_features(path, len(classes))
            if stored is not None and _agrees(stored, run):
                features = stored
            else:
                open_folder(folder)
                features = run(everything, shown=progress)
                write_features(path, features)
    return Features(features, classes)


def _check_encoder(owner: str, encoder: object) -> None:
    """Check that an encoder can be called, which `MoCo` and the methods cannot."""
    # That of the object: a compiled or scripted module has its own, and not of its class.
    if not isinstance(encoder, nn.Module) or getattr(encoder.forward, "__func__", None) is nn.Module.forward:
        must = "be a module with a forward from (N, C, T, V, M) to (N, D)"
        hint = "Of AimCLR pass `model.encoder`, of MoCo `net.query_encoder`."
        _check.fail(owner, "encoder", must, type(encoder).__name__, hint=hint, kind=TypeError)


def encoder_device(encoder: nn.Module) -> torch.device | None:
    """Return the device of an encoder; None if it has neither parameters nor buffers, and so is anywhere."""
    first = next(encoder.parameters(), next(encoder.buffers(), None))
    return None if first is None else first.device


def encoder_dtype(encoder: nn.Module) -> torch.dtype | None:
    """Return the type of an encoder's parameters; None if it has none, and so computes in that of its input."""
    return next((one.dtype for one in encoder.parameters() if one.is_floating_point()), None)


def check_stream(owner: str, stream: Stream, layout: SkeletonLayout | None, *, source: str) -> None:
    """Check that a stream is known, and the layout that it is computed on."""
    _check.choice(owner, "stream", stream, get_args(Stream))
    if stream != "joint" and layout is None:
        _check.fail(owner, "layout", f"be given for the {stream} stream", None, hint=f"`{source}` names no layout.")


def check_features(
    owner: str, name: str, value: object, *, width: int | None = None, why: str = "to match the training features"
) -> Tensor:
    """Check features (N, D): a filled matrix of finite numbers, of the given width."""
    features = _check.tensor(owner, name, value)
    if width is None:
        _check.shape(owner, name, features, "N D")
    else:
        _check.shape(owner, name, features, "N D", D=width, why=why)
    if not features.numel():
        _check.fail(owner, name, "hold at least one row and one column", _check.show(features.shape))
    finite = features.isfinite()
    if not finite.all():
        bad = int((~finite.all(dim=1)).sum())
        _check.fail(owner, name, "be finite", f"NaN or infinity in {bad} of {len(features)} rows")
    return features


def check_integers(
    owner: str, name: str, value: object, axes: str = "N", *, why: str = "", hint: str = "", **sizes: int
) -> Tensor:
    """Check a tensor of integers, of one axis unless told otherwise; for the other arguments see `_check.shape`."""
    integers = _check.tensor(owner, name, value, floating=False)
    _check.shape(owner, name, integers, axes, why=why, hint=hint, **sizes)
    if integers.is_floating_point() or integers.is_complex() or integers.dtype == torch.bool:
        _check.fail(owner, name, "hold integers", integers.dtype, kind=TypeError)
    if integers.dtype in {torch.uint16, torch.uint32, torch.uint64}:  # torch stores them, and cannot compare them
        _check.fail(owner, name, "hold signed integers or uint8", integers.dtype, hint="Use `.long()`.", kind=TypeError)
    return integers


def check_sets(owner: str, train: Features, test: Features, *, names: tuple[str, str] = ("train", "test")) -> None:
    """Check two sets that belong together: filled, finite, of one width, on one device."""
    width: int | None = None
    hint = "Put both together: Features(features, labels)."
    for name, one in zip(names, (train, test), strict=True):
        if not isinstance(one, Features):
            _check.fail(owner, name, "be Features", type(one).__name__, hint=hint, kind=TypeError)
        features, labels = one
        why = f"to match `{names[0]}.features`"
        width = check_features(owner, f"{name}.features", features, width=width, why=why).shape[1]
        check_integers(owner, f"{name}.labels", labels, N=len(features), why="to match its features")
        for part, value in (("features", features), ("labels", labels)):
            _check.same_device(owner, f"{name}.{part}", value, f"{names[0]}.features", train.features.device)


def neighbor_numbers(owner: str, k: int | Sequence[int], rows: int, *, rows_are: str) -> tuple[int, ...]:
    """Return numbers of neighbours among so many rows as a tuple, whether one was given or several."""
    numbers = tuple(k) if isinstance(k, Sequence) else (k,)
    if not numbers:
        _check.fail(owner, "k", "name at least one number of neighbours", "none")
    hint = f"There are no more {rows_are} than that."
    return tuple(_check.integer(owner, "k", number, 1, rows, hint=hint) for number in numbers)


def directions(features: Tensor) -> Tensor:
    """Return features (N, D) of length one, in float64; on MPS, which has none, in float32.

    Those of an untrained encoder nearly all point one way, and in float32 their cosines are equal but for rounding.
    """
    wide = torch.float32 if features.device.type == "mps" else torch.float64
    return nn.functional.normalize(features.detach().to(wide), dim=1)


def check_classes_present(
    owner: str,
    train: Features | SkeletonSource,
    test: Features | SkeletonSource,
    *,
    names: tuple[str, str] = ("train", "test"),
) -> None:
    """Check that the first set holds every class of the second: nobody could recognise one it has never seen."""
    classes = torch.unique(test.labels)
    absent = classes[~torch.isin(classes, train.labels)].tolist()
    if absent:
        got = f"none of class {', '.join(map(str, absent[:5]))}{' and others' if len(absent) > 5 else ''}"
        _check.fail(owner, f"{names[0]}.labels", f"hold every class of `{names[1]}.labels`", got)


def _agrees(stored: Tensor, run: Callable[[Tensor], Tensor]) -> bool:
    """Tell whether a few sequences, run again, have the stored features, up to rounding on another device."""
    rows = torch.linspace(0, len(stored) - 1, min(len(stored), 4), device="cpu").round().long()
    found = run(rows)
    tolerance = 1e-3 * float(stored.abs().max())
    return found.shape[1] == stored.shape[1] and torch.allclose(found, stored[rows], 0, tolerance, equal_nan=True)


def _unpack(
    owner: str,
    data: SkeletonSource | Tensor,
    labels: Sequence[int] | Tensor | None,
    layout: SkeletonLayout | None,
) -> tuple[Callable[[Tensor], Tensor], Tensor, SkeletonLayout | None]:
    """Return how to read some sequences, the classes and the layout of a data set or a tensor."""
    if isinstance(data, Tensor):
        if labels is None:
            _check.fail(owner, "labels", "be given when `data` is a tensor", None)
        read: Callable[[Tensor], Tensor] = _check.skeletons(owner, "data", data).__getitem__
    elif isinstance(data, SkeletonSource):
        read = data.take
        labels = data.labels if labels is None else labels
        layout = data.layout if layout is None else layout
    else:
        _check.fail(owner, "data", "be a SkeletonDataset or a torch.Tensor", type(data).__name__, kind=TypeError)
    if not len(data):
        _check.fail(owner, "data", "hold at least one sequence", "none")
    classes = torch.as_tensor(labels, device="cpu")
    check_integers(owner, "labels", classes, N=len(data), why="to match `data`")
    return read, classes.to(torch.int64), layout


def _device(owner: str, encoder: nn.Module, device: torch.device | str | None) -> torch.device:
    """Return the device to run on: the given one, if the encoder is there, else the encoder's."""
    home = encoder_device(encoder)
    if device is None:
        return home or torch.device("cpu")
    wanted = torch.device(device)
    if home is not None and (wanted.type != home.type or wanted.index not in (None, home.index)):
        hint = "Move the encoder there first."
        _check.fail(owner, "device", f"be the device of `encoder` ({home})", wanted, hint=hint)
    return home or wanted


def _output(owner: str, output: object, rows: int) -> Tensor:
    """Check what the encoder returned."""
    if not isinstance(output, Tensor):
        _check.fail(owner, "encoder", "return one tensor (N, D)", type(output).__name__, kind=TypeError)
    if output.ndim != 2 or len(output) != rows:
        _check.fail(owner, "encoder", f"return features of shape ({rows}, D)", _check.show(output.shape))
    return output.float()
