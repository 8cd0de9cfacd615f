"""Training a classifier on skeletons: finetuned as a whole, with few labels, or from scratch."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from numbers import Integral
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from skelcontrast import _check, _progress
from skelcontrast._state_check import module_misfits, optimizer_misfits
from skelcontrast.data import SkeletonDataset, SkeletonLoader
from skelcontrast.evaluation._heads import step_factors
from skelcontrast.evaluation.features import (
    check_classes_present,
    check_stream,
    encoder_device,
    encoder_dtype,
    extract_features,
)
from skelcontrast.evaluation.metrics import topk_accuracy
from skelcontrast.skeleton import SkeletonLayout, Stream, to_stream

BatchNormPolicy: TypeAlias = Literal["train", "frozen"]
Augmentation: TypeAlias = Callable[[Tensor, torch.Generator], Tensor]
OWNER = "train_classifier"


class ClassifierResult(NamedTuple):
    """A trained classifier and what it says about the test set.

    Attributes:
        accuracy: Share of test sequences classified rightly after the last epoch, in [0, 1].
        top5: Share of them whose class is among the five highest logits.
        logits: Logits (L, num_classes) of the test sequences, in their order, on the CPU; `Scores` takes them to fuse
            streams.
        classifier: The trained encoder and its linear layer, from (N, C, T, V, M) to (N, num_classes).
        log: One record per epoch: ``epoch`` from 1, ``lr``, mean ``loss``, and ``top1`` and ``top5`` where measured.
    """

    accuracy: float
    top5: float
    logits: Tensor
    classifier: nn.Module
    log: tuple[dict[str, float], ...]


def train_classifier(
    encoder: nn.Module,
    train: SkeletonDataset,
    test: SkeletonDataset,
    *,
    epochs: int,
    lr: float | Callable[[int], float],
    milestones: Sequence[int] = (),
    gamma: float = 0.1,
    batch_size: int = 128,
    momentum: float = 0.9,
    weight_decay: float = 1e-4,
    nesterov: bool = False,
    batch_norm: BatchNormPolicy = "train",
    augmentation: Augmentation | None = None,
    stream: Stream = "joint",
    layout: SkeletonLayout | None = None,
    layer: nn.Module | None = None,
    eval_every: int = 1,
    seed: int = 0,
    num_workers: int = 0,
    resume: Mapping[str, Any] | None = None,
    on_epoch: Callable[[dict[str, Any]], object] | None = None,
    progress: bool = False,
) -> ClassifierResult:
    """Train encoder and linear layer together with softmax cross-entropy and SGD, and measure them on a test set.

    One loop for three protocols. Finetuning: a pre-trained encoder and all of the training set. Semi-supervised: a
    ``train.subset`` of it. Supervised: an encoder that was not trained before. A copy of the encoder is trained; the
    one given stays as it is. Parameters that need no gradient are not trained.

    Everything random follows from `seed`, dropout included, and the global generators are not touched. So a resumed run
    ends with the same bits as one that was never interrupted.

    Args:
        encoder: Module from (N, C, T, V, M) to features (N, D), on the device to train on.
        train: Sequences to train on.
        test: Sequences to measure on; no class that `train` lacks.
        epochs: Passes over the training set.
        lr: Learning rate, above zero, or a function that gives it for an epoch, counted from 0. The paper names none;
            its authors name 0.01 and 0.001 for finetuning with frozen batch norm.
        milestones: Numbers of epochs, at least 0, after which the learning rate is multiplied by `gamma`.
        gamma: Factor on the learning rate, in (0, 1].
        batch_size: Sequences in a batch. What does not fill the last one is left out of the epoch, but a training set
            smaller than a batch is one batch.
        momentum: Momentum, in [0, 1).
        weight_decay: Weight decay of every parameter, at least 0.
        nesterov: Whether the momentum is Nesterov's; it needs one above zero.
        batch_norm: ``"train"`` is the ordinary training mode. ``"frozen"`` keeps the whole model in evaluation mode,
            as the released code does: batch norm uses and keeps its running statistics, and dropout is off.
        augmentation: What is done to every training batch (N, C, T, V, M), with a generator to draw from, such as
            ``augment.normal()``; nothing unless given.
        stream: What the encoder sees of the sequences, computed after the augmentation.
        layout: Skeleton that the bone and motion streams are computed on. That of the data set unless given.
        layer: Module from features to logits. A linear layer, its weights drawn from N(0, 0.02), unless given; that
            needs an encoder with ``out_features``. It is copied, too.
        eval_every: Epochs between measurements on the test set; the last epoch is always measured.
        seed: Seed, at least 0, of the layer, of the order of the sequences, of augmentation and dropout.
        num_workers: Processes that read batches ahead.
        resume: What an earlier run gave to `on_epoch`, to go on from there; it is not changed. `momentum`,
            `weight_decay` and `nesterov` must be those of that run. Learning rates are those given now.
        on_epoch: Called after every epoch with the state of the run as plain data: ``classifier``, ``optimizer``,
            ``log``. Store it at once: the tensors change in the next epoch.
        progress: Whether progress is shown, on the standard error stream.

    Returns:
        Accuracies and logits of the last epoch, the trained classifier and the log.

    Raises:
        TypeError: If an argument is of the wrong kind, or the encoder has no ``out_features``.
        ValueError: If an option is out of range, a class is absent from `train`, or `resume` does not fit.
        RuntimeError: If a loss or a logit is no longer finite.

    Note:
        Deviates from the released code, which reports the best epoch on the test set; here the last one counts.

    References:
        AimCLR, Section 4.2: finetune and semi-supervised protocols; batch size, and momentum and weight decay of the
        pre-training.

    Example:
        >>> from skelcontrast.data import SyntheticActions
        >>> train, test = SyntheticActions(subjects=2, repetitions=1, frames=4).split("cross-subject")
        >>> encoder = nn.Sequential(nn.Flatten(), nn.Linear(train[0].x.numel(), 8))
        >>> states = []
        >>> result = train_classifier(
        ...     encoder, train, test, epochs=2, lr=0.01, layer=nn.Linear(8, train.num_classes),
        ...     on_epoch=lambda state: states.append(len(state["log"])),
        ... )
        >>> states, result.logits.shape == (len(test), train.num_classes), sorted(result.log[-1])
        ([1, 2], True, ['epoch', 'loss', 'lr', 'top1', 'top5'])
    """
    epochs = _check.integer(OWNER, "epochs", epochs, 1)
    batch_size = _check.integer(OWNER, "batch_size", batch_size, 1)
    eval_every = _check.integer(OWNER, "eval_every", eval_every, 1)
    seed = _check.integer(OWNER, "seed", seed, 0)
    momentum = _check.interval(OWNER, "momentum", momentum, 0, 1, open_high=True)
    weight_decay = _check.interval(OWNER, "weight_decay", weight_decay, 0)
    if nesterov and momentum == 0:
        _check.fail(OWNER, "momentum", "be above 0 with `nesterov`", momentum)
    _check.choice(OWNER, "batch_norm", batch_norm, get_args(BatchNormPolicy))
    rates = _rates(lr, epochs, milestones, gamma)
    for name, data in {"train": train, "test": test}.items():
        if not isinstance(data, SkeletonDataset):
            _check.fail(OWNER, name, "be a SkeletonDataset", type(data).__name__, kind=TypeError)
    check_classes_present(OWNER, train, test)
    layout = train.layout if layout is None else layout
    check_stream(OWNER, stream, layout, source="train")

    device, dtype = encoder_device(encoder) or torch.device("cpu"), encoder_dtype(encoder)
    layer = _linear(encoder, train.num_classes, seed) if layer is None else copy.deepcopy(layer)
    classifier = nn.Sequential(copy.deepcopy(encoder), layer).to(device)
    trained = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=rates[0], momentum=momentum, weight_decay=weight_decay, nesterov=nesterov)
    log = [] if resume is None else _restore(resume, classifier, optimizer)
    loader = SkeletonLoader(
        train,
        min(batch_size, len(train)),
        seed=seed,
        num_workers=num_workers,
        device=device,
        rank=0,  # all of the sequences, also under torch.distributed: nothing here averages gradients
        world_size=1,
    )

    def measure() -> tuple[Tensor, float, float]:
        logits = extract_features(classifier, test, batch_size=batch_size, stream=stream, layout=layout).features
        _check_finite(logits, "a logit")
        top1, top5 = (topk_accuracy(logits, test.labels, k=min(k, logits.shape[1])) for k in (1, 5))
        return logits, top1, top5

    def prepare(x: Tensor, generator: torch.Generator) -> Tensor:
        if augmentation is not None:
            x = augmentation(x, generator)
        x = x if layout is None else to_stream(x, stream, layout)
        return x.to(dtype or x.dtype)

    measured, samples = None, len(loader) * loader.batch_size
    with _progress.progress("training", epochs * samples, done=len(log) * samples, shown=progress) as advance:
        for epoch in range(len(log), epochs):
            optimizer.param_groups[0]["lr"] = rates[epoch]
            loader.set_epoch(epoch)
            classifier.train(batch_norm == "train")
            record = {
                "epoch": epoch + 1.0,
                "lr": rates[epoch],
                "loss": _train_epoch(classifier, optimizer, loader, prepare, advance),
            }
            if (epoch + 1) % eval_every == 0 or epoch + 1 == epochs:
                measured = measure()
                record |= {"top1": measured[1], "top5": measured[2]}
            log.append(record)
            if on_epoch is not None:
                on_epoch({"classifier": classifier.state_dict(), "optimizer": optimizer.state_dict(), "log": [*log]})
    logits, top1, top5 = measured or measure()  # nothing was, if the run that is resumed was already over
    return ClassifierResult(top1, top5, logits, classifier, tuple(log))


def _train_epoch(
    classifier: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: SkeletonLoader,
    prepare: Callable[[Tensor, torch.Generator], Tensor],
    advance: Callable[[int], None],
) -> float:
    """Train for one epoch and return the mean loss; it stays on the device until the epoch ends."""
    epoch, losses = loader.epoch, []
    with _own_random_numbers(loader.device) as seed_everything:
        for batch in loader:
            # Dropout draws from the global generators. Not the seed of the augmentation, lest the two be alike.
            seed_everything(batch.generator.initial_seed() ^ 1)
            loss = functional.cross_entropy(classifier(prepare(batch.x, batch.generator)), batch.labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
            advance(len(batch.x))
    mean = torch.stack(losses).mean()
    _check_finite(mean, f"a loss in epoch {epoch + 1}")
    return float(mean)


def _check_finite(values: Tensor, what: str) -> None:
    if not values.isfinite().all():
        _check.fail(OWNER, "lr", "be low enough for this encoder", f"{what} that is not finite", kind=RuntimeError)


@contextmanager
def _own_random_numbers(device: torch.device) -> Iterator[Callable[[int], None]]:
    """Give a way to seed the generators that dropout draws from, and put them back as they were afterwards."""
    on_cuda = device.type == "cuda"

    def seed_everything(seed: int) -> None:
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed devices that nobody puts back
        if on_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)

    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        yield seed_everything


def _rates(lr: float | Callable[[int], float], epochs: int, milestones: Sequence[int], gamma: float) -> list[float]:
    """Return the learning rate of every epoch."""
    gamma = _check.interval(OWNER, "gamma", gamma, 0, 1, open_low=True)
    if not callable(lr):
        _check.interval(OWNER, "lr", lr, 0, open_low=True)
    factors = step_factors(OWNER, epochs, milestones, gamma)
    return [float(lr(epoch) if callable(lr) else lr) * factor for epoch, factor in enumerate(factors)]


def _linear(encoder: nn.Module, num_classes: int, seed: int) -> nn.Linear:
    width = getattr(encoder, "out_features", None)
    if not isinstance(width, Integral):  # NumPy's integers too
        must = "have an integer `out_features`, the feature size, where no `layer` is given"
        _check.fail(OWNER, "encoder", must, width, kind=TypeError)
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, int(width), num_classes)  # its own draws would be global ones
    nn.init.normal_(layer.weight, std=0.02, generator=torch.Generator().manual_seed(seed))
    nn.init.zeros_(layer.bias)
    return layer.to(encoder_dtype(encoder))


def _restore(
    state: Mapping[str, Any], classifier: nn.Module, optimizer: torch.optim.Optimizer
) -> list[dict[str, float]]:
    """Load what an earlier run gave to `on_epoch`, if it fits, and return its log."""
    missing = [name for name in ("classifier", "optimizer", "log") if name not in state]
    if missing:
        _check.fail(OWNER, "resume", "hold classifier, optimizer and log", f"a mapping without {', '.join(missing)}")
    problems = module_misfits("classifier", classifier, state["classifier"])
    problems = problems or optimizer_misfits("optimizer", optimizer, state["optimizer"])
    if problems:
        must = "fit this encoder and layer"
        _check.fail(OWNER, "resume", must, f"a state where {'; '.join(problems[:4])}")
    given, stored = optimizer.param_groups[0], state["optimizer"]["param_groups"][0]
    for name in ("momentum", "weight_decay", "nesterov"):
        if stored.get(name) != given[name]:
            _check.fail(OWNER, name, f"be that of the run that is resumed, {stored.get(name)}", given[name])
    classifier.load_state_dict(state["classifier"])
    optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))  # which would else go on with the caller's tensors
    return [dict(record) for record in state["log"]]
