"""How the paper's tables are written and drawn: Markdown with the paper's numbers beside ours, bars and curves.

`reproduce.py` and `study_utd_mhad.py` fill them.
"""

import argparse
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from paper_tables import BUDGETS, PAPER, TABLES, TITLES, Budget
from skelcontrast import evaluation, viz

UNTRAINED = ("untrained", "scratch")
"""Rows whose encoders are not pre-trained."""


class Row(NamedTuple):
    """What one row of a table holds: values of each seed, by column and protocol."""

    name: str
    cells: dict[tuple[str, str], list[float]]


def variant_of(row: str, budget: Budget) -> str:
    """The pre-training that a row's name stands for; untrained encoders are built as AimCLR's are."""
    return budget.aimclr if row in ("AimCLR", *UNTRAINED) else row


def title_of(row: str, budget: Budget) -> str:
    return TITLES[variant_of(row, budget) if row == "AimCLR" else row]


def markdown(args: argparse.Namespace, name: str, rows: Sequence[Row]) -> list[str]:
    """The table: mean and range of the seeds, and the paper's number where it has one."""
    content, budget = TABLES[name], BUDGETS[args.budget]
    where = (args.benchmark, args.protocol)
    lines = [f"### {name.capitalize() if name.startswith('figure') else f'Table {name}'}: {content.title}", ""]
    for protocol in content.protocols:
        columns = [column for column, held in rows[0].cells if held == protocol]
        lines += [f"| {protocol}, % | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
        for row in rows:
            texts = []
            for column in columns:
                paper = PAPER.get((name, row.name, column, protocol), {}).get(where)
                ours = spread(row.cells[column, protocol], len(args.seeds))
                texts.append(ours if paper is None else f"{ours} [{paper}]")
            lines.append(f"| {title_of(row.name, budget)} | {' | '.join(texts)} |")
        lines.append("")
    return lines


def explained(args: argparse.Namespace) -> str:
    """What a number is, and what stands in parentheses and in brackets behind it."""
    count = len(args.seeds)
    ours = f"Means. In parentheses: lowest to highest of {count} seeds." if count > 1 else "One seed."
    known = any(args.benchmark == benchmark for numbers in PAPER.values() for benchmark, _ in numbers)
    paper = (
        "In brackets: the paper's number, where it has one." if known else "The paper has no numbers for this data set."
    )
    return f"{ours} {paper}"


def spread(values: Sequence[float], seeds: int) -> str:
    """Per cent: the mean, and the lowest to the highest of several seeds; how many, where not all are there."""
    if not values:
        return "-"
    mean, span = f"{100 * evaluation.summarize(values).mean:.1f}", f"{100 * min(values):.1f} to {100 * max(values):.1f}"
    if len(values) < seeds:
        return f"{mean} (one seed)" if len(values) == 1 else f"{mean} ({span}, {len(values)} seeds)"
    return mean if seeds == 1 else f"{mean} ({span})"


def draw(args: argparse.Namespace, name: str, rows: Sequence[Row], path: Path) -> bool:
    """Draw what is a picture in the paper, and Table 3; whether there is one."""
    titles = {row.name: title_of(row.name, BUDGETS[args.budget]) for row in rows}
    if name == "3":
        logs = {titles[row.name]: [list(log) for log in by_seed(row)] for row in rows if any(row.cells.values())}
        if logs:
            viz.plot_runs(logs, value="fused").savefig(path, dpi=110)
        return bool(logs)
    if name == "figure 3":
        bars = {titles[row.name]: {column: held for (column, _), held in row.cells.items() if held} for row in rows}
        if bars := {label: held for label, held in bars.items() if held}:
            viz.plot_bars(bars).savefig(path, dpi=110)
        return bool(bars)
    return False


def by_seed(row: Row) -> Iterator[list[dict[str, float]]]:
    """The curves of Table 3, a log per seed, by the first protocol."""
    columns = {int(column): values for (column, protocol), values in row.cells.items() if protocol == "exact"}
    for seed in range(min(map(len, columns.values()))):
        yield [{"epoch": float(epoch), "fused": values[seed]} for epoch, values in columns.items()]


def write(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def origin() -> dict[str, str]:
    """Where and with what this was made."""
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(git, check=False, capture_output=True, text=True).stdout.strip()  # noqa: S603  fixed arguments
    return {"commit": commit, "torch": torch.__version__, "machine": f"{platform.machine()}, {platform.system()}"}
