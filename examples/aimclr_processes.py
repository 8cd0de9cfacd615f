r"""Pre-train AimCLR or SkeletonCLR in several processes that share every batch, one for each GPU, or on CPUs.

    torchrun --standalone --nproc-per-node 2 examples/aimclr_processes.py --frames 24 --width 4 --dropout 0 \
        --epochs 20 --batch-size 32 --lr 0.02 --momentum 0.99 --warmup 2

Data, step, optimiser and schedule are those of `aimclr_ntu.py`, whose arguments it takes; ``--batch-size`` counts the
clips of all processes together. Gradients are averaged, every bank takes the keys of all processes, and the first
process writes and evaluates. Interrupted runs go on with ``--resume``.
"""

import argparse
import os
import time
from collections.abc import Sequence

import numpy as np
import torch
from torch import distributed

import aimclr_ntu as pretraining
from aimclr_ntu import errors_in_one_line, progress
from command_line import refuse
from skelcontrast import checkpoint, evaluation
from skelcontrast.data import SkeletonDataset, SkeletonLoader


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="All other arguments: see aimclr_ntu.py --help",
    )
    refuse(parser, ["--fast"], "is for aimclr_ntu.py only")
    _, rest = parser.parse_known_args(argv)
    if "RANK" not in os.environ:
        parser.error("start it with torchrun, which says how many processes there are")
    args = pretraining.parse(["--out", "runs/processes", *rest])
    processes = int(os.environ["WORLD_SIZE"])
    if args.batch_size % processes:
        parser.error(f"--batch-size must be a multiple of the number of processes, {processes}, got {args.batch_size}")
    if args.device == "cuda":
        args.device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(args.device)
    return args


def dropout_seed(seed: int, epoch: int, rank: int) -> int:
    """Seed of the global generator: in each process another, and after a restart the same."""
    return int(np.random.SeedSequence((seed, epoch, rank)).generate_state(1)[0])


def average_gradients(weights: list[torch.nn.Parameter]) -> None:
    """Put the mean over all processes in the place of each gradient; an encoder this small is a single message."""
    gradients = [weight.grad for weight in weights if weight.grad is not None]
    message = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(message)
    message /= distributed.get_world_size()
    for gradient, mean in zip(gradients, message.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


def average_terms(terms: dict[str, float], device: str) -> dict[str, float]:
    """Return the mean of each term of the loss over all processes."""
    means = torch.tensor(list(terms.values()), dtype=torch.float64, device=device)
    distributed.all_reduce(means)
    return dict(zip(terms, (means / distributed.get_world_size()).tolist(), strict=True))


def train(args: argparse.Namespace) -> tuple[pretraining.Model, SkeletonDataset, SkeletonDataset]:
    torch.manual_seed(args.seed)  # every process draws the same weights
    with errors_in_one_line():
        known, new = pretraining.load_data(args)
        model = pretraining.build_model(args, known).to(args.device)
        clips = known.to(args.device) if args.resident else known
        share = args.batch_size // distributed.get_world_size()
        loader = SkeletonLoader(clips, share, seed=args.seed, num_workers=args.workers, device=args.device)
        weights = model.query_parameters()
        optimizer = torch.optim.SGD(weights, lr=args.lr, momentum=0.9, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: pretraining.learning_rate_factor(args, e))
        state, last = {"model": model, "optimizer": optimizer, "schedule": schedule}, args.out / "last.pt"
        records = checkpoint.resume(last, state, rng=False)["records"] if args.resume and last.exists() else []
        args.out.mkdir(parents=True, exist_ok=True)
    first = len(records)
    if loader.rank == 0:
        checkpoint.write_json_lines(args.out / "settings.json", [vars(args)])
        print(f"{len(known)} training clips, bank of {model.bank.size} keys, {loader.world_size} processes")

    for epoch in range(first, args.epochs):
        start = time.perf_counter()
        if epoch in (first, args.extreme_from, args.mine_from):  # a stage of the training begins
            step = pretraining.build_step(model, clips, args, epoch, gather=True)
        torch.manual_seed(dropout_seed(args.seed, epoch, loader.rank))
        terms = []
        model.train()
        loader.set_epoch(epoch)
        for batch in progress(loader, f"epoch {epoch + 1}/{args.epochs}", shown=loader.rank == 0):
            optimizer.zero_grad(set_to_none=True)
            terms.append(step(batch.x, batch.generator))
            average_gradients(weights)
            optimizer.step()
        means = average_terms(evaluation.mean_terms(terms, epoch=epoch + 1), args.device)
        record = {"epoch": epoch + 1.0, "lr": optimizer.param_groups[0]["lr"], **means}
        schedule.step()
        if loader.rank > 0:
            continue
        if (epoch + 1) % args.eval_every == 0 or epoch + 1 == args.epochs:
            features = (evaluation.extract_features(model.encoder, one, stream=args.stream) for one in (known, new))
            record["knn"] = evaluation.knn_accuracy(*features)
        record["seconds"] = time.perf_counter() - start
        records.append(record)
        checkpoint.write_json_lines(args.out / "log.jsonl", records)
        checkpoint.save(last, {**state, "records": records}, rng=False)
        if epoch + 1 in args.keep:
            checkpoint.save(args.out / f"epoch-{epoch + 1}.pt", {"model": model})
        print("  ".join(f"{name} {value:.4g}" for name, value in record.items()))
    return model, known, new


def main(argv: Sequence[str] | None = None) -> dict[str, float] | None:
    """Train, and return the accuracies in the first process."""
    args = parse(argv)
    with errors_in_one_line():
        pretraining.check_resumed(args)
    distributed.init_process_group("nccl" if args.device.startswith("cuda") else "gloo")
    try:
        rank = distributed.get_rank()
        model, known, new = train(args)
    finally:
        distributed.destroy_process_group()
    if rank > 0:
        return None
    return pretraining.finish(model, known, new, args)


if __name__ == "__main__":
    main()
