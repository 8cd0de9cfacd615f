"""Pre-train AimCLR or SkeletonCLR, watch it with kNN, finish with a linear probe. Copy this file and change it.

The defaults are the paper's settings (Section 4.2) for NTU RGB+D 60. Try it without any download:

    python examples/aimclr_ntu.py --frames 24 --width 4 --dropout 0 --epochs 20 --batch-size 32 --lr 0.02

Real data: prepare it once (``python -m skelcontrast.data prepare ntu60 RAW FOLDER``), then
``--data FOLDER --protocol xsub``. Also ``--dataset utd-mhad`` (a folder of .mat files) and ``--dataset official-npy``
(the authors' pre-processed folder). Interrupted runs go on with ``--resume``. Small data wants other settings than NTU:
see ``docs/guide/small_data.md``.
"""

import argparse
import json
import math
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from tqdm import tqdm

from skelcontrast import augment, checkpoint, evaluation, losses, methods, nn
from skelcontrast.cuda_graph import CapturedStep
from skelcontrast.data import (
    SkeletonDataset,
    SkeletonLoader,
    SyntheticActions,
    open_prepared,
    read_official,
    read_utd_mhad,
)
from skelcontrast.evaluation import Features, extract_features, knn_accuracy, linear_probe
from skelcontrast.skeleton import NTU_RGBD_25, SkeletonLayout, Stream, to_stream

Step: TypeAlias = Callable[[torch.Tensor, torch.Generator], dict[str, torch.Tensor]]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    kinds = ["prepared", "synthetic", "utd-mhad", "official-npy"]
    add("--dataset", choices=kinds, help="default: prepared with --data, synthetic without")
    add("--data", type=Path, help="folder of the data set (not for synthetic)")
    add("--protocol", default="xsub", help="split of a prepared folder: xsub, xview, xset, ... (default: %(default)s)")
    add("--resident", action="store_true", help="keep the training clips on the device")
    add("--frames", type=int, default=50, help="frames T of a sequence (default: %(default)s)")
    add("--origin", default="hip centre", help="joint at the origin, utd-mhad only (default: %(default)s)")
    add("--stream", choices=["joint", "bone", "motion"], default="joint")
    add("--method", choices=["aimclr", "skeletonclr"], default="aimclr")
    add("--preset", choices=["paper", "official"], default="paper", help="where paper and released code differ")
    add("--positives", choices=["preset", "sum", "mean", "logsumexp"], default="preset", help="form of NNM")
    add("--views", choices=["normal", "extreme"], default="normal", help="of query and key (default: %(default)s)")
    add("--shear", type=float, default=0.5, help="amplitude of the shear (default: %(default)s, the paper's)")
    add("--no-drop", action="store_true", help="AimCLR without the dropped view of EADM")
    add("--keep-margin", type=float, default=0.7, help="EADM's margin on attention (default: %(default)s)")
    add("--epochs", type=int, default=300)
    add("--batch-size", type=int, default=128)
    add("--lr", type=float, default=0.1)
    add("--lr-drop", type=int, default=250, help="epoch from which the rate is a tenth (default: %(default)s)")
    add("--schedule", choices=["step", "cosine"], default="step", help="of the rate; cosine ends at zero")
    add("--warmup", type=int, default=0, help="epochs in which the rate rises linearly (default: %(default)s)")
    add("--extreme-from", type=int, default=0, help="epoch from which D3M joins the loss (default: %(default)s)")
    add("--mine-from", type=int, default=150, help="epoch from which NNM replaces InfoNCE (default: %(default)s)")
    add("--queue-size", type=int, help="keys in the bank (default: 32768, or fewer on a small data set)")
    add("--momentum", type=float, default=0.999, help="of the key encoder (default: %(default)s)")
    add("--temperature", type=float, default=0.07)
    add("--width", type=int, default=16, help="channels of the first block (default: %(default)s, the paper's)")
    add("--dropout", type=float, default=0.5, help="of the encoder (default: %(default)s)")
    add("--embedding", type=int, default=128, help="embedding size D (default: %(default)s)")
    add("--eval-every", type=int, default=5, help="epochs between kNN evaluations (default: %(default)s)")
    add("--keep", type=int, nargs="+", default=[], metavar="EPOCH", help="keep the model after these epochs")
    add("--seed", type=int, default=0)
    add("--workers", type=int, default=0)
    add("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    add("--bf16", action="store_true", help="bfloat16 autocast; losses stay float32")
    fast = "compiled (which takes a while at the start) and launched as a whole, as a CUDA graph"
    add("--fast", action="store_true", help=fast)
    add("--out", type=Path, default=Path("runs/aimclr"), help="folder for log, checkpoint and result")
    add("--resume", action="store_true", help="go on from the checkpoint in --out")
    args = parser.parse_args(argv)
    args.dataset = args.dataset or ("synthetic" if args.data is None else "prepared")
    if args.dataset != "synthetic" and args.data is None:
        parser.error(f"--dataset {args.dataset} needs --data FOLDER")
    if args.fast and not args.device.startswith("cuda"):
        parser.error(f"--fast needs a CUDA device, got --device {args.device}")
    if not args.resume and (args.out / "last.pt").exists():
        parser.error(f"{args.out} holds a run: pass --resume to go on with it, or another --out")
    return args


def load_data(args: argparse.Namespace) -> tuple[SkeletonDataset, SkeletonDataset]:
    if args.dataset == "synthetic":
        return SyntheticActions(frames=args.frames).split("cross-subject")
    if args.dataset == "utd-mhad":
        return read_utd_mhad(args.data, frames=args.frames, origin=args.origin).split("cross-subject")
    if args.dataset == "prepared":
        return open_prepared(args.data, frames=args.frames, protocol=args.protocol).split(args.protocol)
    return read_official(args.data, "train"), read_official(args.data, "val")


def choose_queue_size(asked: int | None, clips: int, batch_size: int) -> int:
    """A bank larger than the data set holds the query's own older copies, and pushes the query away from itself."""
    if asked is None and clips < 2 * 32768:
        return max(batch_size, clips // 2)
    if asked is not None and asked > clips:
        warnings.warn(
            f"--queue-size {asked} is larger than the {clips} training clips: the bank will hold older keys of the "
            f"query itself as negatives. About {clips // 2} (the default here) avoids most of that.",
            stacklevel=2,
        )
    return 32768 if asked is None else asked


def build_encoder(args: argparse.Namespace, train: SkeletonDataset) -> nn.STGCN:
    return nn.STGCN(
        train.layout or NTU_RGBD_25,
        in_channels=train[0].x.shape[0],
        channels=[args.width * factor for factor in (1, 1, 1, 1, 2, 2, 2, 4, 4, 16)],
        dropout=args.dropout,
        bodies="present" if args.preset == "paper" else "all",
    )


def build_model(args: argparse.Namespace, train: SkeletonDataset) -> methods.AimCLR | methods.SkeletonCLR:
    encoder = build_encoder(args, train)
    head = nn.ProjectionHead(encoder.out_features, args.embedding)
    queue_size = choose_queue_size(args.queue_size, len(train), args.batch_size)
    shared: dict[str, Any] = {"queue_size": queue_size, "momentum": args.momentum, "temperature": args.temperature}
    if args.method == "skeletonclr":
        return methods.SkeletonCLR(encoder, head, **shared)
    return methods.AimCLR(
        encoder,
        head,
        drop=None if args.no_drop else nn.EADM.preset(args.preset, keep_margin=args.keep_margin),
        positives=args.positives,
        preset=args.preset,
        **shared,
    )


def learning_rate_factor(args: argparse.Namespace, epoch: int) -> float:
    warm = min(1.0, (epoch + 1) / args.warmup) if args.warmup else 1.0
    if args.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * epoch / args.epochs))
    return warm * (0.1 if epoch >= args.lr_drop else 1.0)


def evaluate(
    encoder: torch.nn.Module, train: SkeletonDataset, test: SkeletonDataset, stream: Stream
) -> tuple[Features, Features]:
    """Features of both parts, for kNN and for the linear probe."""
    return extract_features(encoder, train, stream=stream), extract_features(encoder, test, stream=stream)


def embed_and_compare(
    model: methods.AimCLR | methods.SkeletonCLR, augmented: Sequence[torch.Tensor], *, mine: bool
) -> tuple[torch.Tensor, methods.AimCLRLoss | methods.SkeletonCLRLoss]:
    """Keys for the bank, and the losses of the batch, of which query, key and perhaps the extreme view come."""
    if isinstance(model, methods.SkeletonCLR):
        pair = model.embed(*augmented)
        return pair.key, model.loss(pair)
    views = model.embed(*augmented)
    return views.key, model.loss(views, mine=mine)


def augmentations(args: argparse.Namespace, layout: SkeletonLayout) -> dict[str, augment.Compose]:
    """The run's normal and extreme augmentation."""
    return {
        "normal": augment.normal(preset=args.preset, amplitude=args.shear),
        "extreme": augment.extreme(layout, preset=args.preset, amplitude=args.shear),
    }


def build_views(args: argparse.Namespace, layout: SkeletonLayout, *, extreme: bool = True) -> augment.Views:
    """The views of query and key, and the extreme one."""
    of = augmentations(args, layout)
    return augment.Views(of[args.views], of[args.views], *([of["extreme"]] if extreme else []))


@torch.no_grad()
def health(
    model: methods.AimCLR | methods.SkeletonCLR, clips: SkeletonDataset, args: argparse.Namespace, seen: torch.Tensor
) -> dict[str, float]:
    """Whether the representation collapses, and what its positives and negatives are worth, on 512 training clips."""
    layout, generator = clips.layout or NTU_RGBD_25, torch.Generator(args.device).manual_seed(args.seed)
    rows = torch.linspace(0, len(clips) - 1, min(len(clips), 512)).long()
    x = clips.take(rows).to(args.device)
    query, key, hard = (to_stream(view, args.stream, layout) for view in build_views(args, layout)(x, generator))
    model.eval()
    query, key = model.moco.query(query), model.moco.key(key)
    stored = evaluation.bank_contents(seen, size=model.bank.size, pointer=model.bank.pointer)
    classes = torch.where(stored >= 0, clips.labels[stored], -1)
    mined = losses.nearest_neighbors([query], model.bank.keys).cpu()
    found = {
        "alignment": evaluation.alignment(query, key),
        "uniformity": evaluation.uniformity(query),
        "effective_rank": evaluation.effective_rank(query),
        "least_spread": float(evaluation.dimension_spread(query).min()),
        "neighbor_precision": evaluation.neighbor_precision(mined, clips.labels[rows], classes),
        "own_key_share": evaluation.own_key_share(rows, stored),
    }
    if isinstance(model, methods.AimCLR) and isinstance(model.drop, nn.EADM) and isinstance(model.encoder, nn.STGCN):
        joints, frames = model.drop.masks(model.encoder.feature_map(hard)).dropped_shares()
        found |= {"dropped_joints": float(joints), "dropped_frames": float(frames)}
    return found


def training_step(
    model: methods.AimCLR | methods.SkeletonCLR, layout: SkeletonLayout, args: argparse.Namespace, epoch: int
) -> Step:
    """What is done with a batch, up to the gradients; the terms of the loss come back and stay on the device."""
    extreme, mine = stage(args, epoch)
    views = build_views(args, layout, extreme=extreme)
    compare = torch.compile(embed_and_compare, fullgraph=True, dynamic=False) if args.fast else embed_and_compare

    def step(x: torch.Tensor, generator: torch.Generator) -> dict[str, torch.Tensor]:
        # Each view has its own draws; all of them follow from (seed, epoch, step).
        augmented = [to_stream(view, args.stream, layout) for view in views(x, generator)]
        model.momentum_update()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=args.bf16):
            keys, loss = compare(model, augmented, mine=mine)
        loss.total.backward()
        model.enqueue(keys)
        return {name: term.detach() for name, term in loss._asdict().items() if term is not None}

    return step


def stage(args: argparse.Namespace, epoch: int) -> tuple[bool, bool]:
    """Whether an epoch trains on the extreme view, and whether it mines neighbours."""
    return args.method == "aimclr" and epoch >= args.extreme_from, epoch >= args.mine_from


def train_epoch(
    model: methods.AimCLR | methods.SkeletonCLR,
    optimizer: torch.optim.Optimizer,
    loader: SkeletonLoader,
    args: argparse.Namespace,
    epoch: int,
    captured: dict[tuple[bool, bool], Step],
) -> dict[str, float]:
    """One epoch; returns the mean of each loss term. Losses stay on the device until the epoch ends."""
    step = training_step(model, loader.dataset.layout or NTU_RGBD_25, args, epoch)
    terms: list[dict[str, torch.Tensor]] = []
    seen: list[torch.Tensor] = []
    model.train()
    loader.set_epoch(epoch)
    for batch in tqdm(loader, desc=f"epoch {epoch + 1}/{args.epochs}", leave=False, disable=None):
        if args.fast and stage(args, epoch) not in captured:  # recorded once, as a CUDA graph
            captured[stage(args, epoch)] = CapturedStep(step, batch.x, model)
        optimizer.zero_grad(set_to_none=True)
        terms.append(captured.get(stage(args, epoch), step)(batch.x, batch.generator))
        optimizer.step()
        seen.append(batch.rows)
    curves = {name: torch.stack([step[name] for step in terms]).cpu() for name in terms[0]}
    if not curves["total"].isfinite().all():
        first = int((~curves["total"].isfinite()).nonzero()[0])
        raise FloatingPointError(
            f"the loss is {curves['total'][first]} at epoch {epoch + 1}, step {first + 1}; the checkpoint of the epoch "
            f"before is kept in {args.out}. A lower --lr or a longer --warmup usually helps."
        )
    means = {name: float(curve.mean()) for name, curve in curves.items()}
    return means | (health(model, loader.dataset, args, torch.cat(seen)) if evaluates(args, epoch) else {})


def evaluates(args: argparse.Namespace, epoch: int) -> bool:
    """Whether kNN and health are measured after this epoch."""
    return bool((epoch + 1) % args.eval_every == 0 or epoch + 1 == args.epochs)


def write_log(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """One JSON object per line, replaced as a whole, so that a resumed run never repeats or breaks a line."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(record) + "\n" for record in records))
    temporary.replace(path)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """The run's arguments as plain data, for `settings.json`: what a later evaluation needs to know."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in vars(args).items()}


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    args = parse(argv)
    torch.manual_seed(args.seed)
    train, test = load_data(args)
    model = build_model(args, train).to(args.device)
    clips = train.to(args.device) if args.resident else train
    loader = SkeletonLoader(clips, args.batch_size, seed=args.seed, num_workers=args.workers, device=args.device)
    optimizer = torch.optim.SGD(
        model.query_parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4, fused=args.fast or None
    )
    captured: dict[tuple[bool, bool], Step] = {}
    if args.fast:
        torch.compiler.reset()  # torch limits how often a function is compiled, and this process may do many runs
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: learning_rate_factor(args, epoch))
    state = {"model": model, "optimizer": optimizer, "schedule": schedule}
    records: list[dict[str, float]] = []
    args.out.mkdir(parents=True, exist_ok=True)
    last = args.out / "last.pt"
    if args.resume and last.exists():
        records = checkpoint.resume(last, state)["records"]
        print(f"resumed {last} after epoch {len(records)}")
    write_log(args.out / "settings.json", [settings(args)])
    print(f"{len(train)} training and {len(test)} test clips, bank of {model.bank.size} keys, on {args.device}")

    for epoch in range(len(records), args.epochs):
        start = time.perf_counter()
        record = {"epoch": epoch + 1.0, "lr": optimizer.param_groups[0]["lr"]}
        record |= train_epoch(model, optimizer, loader, args, epoch, captured)
        schedule.step()
        if evaluates(args, epoch):
            record["knn"] = knn_accuracy(*evaluate(model.encoder, train, test, args.stream), k=1)
        record["seconds"] = time.perf_counter() - start
        records.append(record)
        write_log(args.out / "log.jsonl", records)
        checkpoint.save(last, {**state, "records": records})
        if epoch + 1 in args.keep:
            checkpoint.save(args.out / f"epoch-{epoch + 1}.pt", {"model": model})
        print("  ".join(f"{name} {value:.4g}" for name, value in record.items()))

    features = evaluate(model.encoder, train, test, args.stream)
    result = {
        "knn": knn_accuracy(*features, k=1),
        "linear": linear_probe(*features, standardize=True, seed=args.seed).accuracy,
    }
    write_log(args.out / "result.json", [result])
    print(f"kNN (k=1) {result['knn']:.1%}   linear {result['linear']:.1%}   in {args.out}")
    return result


if __name__ == "__main__":
    main()
