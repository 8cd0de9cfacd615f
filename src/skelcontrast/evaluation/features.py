"""Features of a frozen encoder: computed once, kept on the host, read by every protocol of this room."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from skelcontrast import _check
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
) -> Features:
    """Run a frozen encoder over a data set.

    The encoder works in evaluation mode, without gradients; afterwards each of its submodules is back in the mode it
    was in. No augmentation is applied and the order of the sequences is kept.

    Args:
        encoder: Any module that maps (N, C, T, V, M) to (N, D).
        data: A data set, or sequences (N, C, T, V, M).
        labels: Classes (N,). Those of the data set unless given; a tensor of sequences needs them.
        batch_size: Sequences per forward pass; changes memory and time, not the features.
        stream: What the encoder sees of the sequences: joints, bones or motion.
        layout: Skeleton that the bone and motion streams are computed on. That of the data set unless given.
        device: Where the forward passes run. The encoder's own device unless given; the encoder is not moved.

    Returns:
        The features (N, D), float32, and the labels (N,), both on the CPU.

    Raises:
        TypeError: If `data` is neither a data set nor a floating point tensor, or the encoder returns no tensor.
        ValueError: If shapes, labels, layout or device do not fit together.

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
    _check.integer(owner, "batch_size", batch_size, 1)
    _check.choice(owner, "stream", stream, ("joint", "bone", "motion"))
    read, classes, layout = _unpack(owner, data, labels, layout)
    if stream != "joint" and layout is None:
        _check.fail(owner, "layout", f"be given for the {stream} stream", None, hint="`data` names no layout.")
    where = _device(owner, encoder, device)

    training = {module: module.training for module in encoder.modules()}
    outputs: list[Tensor] = []
    encoder.eval()
    try:
        with torch.inference_mode():
            for rows in torch.split(torch.arange(len(classes)), batch_size):
                x = read(rows).to(where)
                if layout is not None:
                    x = to_stream(x, stream, layout)
                outputs.append(_output(owner, encoder(x), len(x)))
    finally:
        for module, flag in training.items():
            module.training = flag
    # Joined outside of inference mode, as an inference tensor could not be trained on later, and moved in one piece.
    return Features(torch.cat(outputs).cpu(), classes)


def check_features(owner: str, name: str, value: object, *, width: int | None = None) -> Tensor:
    """Check features (N, D): a filled matrix of finite numbers, of the given width."""
    features = _check.tensor(owner, name, value)
    if width is None:
        _check.shape(owner, name, features, "N D")
    else:
        _check.shape(owner, name, features, "N D", D=width, why="to match the training features")
    if not features.numel():
        _check.fail(owner, name, "hold at least one row and one column", _check.show(features.shape))
    finite = features.isfinite()
    if not finite.all():
        bad = int((~finite.all(dim=1)).sum())
        _check.fail(owner, name, "be finite", f"NaN or infinity in {bad} of {len(features)} rows")
    return features


def check_labels(owner: str, name: str, value: object, *, rows: int, why: str) -> Tensor:
    """Check labels (N,): a vector of integers with one entry per row."""
    labels = _check.tensor(owner, name, value, floating=False)
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        _check.fail(owner, name, "hold integers", labels.dtype, kind=TypeError)
    return _check.shape(owner, name, labels, "N", N=rows, why=why)


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
    classes = check_labels(owner, "labels", torch.as_tensor(labels), rows=len(data), why="to match `data`")
    return read, classes.to("cpu", torch.int64), layout


def _device(owner: str, encoder: nn.Module, device: torch.device | str | None) -> torch.device:
    """Return the device to run on: the given one, if the encoder is there, else the encoder's."""
    first = next(encoder.parameters(), next(encoder.buffers(), None))
    home = torch.device("cpu") if first is None else first.device
    if device is None:
        return home
    wanted = torch.device(device)
    if first is not None and (wanted.type != home.type or wanted.index not in (None, home.index)):
        _check.fail(
            owner, "device", f"be the device of `encoder` ({home})", wanted, hint="Move the encoder there first."
        )
    return home if first is not None else wanted


def _output(owner: str, output: object, rows: int) -> Tensor:
    """Check what the encoder returned."""
    if not isinstance(output, Tensor):
        _check.fail(owner, "encoder", "return one tensor (N, D)", type(output).__name__, kind=TypeError)
    if output.ndim != 2 or len(output) != rows:
        _check.fail(owner, "encoder", f"return features of shape ({rows}, D)", _check.show(output.shape))
    return output.float()
