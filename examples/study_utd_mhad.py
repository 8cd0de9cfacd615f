"""Compare AimCLR, SkeletonCLR, an untrained encoder and supervised training on UTD-MHAD, over streams and seeds.

    python examples/study_utd_mhad.py run --data FOLDER --out runs/utd_mhad
    python examples/study_utd_mhad.py ablate --data FOLDER --out runs/utd_mhad
    python examples/study_utd_mhad.py report --data FOLDER --out runs/utd_mhad --to benchmarks/results
    python examples/study_utd_mhad.py length --data FOLDER --out runs/utd_mhad --to benchmarks/results

``run`` and ``ablate`` do what is not done yet, so they can be stopped, resumed, and started twice with different seeds.
``report`` evaluates every encoder and writes the tables, the numbers behind them and the curves that the documentation
shows. Supervised training and the ablations are of the joint stream. ``length`` does both for two more questions on
joints: how long to train, and how strong a shear.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

import aimclr_ntu as pretraining
import evaluate
import supervised
from paper_pages import origin, spread, write
from skelcontrast import augment, nn, viz
from skelcontrast.data import SkeletonLoader
from skelcontrast.evaluation import Scores, fuse, knn_accuracy, linear_probe, logistic_probe, summarize
from skelcontrast.skeleton import UTD_MHAD_20

COMMON = [
    *("--dataset", "utd-mhad", "--frames", "25", "--epochs", "30", "--batch-size", "32"),
    *("--lr", "0.02", "--warmup", "3", "--schedule", "cosine", "--dropout", "0"),
]
PRETRAINING = ["--momentum", "0.99", "--mine-from", "30", "--eval-every", "3"]
SUPERVISED = ["--lr", "0.1"]
METHODS = ("skeletonclr", "aimclr")
EVERY = (*METHODS, "supervised")
STREAMS = ("joint", "bone", "motion")
TITLES = {"untrained": "untrained", "skeletonclr": "SkeletonCLR", "aimclr": "AimCLR"}
SHORT = ["--epochs", "15", "--mine-from", "15", "--eval-every", "15"]
PAPER = ["--lr", "0.1", "--warmup", "0", "--schedule", "step", "--dropout", "0.5"]
LONG = ["--shear", "0.2", "--epochs", "80", "--mine-from", "80", "--eval-every", "16", "--keep", "16", "32", "48", "64"]
LONG_EPOCHS = ("16", "32", "48", "64", "80")
SHEARS = ("0.5", "0.2", "0.1")
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


def settings(data: Path, out: Path, name: str, seed: int, stream: str = "joint") -> list[str]:
    """Return the arguments of one run."""
    folder = out / (f"{name}-{seed}" if stream == "joint" else f"{name}-{stream}-{seed}")
    own = ["--data", str(data), "--out", str(folder), "--seed", str(seed)]
    if name == "supervised":
        return [*COMMON, *SUPERVISED, *own]
    if name == "skeletonclr":
        own += ["--mine-from", "150"]  # as unless given: it mines nothing, and an epoch to begin in is refused
    return [*COMMON, *PRETRAINING, "--method", name, "--stream", stream, *own]


def ablation(data: Path, out: Path, name: str) -> list[str]:
    """Return the arguments of a short run of AimCLR with one setting changed."""
    folder = out / f"ablation-{''.join(c if c.isalnum() else '-' for c in name)}"
    own = ["--data", str(data), "--out", str(folder), "--method", "aimclr"]
    return [*COMMON, *PRETRAINING, *SHORT, *own, *ABLATIONS[name]]


def variation(args: argparse.Namespace, name: str, changed: Sequence[str], seed: int) -> list[str]:
    """Return the arguments of a run of AimCLR on joints with some settings changed."""
    own = ["--data", str(args.data), "--out", str(args.out / f"{name}-{seed}"), "--seed", str(seed)]
    return [*COMMON, *PRETRAINING, *own, *changed]


def encoder_of(arguments: list[str], name: str | None) -> evaluate.Encoder:
    """The encoder of a run, by a checkpoint of it or, for `None`, as it was before the first step."""
    args = pretraining.parse([*arguments, "--resume"])
    (one,) = evaluate.load_run(args.out, name=name, data=args.data, device="cpu")
    return one


def accuracies(arguments: list[str], name: str | None) -> tuple[dict[str, float], Scores]:
    """Accuracies of a run's encoder, see `encoder_of`, and the scores of its exact linear probe."""
    one = encoder_of(arguments, name)
    known, new = evaluate.features(one)
    released, exact = linear_probe(known, new, standardize=True, seed=one.args.seed), logistic_probe(known, new)
    found = {"knn": knn_accuracy(known, new), "linear": released.accuracy, "exact": exact.accuracy}
    return found, Scores(exact.logits, new.labels, one.test.names)


def dropped_shares(arguments: list[str]) -> dict[str, float]:
    """What EADM at margin 0.7 drops of a trained encoder's feature maps of extreme views, in both forms.

    With batch norm's statistics of the batch, as in training; the log has the share with the running ones.
    """
    one = encoder_of(arguments, "last.pt")
    one.encoder.train()
    extreme = augment.extreme(UTD_MHAD_20)
    with torch.no_grad():
        maps = [one.encoder.feature_map(extreme(batch.x, batch.generator)) for batch in SkeletonLoader(one.train, 128)]
    joints, frames = nn.EADM.preset("paper").masks(torch.cat(maps)).dropped_shares()
    _, elements = nn.EADM.preset("official").masks(torch.cat(maps)).dropped_shares()
    return {"joints": float(joints), "frames": float(frames), "elements": float(elements)}


def folder_of(arguments: list[str]) -> Path:
    return Path(arguments[arguments.index("--out") + 1])


def unless_done(main: Callable[[list[str]], object], arguments: list[str]) -> None:
    """Run a training, or the rest of it."""
    folder = folder_of(arguments)
    if not (folder / "result.json").exists():
        print(folder.name)
        main([*arguments, "--resume"])  # which begins where there is nothing yet


def run(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    for seed in args.seeds:
        for name in args.methods:
            if name == "supervised":
                unless_done(supervised.main, settings(args.data, args.out, name, seed))
                continue
            for stream in args.streams:
                unless_done(pretraining.main, settings(args.data, args.out, name, seed, stream))


def ablate(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    for name in ABLATIONS:
        unless_done(pretraining.main, ablation(args.data, args.out, name))


def read_log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def evaluate_all(args: argparse.Namespace) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Accuracies by encoder, stream (and "fused") and seed."""
    results: dict[str, dict[str, list[dict[str, float]]]] = {}
    for name in TITLES:
        results[name] = {stream: [] for stream in args.streams}
        for seed in args.seeds:
            scores: dict[str, Scores] = {}
            for stream in args.streams:
                method = "aimclr" if name == "untrained" else name
                arguments = settings(args.data, args.out, method, seed, stream)
                found, scores[stream] = accuracies(arguments, None if name == "untrained" else "last.pt")
                results[name][stream].append(found)
            if len(scores) > 1:
                results[name].setdefault("fused", []).append({"exact": fuse(scores).accuracy})
    return results


def main_table(args: argparse.Namespace, results: dict[str, dict[str, list[dict[str, float]]]]) -> list[str]:
    rows = ["| stream | encoder | kNN, k = 1, % | linear, exact, % | linear, released, % |", "|---|---|---|---|---|"]
    for stream in results["untrained"]:
        for name, title in TITLES.items():
            found = results[name][stream]
            cells = [
                spread([row[key] for row in found], len(found)) if key in found[0] else ""
                for key in ("knn", "exact", "linear")
            ]
            rows.append(f"| {' | '.join([stream, title, *cells])} |")
    runs = [args.out / f"supervised-{seed}" / "result.json" for seed in args.seeds]
    accuracy = [json.loads(path.read_text())["accuracy"] for path in runs]
    return [*rows, f"| joint | supervised, its own classifier | | {spread(accuracy, len(accuracy))} | |"]


def ablation_table(ablations: dict[str, dict[str, float]]) -> list[str]:
    rows = ["| changed | kNN, k = 1 | linear probe |", "|---|---|---|"]
    return [*rows, *(f"| {name} | {row['knn']:.1%} | {row['linear']:.1%} |" for name, row in ablations.items())]


def report(args: argparse.Namespace) -> None:
    results = evaluate_all(args)
    shares = [dropped_shares(settings(args.data, args.out, "aimclr", seed)) for seed in args.seeds]
    logs = {
        name: {
            stream: [read_log(folder_of(settings(args.data, args.out, name, seed, stream))) for seed in args.seeds]
            for stream in args.streams
        }
        for name in METHODS
    }
    ablations = {}
    for name in ABLATIONS:
        folder = folder_of(ablation(args.data, args.out, name))
        ablations[name] = {**json.loads((folder / "result.json").read_text()), "log": read_log(folder)}
    drops = ", ".join(f"{name} {spread([share[name] for share in shares], len(shares))} %" for name in shares[0])
    how = f"`{' '.join(COMMON)}`; pre-training also `{' '.join(PRETRAINING)}`, supervised `{' '.join(SUPERVISED)}`"
    lines = [
        *main_table(args, results),
        f"\nMean, lowest and highest of {len(args.seeds)} seeds. Settings: {how}.",
    ]
    learned = [
        f"Share that EADM drops at margin 0.7 from the trained joint encoders' maps of extreme views: {drops}.",
        "Joints and frames are the paper's form, elements the released form; batch norm takes the batch's statistics.",
        f"\nAimCLR, joint stream, {SHORT[1]} epochs, seed 0 (`{' '.join(SHORT)}`), one thing changed at a time:\n",
        *ablation_table(ablations),
    ]
    args.to.mkdir(parents=True, exist_ok=True)
    write(args.to / "utd_mhad.md", "\n".join(lines) + "\n")
    write(args.to / "utd_mhad_settings.md", "\n".join(learned) + "\n")
    how_made = {"common": COMMON, "pretraining": PRETRAINING, "seeds": args.seeds, "report": origin()}
    content = how_made | {"results": results, "logs": logs, "ablations": ablations, "dropped_at_0.7": shares}
    write(args.to / "utd_mhad.json", json.dumps(content, indent=1) + "\n")
    for stream in args.streams:
        level = summarize([row["knn"] for row in results["untrained"][stream]]).mean
        curves = {TITLES[name]: logs[name][stream] for name in METHODS}
        viz.plot_runs(curves, levels={"untrained": level}).savefig(args.to / f"utd_mhad_{stream}.png", dpi=110)
    print("\n".join([*lines, "", *learned]))


def length(args: argparse.Namespace) -> None:
    """Train on joints for long and with other shears, seed by seed, and write what came of it."""
    args.out.mkdir(parents=True, exist_ok=True)
    long: dict[str, list[float]] = {epoch: [] for epoch in LONG_EPOCHS}
    short: dict[str, list[float]] = {name: [] for name in ("untrained", *SHEARS)}
    logs: dict[str, list[list[dict[str, float]]]] = {name: [] for name in ("long", *SHEARS)}

    def trained(name: str, changed: Sequence[str], seed: int) -> list[str]:
        arguments = variation(args, name, changed, seed)
        unless_done(pretraining.main, arguments)
        return arguments

    def exact(arguments: list[str], file: str | None) -> float:
        return accuracies(arguments, file)[0]["exact"]

    for seed in args.seeds:
        arguments = trained("long", LONG, seed)
        logs["long"].append(read_log(folder_of(arguments)))
        short["untrained"].append(exact(arguments, None))
        for epoch in LONG_EPOCHS:
            long[epoch].append(exact(arguments, "last.pt" if epoch == LONG_EPOCHS[-1] else f"epoch-{epoch}.pt"))
        for shear in SHEARS:
            arguments = trained(f"shear-{shear}", [*SHORT, "--shear", shear], seed)
            logs[shear].append(read_log(folder_of(arguments)))
            short[shear].append(exact(arguments, "last.pt"))
    lines = length_tables(args.seeds, long, logs["long"], short)
    args.to.mkdir(parents=True, exist_ok=True)
    write(args.to / "utd_mhad_length.md", "\n".join(lines) + "\n")
    content = {"common": [*COMMON, *PRETRAINING], "long": LONG, "short": SHORT, "seeds": args.seeds, "report": origin()}
    content |= {"exact_by_epoch": long, "exact_by_shear": short, "logs": logs}
    write(args.to / "utd_mhad_length.json", json.dumps(content, indent=1) + "\n")
    print("\n".join(lines))


def length_tables(
    seeds: Sequence[int],
    long: dict[str, list[float]],
    logs: Sequence[list[dict[str, float]]],
    short: dict[str, list[float]],
) -> list[str]:
    """Accuracy by epoch with the loss below it, and accuracy by shear; exact probe, seed by seed."""
    lines = [f"| joint stream, epoch | {' | '.join(long)} |", "|---" * (len(long) + 1) + "|"]
    for place, seed in enumerate(seeds):
        losses = [logs[place][int(epoch) - 1]["total"] for epoch in long]
        lines.append(f"| seed {seed} | {' | '.join(f'{found[place]:.1%}' for found in long.values())} |")
        lines.append(f"| its loss | {' | '.join(f'{loss:.1f}' for loss in losses)} |")
    lines += ["", f"| joint stream, {SHORT[1]} epochs | {' | '.join(f'seed {seed}' for seed in seeds)} |"]
    lines.append("|---" * (len(seeds) + 1) + "|")
    for name, found in short.items():
        title = name if name == "untrained" else f"shear of {name}"
        lines.append(f"| {title} | {' | '.join(f'{value:.1%}' for value in found)} |")
    return lines


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=["run", "ablate", "report", "length"])
    parser.add_argument("--data", type=Path, required=True, help="folder of the .mat files")
    parser.add_argument("--out", type=Path, default=Path("runs/utd_mhad"), help="folder of the runs")
    parser.add_argument("--to", type=Path, default=Path("benchmarks/results"), help="folder of the report")
    parser.add_argument("--methods", nargs="+", choices=EVERY, default=EVERY)
    parser.add_argument("--streams", nargs="+", choices=STREAMS, default=STREAMS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    args = parser.parse_args(argv)
    {"run": run, "ablate": ablate, "report": report, "length": length}[args.command](args)


if __name__ == "__main__":
    main()
