"""Pre-train several streams that mine positives for each other: CrosSCLR, or AimCLR with cross-stream mining.

    python examples/crossclr_ntu.py --frames 24 --width 4 --dropout 0 --epochs 20 --mine-from 10 --lr 0.02
    python examples/crossclr_ntu.py --method aimclr --data FOLDER --protocol xsub

Data, optimiser and schedule are those of `aimclr_ntu.py`, whose arguments it takes; ``--method`` says what a stream is
(skeletonclr unless given), ``--mine-from`` in which epoch it stops learning alone. Ends with every stream's accuracies
and their fusion. Interrupted runs go on with ``--resume``.
"""

import argparse
import time
from collections.abc import Sequence

import torch

import aimclr_ntu as pretraining
from aimclr_ntu import errors_in_one_line, progress
from command_line import refuse
from skelcontrast import checkpoint, methods
from skelcontrast.data import SkeletonDataset, SkeletonLoader
from skelcontrast.evaluation import Scores, extract_features, fuse, knn_accuracy, linear_probe, mean_terms
from skelcontrast.skeleton import NTU_RGBD_25, Stream, to_stream

STREAMS: tuple[Stream, ...] = ("joint", "motion", "bone")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        allow_abbrev=False,  # --stream of the other script is not --streams
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="All other arguments: see aimclr_ntu.py --help; --out is runs/crossclr unless given",
    )
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=STREAMS)
    parser.add_argument("--method", choices=["skeletonclr", "aimclr"], default="skeletonclr", help="of every stream")
    parser.add_argument("--no-context", action="store_true", help="leave the products of similarities out of the loss")
    refuse(parser, ["--stream", "--fast"], "is for aimclr_ntu.py only")
    own, rest = parser.parse_known_args(argv)
    args = pretraining.parse(["--out", "runs/crossclr", *rest])  # where --mine-from is also of use to SkeletonCLR
    args.method, args.streams, args.context = own.method, tuple(own.streams), not own.no_context
    return args


def train_epoch(
    model: methods.CrosSCLR,
    optimizer: torch.optim.Optimizer,
    loader: SkeletonLoader,
    args: argparse.Namespace,
    epoch: int,
) -> dict[str, float]:
    """One epoch; returns the mean of each loss term, and of each stream's share of the total."""
    layout, device = loader.dataset.layout or NTU_RGBD_25, torch.device(args.device)
    views = pretraining.build_views(args, layout, extreme=args.method == "aimclr" and epoch >= args.extreme_from)
    terms: list[dict[str, torch.Tensor]] = []
    model.train()
    loader.set_epoch(epoch)
    for batch in progress(loader, f"epoch {epoch + 1}/{args.epochs}"):
        # All streams are computed from one augmented batch, so that a row of every bank shows the same clip.
        augmented = views(batch.x, batch.generator)
        by_stream = [{stream: to_stream(view, stream, layout) for stream in args.streams} for view in augmented]
        model.momentum_update()
        with torch.autocast(device.type, torch.bfloat16, enabled=args.bf16):
            embedded = model.embed(*by_stream)
            loss = model.loss(embedded, cross=epoch >= args.mine_from)
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        optimizer.step()
        model.enqueue(embedded.key)
        whole = {"total": loss.total, "info_nce": loss.info_nce, "cross": loss.cross, "d3m": loss.d3m}
        terms.append({name: term.detach() for name, term in {**whole, **loss.streams}.items() if term is not None})
    return mean_terms(terms, epoch=epoch + 1)


def measure(
    model: methods.CrosSCLR, train: SkeletonDataset, test: SkeletonDataset, args: argparse.Namespace
) -> dict[str, float]:
    """Accuracies of every stream by kNN and by a linear probe, and that of the probes' weighted sum."""
    result, scores = {}, {}
    for stream in args.streams:
        known, new = (extract_features(model.encoders[stream], part, stream=stream) for part in (train, test))
        probe = linear_probe(known, new, standardize=True, seed=args.seed)
        scores[stream] = Scores(probe.logits, new.labels, test.names)
        result[f"knn_{stream}"], result[f"linear_{stream}"] = knn_accuracy(known, new), probe.accuracy
    result["linear_fused"] = fuse(scores).accuracy
    return result


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    args = parse(argv)
    torch.manual_seed(args.seed)
    with errors_in_one_line():
        pretraining.check_resumed(args)
        train, test = pretraining.load_data(args)
        streams = {stream: pretraining.build_model(args, train) for stream in args.streams}
        model = methods.CrosSCLR(streams, context=args.context).to(args.device)
        clips = train.to(args.device) if args.resident else train
        loader = SkeletonLoader(clips, args.batch_size, seed=args.seed, num_workers=args.workers, device=args.device)
        optimizer = torch.optim.SGD(model.query_parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: pretraining.learning_rate_factor(args, e))
        state, last = {"model": model, "optimizer": optimizer, "schedule": schedule}, args.out / "last.pt"
        records = checkpoint.resume(last, state)["records"] if args.resume and last.exists() else []
        args.out.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json_lines(args.out / "settings.json", [vars(args)])

    for epoch in range(len(records), args.epochs):
        start = time.perf_counter()
        record = {"epoch": epoch + 1.0, "lr": optimizer.param_groups[0]["lr"]}
        record |= train_epoch(model, optimizer, loader, args, epoch)
        schedule.step()
        if (epoch + 1) % args.eval_every == 0 and epoch + 1 < args.epochs:
            for stream in args.streams:
                known, new = (extract_features(model.encoders[stream], part, stream=stream) for part in (train, test))
                record[f"knn_{stream}"] = knn_accuracy(known, new)
        record["seconds"] = time.perf_counter() - start
        records.append(record)
        checkpoint.write_json_lines(args.out / "log.jsonl", records)
        checkpoint.save(last, {**state, "records": records})
        if epoch + 1 in args.keep:
            checkpoint.save(args.out / f"epoch-{epoch + 1}.pt", {"model": model})
        print("  ".join(f"{name} {value:.4g}" for name, value in record.items()))

    result = measure(model, train, test, args)
    checkpoint.write_json_lines(args.out / "result.json", [result])
    print("  ".join(f"{name} {value:.1%}" for name, value in result.items()), f"  in {args.out}")
    return result


if __name__ == "__main__":
    main()
