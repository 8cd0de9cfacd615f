"""Evaluate what `aimclr_ntu.py` or `crossclr_ntu.py` trained, by any protocol; of several streams also their fusion.

    python examples/evaluate.py runs/joint
    python examples/evaluate.py runs/joint runs/bone runs/motion --protocol exact --confusion confusion.png
    python examples/evaluate.py runs/joint --protocol semi --share 0.1 --epochs 50 --lr 0.01
    python examples/evaluate.py runs/joint --data OTHER --data-protocol xview         transfer: another prepared folder
    python examples/evaluate.py runs/joint --batch-norm extreme     with the running statistics of extreme views

Protocols: knn; linear (the released schedule on standardised features, or with --raw, as released, on them as they
are); exact (the minimum of the penalised cross-entropy, no learning rate to choose); retrieval; person (how often a
training clip's nearest neighbour among the others is of the same person); finetune (whole model, all labels); semi
(whole model, a share of the labels). Streams are fused by the names of the samples, with the paper's weights.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, cast

import torch
from torch.optim.swa_utils import update_bn

import aimclr_ntu as pretraining
from aimclr_ntu import errors_in_one_line
from skelcontrast import augment, checkpoint, evaluation, methods, nn, viz
from skelcontrast.data import SkeletonDataset, SkeletonLoader
from skelcontrast.evaluation import Features, Scores
from skelcontrast.skeleton import NTU_RGBD_25, Stream, to_stream

PROTOCOLS = ("knn", "linear", "exact", "retrieval", "person", "finetune", "semi")
UNSCORED = ("knn", "retrieval", "person")
"""Protocols that give no scores of the test samples."""
USED_BY: dict[str, tuple[str, ...]] = {  # options that only these protocols read
    "k": ("knn", "retrieval"),
    "raw": ("linear",),
    "share": ("semi",),
    **dict.fromkeys(("epochs", "lr", "frozen"), ("finetune", "semi")),
    **dict.fromkeys(("classes", "confusion"), tuple(one for one in PROTOCOLS if one not in UNSCORED)),
}
ROWS = 1024  # clips compared with all others at a time


class Encoder(NamedTuple):
    """The encoder of one stream of a run, and the data that it is evaluated on."""

    stream: Stream
    encoder: nn.STGCN
    train: SkeletonDataset
    test: SkeletonDataset
    args: argparse.Namespace


class Found(NamedTuple):
    """What a protocol says: numbers by name, and scores of the test samples where there are any to fuse."""

    values: dict[str, float]
    scores: Scores | None


def stop(message: str) -> NoReturn:
    """End with a word on what cannot be evaluated."""
    raise SystemExit(f"evaluate.py: {message}")


def read_settings(folder: Path) -> argparse.Namespace:
    """The arguments that a run was started with."""
    path = folder / "settings.json"
    if not path.exists():
        problem = "has no settings.json, so it is not the folder of a run" if folder.exists() else "does not exist"
        stop(f"{folder} {problem}.")
    args = pretraining.parse(["--resume"])  # arguments that are newer than the run have their defaults
    stored = json.loads(path.read_text())
    if stored.get("method") == "supervised":
        stop(f"{folder} was trained with labels; its result.json has its accuracy.")
    vars(args).update(stored, device=args.device)  # it may have been trained on a device that is not here
    args.data, args.out = None if args.data is None else Path(args.data), folder
    return args


def load_run(folder: Path, *, name: str | None = "last.pt", **changed: Any) -> list[Encoder]:
    """Build the encoders of a run and load a checkpoint of it, or leave them untrained where `name` is None.

    Keyword arguments replace settings of the run, such as where its data lies.
    """
    args = read_settings(folder)
    if changed.get("data") is not None and changed.get("dataset", args.dataset) == "synthetic":
        stop(f"{folder} was trained on synthetic clips: say with --dataset what --data holds.")
    if changed.get("dataset", args.dataset) != args.dataset:
        vars(args).update(data=None, protocol=None)  # the run's belong to another kind of data
    vars(args).update(changed)
    if changed.keys() & {"data", "dataset", "protocol"}:
        pretraining.settle_data(args, stop)
    streams: Sequence[Stream] = vars(args).get("streams") or (args.stream,)
    parts: dict[str, methods.AimCLR | methods.SkeletonCLR]
    with errors_in_one_line():
        train, test = pretraining.load_data(args)
        torch.manual_seed(args.seed)
        parts = {stream: pretraining.build_model(args, train) for stream in streams}
    if name is not None:
        path = folder / name
        if not path.exists():
            kept = ", ".join(sorted(file.name for file in folder.glob("*.pt"))) or "none"
            stop(f"{folder} has no checkpoint {name}; there are: {kept}.")
        weights = checkpoint.load(path)["model"]
        for stream, part in parts.items():  # the encoders alone: the bank's size follows from the data of the run
            side = f"streams.{stream}.moco.query_encoder." if "streams" in vars(args) else "moco.query_encoder."
            own = {key.removeprefix(side): value for key, value in weights.items() if key.startswith(side)}
            try:
                part.encoder.load_state_dict(own)
            except RuntimeError as error:
                layout = "no layout" if train.layout is None else f"the skeleton {train.layout.name}"
                stop(f"{path} does not fit an encoder for data of {layout}: {error}")
    return [
        Encoder(cast("Stream", stream), cast("nn.STGCN", part.encoder.to(args.device)), train, test, args)
        for stream, part in parts.items()
    ]


def reestimate_batch_norm(one: Encoder, views: str) -> None:
    """Replace the running statistics of batch norm by the means over four passes of the training clips, augmented."""
    layout, size = one.train.layout or NTU_RGBD_25, min(128, len(one.train))
    loader = SkeletonLoader(one.train, size, seed=one.args.seed, device=one.args.device)
    settings = {"preset": one.args.preset, "amplitude": one.args.shear}
    augmentation = {
        "plain": augment.Compose(),
        "normal": augment.normal(**settings),
        "extreme": augment.extreme(layout, **settings),
    }[views]

    def batches() -> Iterator[torch.Tensor]:
        for epoch in range(4):
            loader.set_epoch(epoch)
            for batch in loader:
                yield to_stream(augmentation(batch.x, batch.generator), one.stream, layout)

    update_bn(batches(), one.encoder)
    one.encoder.eval()


def measure(
    one: Encoder,
    protocol: str,
    *,
    k: Sequence[int] = (1,),
    share: float = 0.1,
    epochs: int = 30,
    lr: float = 0.02,
    frozen: bool = False,
    raw: bool = False,
) -> Found:
    """Evaluate one encoder by one protocol."""
    if protocol in ("finetune", "semi"):
        train = one.train
        if protocol == "semi":
            train = train.subset(evaluation.semi_supervised_indices(train.labels, share, seed=one.args.seed))
        return finetune(one, train, epochs=epochs, lr=lr, frozen=frozen)
    known, new = features(one)
    if protocol == "person":
        return Found({"same person": same_person(known.features, one.train)}, None)
    if protocol == "knn":
        found = evaluation.knn_accuracy(known, new, k=tuple(k))
        return Found({f"kNN {number}": accuracy for number, accuracy in found.items()}, None)
    if protocol == "retrieval":
        ranked = evaluation.retrieval(known, new, k=tuple(k), progress=True)
        recall = {f"recall at {number}": value for number, value in ranked.recall.items()}
        return Found({"mean average precision": ranked.mean_average_precision, **recall}, None)
    if protocol == "exact":
        probe = evaluation.logistic_probe(known, new)
    else:
        probe = evaluation.linear_probe(known, new, standardize=not raw, seed=one.args.seed)
    return scored(Scores(probe.logits, new.labels, one.test.names))


def features(one: Encoder) -> tuple[Features, Features]:
    """Features of both parts."""
    train, test = (
        evaluation.extract_features(one.encoder, part, stream=one.stream, progress=True)
        for part in (one.train, one.test)
    )
    return train, test


def same_person(features: torch.Tensor, clips: SkeletonDataset) -> float:
    """How often the nearest of all other clips, by cosine in float64 (see `knn_predict`), is of the same person."""
    if clips.subjects is None:
        stop("--protocol person needs data that says who is seen in each clip.")
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    nearest = []
    for start in range(0, len(unit), ROWS):
        similarity = unit[start : start + ROWS] @ unit.T
        similarity.diagonal(start).fill_(-torch.inf)
        nearest.append(similarity.argmax(dim=1))
    return float((clips.subjects[torch.cat(nearest)] == clips.subjects).double().mean())


def finetune(one: Encoder, train: SkeletonDataset, *, epochs: int, lr: float, frozen: bool) -> Found:
    """Train the whole model with labels; the rate falls along a half cosine."""
    schedule = argparse.Namespace(epochs=epochs, schedule="cosine", warmup=0)
    trained = evaluation.train_classifier(
        one.encoder,
        train,
        one.test,
        epochs=epochs,
        lr=lambda epoch: lr * pretraining.learning_rate_factor(schedule, epoch),
        batch_size=min(one.args.batch_size, len(train)),
        batch_norm="frozen" if frozen else "train",
        augmentation=augment.normal(preset=one.args.preset, amplitude=one.args.shear),
        stream=one.stream,
        eval_every=epochs,
        seed=one.args.seed,
        progress=True,
    )
    return scored(Scores(trained.logits, one.test.labels, one.test.names))


def scored(scores: Scores) -> Found:
    """Accuracies that scores come to, with the bounds of a 95 % interval over the test samples."""
    right = scores.logits.argmax(dim=1) == scores.labels
    _, low, high = evaluation.bootstrap_interval(right.double())
    top5 = evaluation.topk_accuracy(scores.logits, scores.labels, k=min(5, scores.logits.shape[1]))
    values = {"top-1": scores.accuracy, "top-5": top5, "low": low, "high": high}
    return Found(values, scores)


def fused(found: dict[str, Found]) -> Found:
    """The weighted sum of the streams' scores."""
    return scored(evaluation.fuse({name: one.scores for name, one in found.items() if one.scores is not None}))


def details(scores: Scores, test: SkeletonDataset, picture: Path | None) -> list[str]:
    """Accuracy of every class, the worst first, and a picture of which are taken for which."""
    predictions, count = scores.logits.argmax(dim=1), scores.logits.shape[1]
    names = test.class_names or [str(label) for label in range(count)]
    if picture is not None:
        counts = evaluation.confusion_matrix(predictions, scores.labels, num_classes=count)
        viz.plot_confusion(counts, names).savefig(picture, dpi=110)
    by_class = evaluation.per_class_accuracy(predictions, scores.labels, num_classes=count)
    return [f"  {by_class[label]:6.1%}  {names[label]}" for label in by_class.argsort().tolist()]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs, a stream each")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="linear", help="default: %(default)s")
    parser.add_argument("--checkpoint", default="last.pt", help="such as epoch-100.pt (default: %(default)s)")
    parser.add_argument("--untrained", action="store_true", help="the encoders as they were before the first step")
    parser.add_argument(
        "--batch-norm",
        choices=["plain", "normal", "extreme"],
        help="re-estimate batch norm's running statistics on training clips augmented so (default: keep them)",
    )
    parser.add_argument("--data", type=Path, help="where the data lies, or another data set of the same skeleton")
    parser.add_argument("--dataset", choices=pretraining.KINDS, help="kind of --data (default: as in the run)")
    parser.add_argument("--data-protocol", help="split of --data (default: as in the run)")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument(
        "--device", default=device, help="also of a run that was trained on another (default: %(default)s)"
    )
    parser.add_argument("--k", type=int, nargs="+", default=[1, 5, 20], help="for knn and retrieval (default: 1 5 20)")
    parser.add_argument("--share", type=float, default=0.1, help="labels used, for semi (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=30, help="for finetune and semi (default: %(default)s)")
    parser.add_argument("--lr", type=float, default=0.02, help="for finetune and semi (default: %(default)s)")
    parser.add_argument("--frozen", action="store_true", help="batch norm keeps its statistics while finetuning")
    parser.add_argument("--raw", action="store_true", help="features as they are, for linear")
    parser.add_argument("--classes", action="store_true", help="print the accuracy of every class")
    parser.add_argument("--confusion", type=Path, help="draw the confusion matrix into this file")
    parser.add_argument("--json", type=Path, help="write the numbers, and the arguments behind them, into this file")
    args = parser.parse_args(argv)
    for option, protocols in USED_BY.items():
        if args.protocol not in protocols and vars(args)[option] != parser.get_default(option):
            parser.error(f"--{option} is for --protocol {' or '.join(protocols)}, got {args.protocol}")
    return args


@errors_in_one_line()
def main(argv: Sequence[str] | None = None) -> dict[str, dict[str, float]]:
    args = parse(argv)
    changed = {"data": args.data, "dataset": args.dataset, "protocol": args.data_protocol, "device": args.device}
    name = None if args.untrained else args.checkpoint
    given = {setting: value for setting, value in changed.items() if value is not None}
    encoders = [one for folder in args.runs for one in load_run(folder, name=name, **given)]
    found: dict[str, Found] = {}
    for one in encoders:
        if one.stream in found:
            stop(f"two of the runs hold the stream {one.stream!r}; give one of each.")
        if args.batch_norm is not None:
            reestimate_batch_norm(one, args.batch_norm)
        options = {"share": args.share, "epochs": args.epochs, "lr": args.lr, "frozen": args.frozen, "raw": args.raw}
        found[one.stream] = measure(one, args.protocol, k=args.k, **options)
        print(line(one.stream, found[one.stream]))
    if len(found) > 1 and args.protocol not in UNSCORED:
        found["fused"] = fused(found)
        print(line("fused", found["fused"]))
    *_, last = found.values()
    if last.scores is not None and (args.classes or args.confusion):
        lines = details(last.scores, encoders[0].test, args.confusion)
        print("\n".join(lines) if args.classes else f"confusion matrix in {args.confusion}")
    values = {stream: one.values for stream, one in found.items()}
    if args.json is not None:
        asked = {name: value for name, value in vars(args).items() if name not in ("classes", "confusion", "json")}
        read = encoders[0].args
        asked |= {"data": read.data, "dataset": read.dataset, "data_protocol": read.protocol, "seed": read.seed}
        checkpoint.write_json_lines(args.json, [{**asked, **values}])
    return values


def line(stream: str, found: Found) -> str:
    """One line of what is printed."""
    values = dict(found.values)
    interval = f"   95 % interval {values.pop('low'):.1%} to {values.pop('high'):.1%}" if "low" in values else ""
    return f"{stream:8}" + "  ".join(f"{name} {value:.1%}" for name, value in values.items()) + interval


if __name__ == "__main__":
    main()
