"""The runs behind the paper's tables: which there are, what they would cost, and doing them; for `reproduce.py`."""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch

import aimclr_ntu
import crossclr_ntu
from aimclr_ntu import errors_in_one_line
from paper_pages import UNTRAINED, origin, variant_of, write
from paper_tables import BUDGETS, STREAMS, TABLES, VARIANTS, Content
from skelcontrast.data import SkeletonLoader

SCRIPTS: dict[str, ModuleType] = {"aimclr_ntu": aimclr_ntu, "crossclr_ntu": crossclr_ntu}


class Run(NamedTuple):
    """A pre-training: the script, and its arguments."""

    script: str
    folder: Path
    arguments: tuple[str, ...]

    @property
    def done(self) -> bool:
        """Whether it has come to its end."""
        return (self.folder / "result.json").exists()

    def has(self, name: str | None) -> bool:
        """Whether a checkpoint is there to be measured: the last one at the end only; `None`: before the first step."""
        begun = (self.folder / "settings.json").exists()
        return begun and (name is None or ((self.folder / name).exists() and (self.done or name != "last.pt")))


def run_of(args: argparse.Namespace, row: str, stream: str, seed: int) -> Run:
    """The pre-training of one stream of a row; cross-stream mining trains all of them together."""
    budget = BUDGETS[args.budget]
    variant = variant_of(row, budget)
    script, own = VARIANTS[variant]
    crossing = script == "crossclr_ntu"
    folder = args.out / (f"{variant}-{seed}" if crossing else f"{variant}-{stream}-{seed}")
    fills = {"half": budget.epochs // 2, "never": budget.epochs}
    arguments = (
        *("--epochs", str(budget.epochs), *budget.arguments, *(argument.format(**fills) for argument in own)),
        *(() if args.dataset != "official-npy" else ("--frames", "50")),  # the folder says how many; as unless given
        *("--keep", *map(str, budget.keep), *used(args.more, own), "--seed", str(seed), "--out", str(folder)),
        *(() if crossing else ("--stream", stream)),
        *(() if args.data is None else ("--data", str(args.data))),
        *(() if args.dataset is None else ("--dataset", args.dataset)),
        *(() if args.protocol is None or args.dataset == "official-npy" else ("--protocol", args.protocol)),
    )
    return Run(script, folder, arguments)


def used(more: Sequence[str], own: Sequence[str]) -> list[str]:
    """The arguments for every pre-training without those that do nothing in a row, by the arguments of its own."""
    idle: set[str] = set()
    for (name, value), options in aimclr_ntu.IDLE.items():
        if f"--{name}".replace("_", "-") in own and (value is True or value in own):
            idle.update(options)
    kept, leaves_out = list[str](), False
    for argument in more:
        if argument.startswith("--"):
            leaves_out = argument.removeprefix("--").partition("=")[0].replace("-", "_") in idle
        if not leaves_out:
            kept.append(argument)
    return kept


def planned(args: argparse.Namespace) -> dict[Path, Run]:
    """All runs that the tables need, by folder, seed by seed; an untrained encoder needs none."""
    runs: dict[Path, Run] = {}
    for seed in args.seeds:
        for name in args.contents:
            for row in TABLES[name].rows:
                for stream in streams_of(TABLES[name]) if row not in UNTRAINED else ():
                    run = run_of(args, row, stream, seed)
                    runs[run.folder] = run
    return runs


def check_begun(args: argparse.Namespace) -> None:
    """Refuse runs in the folder that were made with other settings than those that the tables would name."""
    for run in planned(args).values():
        with errors_in_one_line():
            aimclr_ntu.check_resumed(SCRIPTS[run.script].parse([*run.arguments, "--resume"]))


def streams_of(content: Content) -> tuple[str, ...]:
    """The streams that a table needs: all, where it shows their fusion."""
    return (
        tuple(stream for stream in STREAMS if stream in content.columns) if content.columns[-1] in STREAMS else STREAMS
    )


def plan(args: argparse.Namespace) -> None:
    """Print the runs and what they would cost, from up to three steps of each kind on this machine."""
    seconds: dict[str, float] = {}
    total = 0.0
    for run in planned(args).values():
        parsed = SCRIPTS[run.script].parse([*run.arguments, "--resume"])
        with errors_in_one_line():
            train, _ = aimclr_ntu.load_data(parsed)
            if parsed.method not in seconds:
                seconds[parsed.method] = step_seconds(parsed, train)
        steps = parsed.epochs * (len(train) // parsed.batch_size)
        streams = len(vars(parsed).get("streams", [parsed.stream]))
        left = 0.0 if run.done else steps * streams * seconds[parsed.method]
        total += left
        state = "done" if run.done else "begun" if (run.folder / "last.pt").exists() else "to do"
        print(f"{run.folder.name:28} {state:6} {parsed.epochs} epochs, {steps} steps, {left / 60:7.1f} min")
    print(f"{total / 3600:.1f} hours on {platform.machine()}, by the time of a few steps; evaluation not counted")


def step_seconds(args: argparse.Namespace, train: Any) -> float:
    """Seconds that a training step of one stream takes."""
    torch.manual_seed(0)
    model = aimclr_ntu.build_model(args, train).to(args.device)
    optimizer = torch.optim.SGD(model.query_parameters(), lr=0.0)
    few = train.subset(range(min(len(train), 3 * args.batch_size)))
    loader = SkeletonLoader(few, args.batch_size, device=args.device)
    step, taken = aimclr_ntu.build_step(model.train(), train, args, 0), []
    for _ in range(2):  # the first one warms up
        start = time.perf_counter()
        for batch in loader:
            optimizer.zero_grad(set_to_none=True)
            terms = step(batch.x, batch.generator)
            optimizer.step()
        float(terms["total"])  # waits for the device
        taken.append((time.perf_counter() - start) / len(loader))
    return taken[-1]


def train(args: argparse.Namespace) -> None:
    """Do the runs that are not done, or the rest of them."""
    runs, where = planned(args), origin()
    for place, run in enumerate(runs.values(), 1):
        if not run.done:
            print(f"{place} of {len(runs)}: {run.folder.name}", flush=True)
            begun = (run.folder / "last.pt").exists()
            if not begun:
                run.folder.mkdir(parents=True, exist_ok=True)
                write(run.folder / "origin.json", json.dumps(where) + "\n")
            SCRIPTS[run.script].main([*run.arguments, "--resume"])  # which begins where there is nothing yet


def trained_at(args: argparse.Namespace) -> dict[str, str]:
    """By run that is there, the commit at which it was begun."""
    places = [folder / "origin.json" for folder in sorted(planned(args))]
    return {place.parent.name: json.loads(place.read_text())["commit"] for place in places if place.exists()}
