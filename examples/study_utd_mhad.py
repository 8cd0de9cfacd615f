"""Compare AimCLR, SkeletonCLR, an untrained encoder and supervised training on UTD-MHAD, over several seeds.

    python examples/study_utd_mhad.py run --data FOLDER --out runs/utd_mhad --seeds 0 1 2
    python examples/study_utd_mhad.py ablate --data FOLDER --out runs/utd_mhad
    python examples/study_utd_mhad.py report --data FOLDER --out runs/utd_mhad --to benchmarks/results

``run`` and ``ablate`` do what is not done yet, so they can be stopped, resumed, and started twice with different seeds.
``report`` writes the table, the numbers behind it and the curves that the documentation shows.
"""

import argparse
import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import aimclr_ntu as pretraining
import supervised
from skelcontrast import augment, checkpoint, nn, viz
from skelcontrast.data import SkeletonLoader
from skelcontrast.evaluation import knn_accuracy, linear_probe

COMMON = [
    *("--dataset", "utd-mhad", "--frames", "25", "--epochs", "30", "--batch-size", "32"),
    *("--lr", "0.02", "--warmup", "3", "--schedule", "cosine", "--dropout", "0"),
]
PRETRAINING = ["--momentum", "0.99", "--mine-from", "30", "--eval-every", "3"]
SUPERVISED = ["--lr", "0.1"]
METHODS = ("skeletonclr", "aimclr")
EVERY = (*METHODS, "supervised")
SHORT = ["--epochs", "15", "--mine-from", "15", "--eval-every", "15"]
PAPER = ["--lr", "0.1", "--warmup", "0", "--schedule", "step", "--dropout", "0.5"]
ABLATIONS = {
    "nothing": [],
    "dropout 0.5": ["--dropout", "0.5"],
    "learning rate 0.1": ["--lr", "0.1"],
    "mining from epoch 9, Eq. 9 (sum)": ["--mine-from", "8"],
    "mining from epoch 9, mean": ["--mine-from", "8", "--positives", "mean"],
    "shoulders at the origin": ["--origin", "shoulder centre"],
    "official preset": ["--preset", "official"],
    "the paper's rate, schedule and dropout": PAPER,
    "the same in the official preset": [*PAPER, "--preset", "official"],
}


def settings(data: Path, out: Path, name: str, seed: int) -> list[str]:
    """Return the arguments of one run."""
    own = ["--data", str(data), "--out", str(out / f"{name}-{seed}"), "--seed", str(seed)]
    return [*COMMON, *SUPERVISED, *own] if name == "supervised" else [*COMMON, *PRETRAINING, "--method", name, *own]


def ablation(data: Path, out: Path, name: str) -> list[str]:
    """Return the arguments of a short run of AimCLR with one setting changed."""
    folder = out / f"ablation-{''.join(c if c.isalnum() else '-' for c in name)}"
    own = ["--data", str(data), "--out", str(folder), "--method", "aimclr"]
    return [*COMMON, *PRETRAINING, *SHORT, *own, *ABLATIONS[name]]


def untrained(arguments: list[str]) -> dict[str, float]:
    """Accuracies of the encoder as it is before the first step."""
    args = pretraining.parse(arguments)
    torch.manual_seed(args.seed)
    train, test = pretraining.load_data(args)
    features = pretraining.evaluate(pretraining.build_model(args, train).encoder, train, test, args.stream)
    return {
        "knn": knn_accuracy(*features, k=1),
        "linear": linear_probe(*features, standardize=True, seed=args.seed).accuracy,
    }


def dropped_shares(arguments: list[str]) -> dict[str, float]:
    """What EADM at margin 0.7 drops of a trained encoder's feature maps of extreme views, in both forms."""
    args = pretraining.parse([*arguments, "--resume"])
    train, _ = pretraining.load_data(args)
    model = pretraining.build_model(args, train)
    model.load_state_dict(checkpoint.load(args.out / "last.pt")["model"])
    layout, encoder = train.layout, model.encoder
    if layout is None or not isinstance(encoder, nn.STGCN):
        raise TypeError("the study trains an STGCN on a layout")
    extreme = augment.extreme(layout)
    with torch.no_grad():
        maps = [encoder.feature_map(extreme(batch.x, batch.generator)) for batch in SkeletonLoader(train, 128)]
    joints, frames = nn.EADM.preset("paper").masks(torch.cat(maps)).dropped_shares()
    _, elements = nn.EADM.preset("official").masks(torch.cat(maps)).dropped_shares()
    return {"joints": float(joints), "frames": float(frames), "elements": float(elements)}


def unless_done(main: Callable[[list[str]], object], arguments: list[str]) -> None:
    """Run a training, or the rest of it."""
    folder = Path(arguments[arguments.index("--out") + 1])
    if not (folder / "result.json").exists():
        print(folder.name)
        main([*arguments, *(["--resume"] if (folder / "last.pt").exists() else [])])


def run(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        path = args.out / f"untrained-{seed}.json"
        if not path.exists():
            pretraining.write_log(path, [untrained(settings(args.data, args.out / "new", "aimclr", seed))])
        for name in args.methods:
            main = supervised.main if name == "supervised" else pretraining.main
            unless_done(main, settings(args.data, args.out, name, seed))


def ablate(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ABLATIONS:
        unless_done(pretraining.main, ablation(args.data, args.out, name))


def summary(values: Sequence[float]) -> str:
    spread = f" ({min(values):.1%} to {max(values):.1%})" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1%}{spread}"


def report(args: argparse.Namespace) -> None:
    seeds = args.seeds
    results = {"untrained": [json.loads((args.out / f"untrained-{seed}.json").read_text()) for seed in seeds]}
    for name in EVERY:
        results[name] = [json.loads((args.out / f"{name}-{seed}" / "result.json").read_text()) for seed in seeds]
    logs = {
        name: [
            [json.loads(line) for line in (args.out / f"{name}-{seed}" / "log.jsonl").read_text().splitlines()]
            for seed in seeds
        ]
        for name in METHODS
    }
    shares = [dropped_shares(settings(args.data, args.out, "aimclr", seed)) for seed in seeds]
    rows = ["| encoder | kNN, k = 1 | linear probe |", "|---|---|---|"]
    titles = {"untrained": "untrained", "skeletonclr": "SkeletonCLR", "aimclr": "AimCLR"}
    for name, title in titles.items():
        knn, linear = (summary([result[key] for result in results[name]]) for key in ("knn", "linear"))
        rows.append(f"| {title} | {knn} | {linear} |")
    rows.append(f"| supervised, its own classifier | | {summary([r['accuracy'] for r in results['supervised']])} |")
    drops = ", ".join(f"{name} {summary([share[name] for share in shares])}" for name in shares[0])
    seconds = {name: sum(record["seconds"] for log in logs[name] for record in log) / len(seeds) for name in METHODS}
    how = f"`{' '.join(COMMON)}`; pre-training also `{' '.join(PRETRAINING)}`, supervised `{' '.join(SUPERVISED)}`"
    lines = [
        *rows,
        f"\nMean, lowest and highest of {len(seeds)} seeds. Settings: {how}.",
        f"\nShare that EADM drops at margin 0.7 from the trained AimCLR encoders' maps of extreme views: {drops}.",
        "Joints and frames are the paper's form, elements the released form.",
    ]
    ablations = {}
    for name in ABLATIONS:
        folder = pretraining.parse([*ablation(args.data, args.out, name), "--resume"]).out
        log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        ablations[name] = {**json.loads((folder / "result.json").read_text()), "log": log}
    lines += [f"\nAimCLR for {SHORT[1]} epochs, seed 0 (`{' '.join(SHORT)}`), one thing changed at a time:\n"]
    lines += ["| changed | kNN, k = 1 | linear probe |", "|---|---|---|"]
    lines += [f"| {name} | {row['knn']:.1%} | {row['linear']:.1%} |" for name, row in ablations.items()]
    args.to.mkdir(parents=True, exist_ok=True)
    (args.to / "utd_mhad.md").write_text("\n".join(lines) + "\n")
    numbers = {"common": COMMON, "pretraining": PRETRAINING, "seeds": seeds, "results": results, "logs": logs}
    content = {
        **numbers,
        "ablations": ablations,
        "dropped_at_0.7": shares,
        "seconds_per_run": seconds,
        "torch": torch.__version__,
    }
    (args.to / "utd_mhad.json").write_text(json.dumps(content, indent=1) + "\n")
    level = statistics.mean(result["knn"] for result in results["untrained"])
    figure = viz.plot_runs({titles[name]: log for name, log in logs.items()}, levels={"untrained": level})
    figure.savefig(args.to / "utd_mhad.png", dpi=110)
    print("\n".join(lines))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "ablate", "report"])
    parser.add_argument("--data", type=Path, required=True, help="folder of the .mat files")
    parser.add_argument("--out", type=Path, default=Path("runs/utd_mhad"), help="folder of the runs")
    parser.add_argument("--to", type=Path, default=Path("benchmarks/results"), help="folder of the report")
    parser.add_argument("--methods", nargs="+", choices=EVERY, default=EVERY)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args(argv)
    {"run": run, "ablate": ablate, "report": report}[args.command](args)


if __name__ == "__main__":
    main()
