r"""Pre-train AimCLR or SkeletonCLR, watch it with kNN, finish with a linear probe. Copy this file and change it.

Defaults are the paper's (Section 4.2, NTU RGB+D 60), else the released code's. Try it without any download:

    python examples/aimclr_ntu.py --frames 24 --width 4 --dropout 0 --epochs 20 --batch-size 32 --lr 0.02 \
        --momentum 0.99 --warmup 2

Real data: prepare it once (``python -m skelcontrast.data prepare ntu60 RAW FOLDER``), then ``--data FOLDER --protocol
xsub``. For a few hundred clips see ``docs/guide/small_data.md``.

Interrupted runs go on with ``--resume`` and the same settings. Only what leaves the recorded numbers true may change:
--data (moved), --device, --workers, --resident, --fast, --keep, --eval-every, and without a cosine --epochs.
"""

import math
import re
import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import torch
from torch import Tensor

from skelcontrast import augment, checkpoint, data, evaluation, losses, memory, methods, nn
from skelcontrast.cuda_graph import CapturedStep
from skelcontrast.skeleton import NTU_RGBD_25, SkeletonLayout, to_stream

Model: TypeAlias = methods.AimCLR | methods.SkeletonCLR
Loss: TypeAlias = methods.AimCLRLoss | methods.SkeletonCLRLoss
Compare: TypeAlias = Callable[[Tensor, tuple[Any, ...]], tuple[Tensor, Loss]]
Step: TypeAlias = Callable[[Tensor, torch.Generator], dict[str, Tensor]]
KINDS = ("prepared", "synthetic", "utd-mhad", "official-npy")
IDLE = {  # options that do nothing, by the option and value beside which they do not
    ("no_drop", True): ("keep_margin",),
    ("method", "skeletonclr"): ("no_drop", "keep_margin", "positives", "extreme_from", "mine_from"),
    ("schedule", "cosine"): ("lr_drop",),
    ("dataset", "synthetic"): ("origin",),
    ("dataset", "prepared"): ("origin",),
    ("dataset", "official-npy"): ("origin", "frames"),
}
FREE = {"epochs", "device", "workers", "keep", "eval_every", "out", "resume", "fast", "resident", "data"}


def parse(argv: Sequence[str] | None) -> Namespace:
    parser = ArgumentParser(description=__doc__, formatter_class=RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--dataset", choices=KINDS, help="default: prepared with --data, synthetic without")
    add("--data", type=Path, help="folder: a prepared one, of .mat files (utd-mhad), or of the authors (official-npy)")
    add("--protocol", help="split: xsub, xview, xset, ... (default: xsub; cross-subject of synthetic)")
    add("--resident", action="store_true", help="keep the training clips on the device")
    add("--frames", type=int, default=50, help="frames T of a sequence (default: %(default)s)")
    add("--origin", default="hip centre", help="joint at the origin, utd-mhad only (default: %(default)s)")
    add("--stream", choices=["joint", "bone", "motion"], default="joint", help="default: %(default)s")
    add("--method", choices=["aimclr", "skeletonclr"], default="aimclr", help="default: %(default)s")
    add("--preset", choices=["paper", "official"], default="paper", help="where paper and code differ (default: paper)")
    add("--positives", choices=["preset", "sum", "mean", "logsumexp"], default="preset", help="NNM (default: preset)")
    add("--views", choices=["normal", "extreme"], default="normal", help="of query and key (default: %(default)s)")
    add("--shear", type=float, default=0.5, help="amplitude of the shear (default: %(default)s, as released)")
    add("--no-drop", action="store_true", help="AimCLR without the dropped view of EADM")
    add("--keep-margin", type=float, default=0.7, help="EADM's margin on attention (default: %(default)s)")
    add("--epochs", type=int, default=300, help="default: %(default)s")
    add("--batch-size", type=int, default=128, help="default: %(default)s")
    add("--lr", type=float, default=0.1, help="learning rate (default: %(default)s)")
    add("--lr-drop", type=int, default=250, help="epoch from which the rate is a tenth (default: %(default)s)")
    add("--schedule", choices=["step", "cosine"], default="step", help="default: step; cosine ends the rate at zero")
    add("--warmup", type=int, default=0, help="epochs in which the rate rises linearly (default: %(default)s)")
    add("--extreme-from", type=int, default=0, help="epoch from which D3M joins the loss (default: %(default)s)")
    add("--mine-from", type=int, default=150, help="epoch from which NNM replaces InfoNCE (default: %(default)s)")
    add("--queue-size", type=int, help="keys in the bank (default: 32768; of fewer clips than that, half as many)")
    add("--momentum", type=float, default=0.999, help="of the key encoder (default: %(default)s)")
    add("--temperature", type=float, default=0.07, help="of the losses (default: %(default)s)")
    add("--width", type=int, default=16, help="channels of the first block (default: %(default)s, as released)")
    add("--dropout", type=float, default=0.5, help="of the encoder (default: %(default)s)")
    add("--embedding", type=int, default=128, help="embedding size D (default: %(default)s)")
    add("--eval-every", type=int, default=5, help="epochs between kNN evaluations (default: %(default)s)")
    add("--keep", type=int, nargs="+", default=[], metavar="EPOCH", help="keep the model after these epochs")
    add("--seed", type=int, default=0, help="default: %(default)s")
    add("--workers", type=int, default=0, help="processes that load clips (default: %(default)s)")
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu", help="default: %(default)s here")
    add("--bf16", action="store_true", help="bfloat16 autocast; losses stay float32")
    add("--fast", action="store_true", help="compile the step (which takes a while) and launch it as a CUDA graph")
    add("--out", type=Path, default=Path("runs/aimclr"), help="folder of the run (default: %(default)s)")
    add("--resume", action="store_true", help="go on from the checkpoint in --out, by the same settings (see above)")
    args = parser.parse_args(argv)
    settle_data(args, parser.error)
    for (name, value), idle in IDLE.items():
        for option in (one for one in idle if vars(args)[name] == value):
            if vars(args)[option] != parser.get_default(option):
                beside = name if value is True else f"{name} {value}"
                parser.error(f"--{option} does nothing with --{beside}".replace("_", "-"))
    for option, least in {"epochs": 1, "eval_every": 1, "warmup": 0}.items():
        if vars(args)[option] < least:
            parser.error(f"--{option.replace('_', '-')} must be at least {least}, got {vars(args)[option]}")
    if args.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(f"--device {args.device} needs a CUDA device, and torch finds none here")
    if args.fast and not args.device.startswith("cuda"):
        parser.error(f"--fast needs a CUDA device, got --device {args.device}")
    if not args.resume and (args.out / "settings.json").exists():
        parser.error(f"{args.out} holds a run: pass --resume to go on with it, or another --out")
    return args


def settle_data(args: Namespace, error: Callable[[str], NoReturn]) -> None:
    """Fill in what the data is and how it is split, or say which options do not fit."""
    args.dataset = args.dataset or ("synthetic" if args.data is None else "prepared")
    if (args.dataset == "synthetic") != (args.data is None):
        error(f"--dataset {args.dataset} {'needs --data FOLDER' if args.data is None else 'reads no --data'}")
    if args.dataset == "official-npy" and args.protocol is not None:
        error("--dataset official-npy has no --protocol to choose: the folder holds a single split")
    args.protocol = args.protocol or {"synthetic": "cross-subject", "official-npy": None}.get(args.dataset, "xsub")
    args.data = None if args.data is None else args.data.absolute()  # so that a run is evaluated from anywhere


def check_resumed(args: Namespace) -> None:
    """Refuse to go on with a run by other settings than it was begun with; a cosine also needs its number of epochs."""
    if args.resume and (args.out / "last.pt").exists():
        free = FREE - ({"epochs"} if args.schedule == "cosine" else set())
        checkpoint.check_settings(args.out / "settings.json", vars(args), may_change=free)


def load_data(args: Namespace) -> tuple[data.SkeletonDataset, data.SkeletonDataset]:
    if args.dataset == "synthetic":
        return data.SyntheticActions(frames=args.frames).split(args.protocol)
    if args.dataset == "utd-mhad":
        return data.read_utd_mhad(args.data, frames=args.frames, origin=args.origin).split(args.protocol)
    if args.dataset == "prepared":
        return data.open_prepared(args.data, frames=args.frames, protocol=args.protocol).split(args.protocol)
    return data.read_official(args.data, "train"), data.read_official(args.data, "val")


def build_encoder(args: Namespace, train: data.SkeletonDataset) -> nn.STGCN:
    return nn.STGCN(
        train.layout or NTU_RGBD_25,
        in_channels=train.shape[1],
        channels=[args.width * factor for factor in (1, 1, 1, 1, 2, 2, 2, 4, 4, 16)],
        dropout=args.dropout,
        bodies="present" if args.preset == "paper" else "all",
    )


def build_model(args: Namespace, train: data.SkeletonDataset) -> Model:
    encoder = build_encoder(args, train)
    head = nn.ProjectionHead(encoder.out_features, args.embedding)
    wanted = 32768 if args.queue_size is None and len(train) >= 32768 else args.queue_size
    queue_size = memory.choose_queue_size(len(train), args.batch_size, wanted=wanted)
    shared: dict[str, Any] = {"queue_size": queue_size, "momentum": args.momentum, "temperature": args.temperature}
    if args.method == "skeletonclr":
        model: Model = methods.SkeletonCLR(encoder, head, **shared)
    else:
        drop = None if args.no_drop else nn.EADM.preset(args.preset, keep_margin=args.keep_margin)
        model = methods.AimCLR(encoder, head, drop=drop, positives=args.positives, preset=args.preset, **shared)
    if args.preset == "official":
        nn.normal_init_(model)  # which draws both sides anew, each by itself
    return model


def learning_rate_factor(args: Namespace, epoch: int) -> float:
    warm = min(1.0, (epoch + 1) / args.warmup) if args.warmup else 1.0
    if args.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * epoch / args.epochs))
    return warm * (0.1 if epoch >= args.lr_drop else 1.0)


def build_views(args: Namespace, layout: SkeletonLayout, *, extreme: bool = True) -> augment.Views:
    """The views of query and key, and the extreme one."""
    normal = augment.normal(preset=args.preset, amplitude=args.shear)
    hard = augment.extreme(layout, preset=args.preset, amplitude=args.shear)
    usual = hard if args.views == "extreme" else normal
    return augment.Views(usual, usual, *([hard] if extreme else []))


def build_compare(model: Model, views: augment.Views, layout: SkeletonLayout, args: Namespace, epoch: int) -> Compare:
    """What makes the views of clips, of what was drawn for them, and returns the keys for the bank and the losses."""
    apply = torch.compile(views.apply, fullgraph=True, dynamic=False) if args.fast else views.apply
    mining = {"mine": epoch >= args.mine_from} if isinstance(model, methods.AimCLR) else {}

    def compare(x: Tensor, drawn: tuple[Any, ...]) -> tuple[Tensor, Loss]:
        augmented = [to_stream(view, args.stream, layout) for view in apply(x, drawn)]
        with torch.autocast(x.device.type, torch.bfloat16, enabled=args.bf16):
            embedded: Any = model.embed(*augmented)
            return embedded.key, model.loss(embedded, **mining)

    return compare


def build_step(model: Model, clips: data.SkeletonDataset, args: Namespace, epoch: int, *, gather: bool = False) -> Step:
    """What is done with a batch from this epoch on, up to the gradients; the terms of the loss stay on the device."""
    layout = clips.layout or NTU_RGBD_25
    views = build_views(args, layout, extreme=args.method == "aimclr" and epoch >= args.extreme_from)
    compare = build_compare(model, views, layout, args, epoch)

    def step(x: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        drawn = views.sample(x, generator)  # each view has its own draws; all of them follow from (seed, epoch, step)
        model.momentum_update()
        keys, loss = compare(x, drawn)
        loss.total.backward()
        model.enqueue(keys, gather=gather)
        return {name: term.detach() for name, term in loss._asdict().items() if term is not None}

    return CapturedStep(step, clips.take(range(args.batch_size)).to(args.device), model.train()) if args.fast else step


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Say what is wrong with the input; an error that the library or the system did not word keeps its traceback."""
    try:
        yield
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        if not isinstance(error, OSError) and not re.match(r"[\w.]+: `", str(error)):
            raise
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def progress(batches: Iterable[Any], title: str, *, shown: bool = True) -> Iterable[Any]:
    """Show how far an epoch is, on a terminal and where tqdm is installed."""
    with suppress(ImportError):
        from tqdm import tqdm

        batches = tqdm(batches, desc=title, leave=False, disable=None if shown else True)
    return batches


@torch.no_grad()
def health(model: Model, loader: data.SkeletonLoader, args: Namespace, epoch: int) -> dict[str, float]:
    """Whether the representation collapses, and what its positives and negatives are worth, on 512 training clips."""
    clips, layout = loader.dataset, loader.dataset.layout or NTU_RGBD_25
    rows = torch.linspace(0, len(clips) - 1, min(len(clips), 512)).long()
    x, generator = clips.take(rows).to(args.device), torch.Generator(args.device).manual_seed(args.seed)
    query, key, hard = (to_stream(view, args.stream, layout) for view in build_views(args, layout)(x, generator))
    model.eval()
    query, key = model.moco.query(query), model.moco.key(key)
    nearest = losses.nearest_neighbors([query], model.bank.keys)
    stored = evaluation.bank_contents(loader.order(epoch), size=model.bank.size, pointer=model.bank.pointer)
    found = evaluation.contrastive_health(query, key, nearest, samples=rows, bank_samples=stored, labels=clips.labels)
    if isinstance(model, methods.AimCLR) and isinstance(model.drop, nn.EADM) and isinstance(model.encoder, nn.STGCN):
        joints, frames = model.drop.masks(model.encoder.feature_map(hard)).dropped_shares()
        found |= {"dropped_joints": float(joints), "dropped_frames": float(frames)}
    return found


def finish(model: Model, train: data.SkeletonDataset, test: data.SkeletonDataset, args: Namespace) -> dict[str, float]:
    """Measure the trained encoder, and write the result down."""
    known, new = (evaluation.extract_features(model.encoder, one, stream=args.stream) for one in (train, test))
    probe = evaluation.linear_probe(known, new, standardize=True, seed=args.seed)
    result = {"knn": evaluation.knn_accuracy(known, new), "linear": probe.accuracy}
    checkpoint.write_json_lines(args.out / "result.json", [result])
    print(f"kNN (k=1) {result['knn']:.1%}   linear {result['linear']:.1%}   in {args.out}")
    return result


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    args = parse(argv)
    device, last = args.device, args.out / "last.pt"
    torch.manual_seed(args.seed)
    with errors_in_one_line():
        check_resumed(args)
        train, test = load_data(args)
        model = build_model(args, train).to(device)
        model.bank.check_keys(torch.empty(args.batch_size, args.embedding, device=device))  # a batch fits into the bank
        clips = train.to(device) if args.resident else train
        loader = data.SkeletonLoader(clips, args.batch_size, seed=args.seed, num_workers=args.workers, device=device)
        weights = model.query_parameters()
        optimizer = torch.optim.SGD(weights, lr=args.lr, momentum=0.9, weight_decay=1e-4, fused=args.fast or None)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: learning_rate_factor(args, epoch))
        state = {"model": model, "optimizer": optimizer, "schedule": schedule}
        records = checkpoint.resume(last, state)["records"] if args.resume and last.exists() else []
        args.out.mkdir(parents=True, exist_ok=True)
    first = len(records)
    checkpoint.write_json_lines(args.out / "settings.json", [vars(args)])
    begun = f", resumed after epoch {first}" if first else ""
    print(f"{len(train)} training and {len(test)} test clips, bank of {model.bank.size} keys, on {device}{begun}")
    if args.fast:
        torch.compiler.reset()  # torch limits how often a function is compiled, and this process may do many runs
        model.compile(fullgraph=True, dynamic=False)  # each pass by itself, so that they can run side by side

    for epoch in range(first, args.epochs):
        start = time.perf_counter()
        if epoch in (first, args.extreme_from, args.mine_from):  # a stage of the training begins
            step = build_step(model, clips, args, epoch)
        terms = []
        model.train()
        loader.set_epoch(epoch)
        for batch in progress(loader, f"epoch {epoch + 1}/{args.epochs}"):
            optimizer.zero_grad(set_to_none=True)
            terms.append(step(batch.x, batch.generator))
            optimizer.step()
        line = {"epoch": epoch + 1.0, "lr": schedule.get_last_lr()[0], **evaluation.mean_terms(terms, epoch=epoch + 1)}
        schedule.step()
        if (epoch + 1) % args.eval_every == 0 or epoch + 1 == args.epochs:
            line |= health(model, loader, args, epoch)
            known, new = (evaluation.extract_features(model.encoder, one, stream=args.stream) for one in (train, test))
            line["knn"] = evaluation.knn_accuracy(known, new)
        line["seconds"] = time.perf_counter() - start
        records.append(line)
        checkpoint.write_json_lines(args.out / "log.jsonl", records)
        checkpoint.save(last, {**state, "records": records})
        if epoch + 1 in args.keep:
            checkpoint.save(args.out / f"epoch-{epoch + 1}.pt", {"model": model})
        print("  ".join(f"{name} {value:.4g}" for name, value in line.items()))

    return finish(model, train, test, args)


if __name__ == "__main__":
    main()
