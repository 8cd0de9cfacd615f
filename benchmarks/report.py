"""Render what the benchmarks measured as tables and plots, which the page "Performance" includes.

python -m benchmarks.report                              from benchmarks/results, into the same folder
python -m benchmarks.report --results trial --out trial  from and into another one
python -m benchmarks.report --no-plots                   without matplotlib

Every operation of the registry becomes a file `performance_NAME.md`, with a section for every machine that measured it,
wins and losses alike. A result without tables is shown as the benchmark printed it.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.forms import LAUNCHED, PARTS
from benchmarks.machine import ROOT
from benchmarks.measure import show_number
from benchmarks.registry import BENCHMARKS
from skelcontrast._atomic import write_atomically

RESULTS = ROOT / "benchmarks" / "results"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="Tables and plots of the results.")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for tables and plots")
    parser.add_argument("--no-plots", action="store_true", help="tables alone")
    args = parser.parse_args(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    for name in BENCHMARKS:
        page = render(name, args.results, None if args.no_plots else args.out)
        write_atomically(args.out / f"performance_{name}.md", lambda file, page=page: file.write(page.encode()))  # type: ignore[misc]  # bound now, not later
    print(f"written to {args.out}: performance_*.md")
    return 0


def results_of(name: str, folder: Path) -> Iterator[Path]:
    """Return the results of an operation, of CPUs and then of GPUs, in the order of the machines' names."""
    found = {path: read(path) for path in sorted(folder.glob(f"{name}-*.json"))}
    kept = [path for path, result in found.items() if isinstance(result, dict)]
    yield from sorted(kept, key=lambda path: "device" in found[path].get("machine", {}))


def read(path: Path) -> Any:  # noqa: ANN401  numbers of any operation
    """Read a result, or say which file is no such thing."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        sys.exit(f"{path}: {error}")


def render(name: str, folder: Path, plots: Path | None) -> str:
    """Return an operation's tables, of every machine that measured it; plots go into a folder, where one is given."""
    lines = ["<!-- Made by `python -m benchmarks.report` from the results beside it. -->", ""]
    found = list(results_of(name, folder))
    if not found:
        where = {"cuda": ", with CUDA", "cpu": ", on a CPU", None: ""}[BENCHMARKS[name].only]
        lines += [f"Not measured yet: `python -m benchmarks {name} --out benchmarks/results`{where}.", ""]
    for path in found:
        kept = read(path)
        lines += [describe(kept["machine"], kept["result"], path), ""]
        tables = kept["result"].get("tables") if isinstance(kept["result"], dict) else None
        if tables is None:
            lines += ["```text", said(path), "```", ""]
        for number, table in enumerate(tables or []):
            lines += [*render_table(table), ""]
            if plots is not None and "axis" in table:
                from benchmarks.plots import plot_growth

                image = f"performance_{path.stem}_{number}.png"
                plot_growth(table, plots / image)
                lines += [f"![{table['title']}: time and memory]({image})", ""]
    return "\n".join(lines)


def describe(machine: dict[str, str], result: Any, path: Path) -> str:  # noqa: ANN401  numbers of any operation
    """Say in a sentence what was measured where, and what the machine gives."""
    where = machine.get("device", machine["machine"])
    commit, space, remark = machine["commit"].partition(" ")
    text = f"**{where}**, {machine['date']}, commit `{commit}`{space}{remark}, {machine['versions']} (`{path.stem}`)."
    if "gate" in machine:
        text += f" Gate: {machine['gate']}."
    if not isinstance(result, dict):
        return text
    of_device = ("dtype", "precision") if "device" in machine else ("threads", "clock")
    settings = ", ".join(f"{name} {result[name]}" for name in ("batch", *of_device, "repeats") if name in result)
    limits = result.get("limits")
    if limits is not None:
        copy, matrix = (show_number(limits[of] / 1e9) for of in ("copy_bytes_per_second", "matrix_flops_per_second"))
        settings += f"; a copy moves {copy} GB/s, a large product runs at {matrix} GFLOP/s"
    return f"{text} {settings[:1].upper()}{settings[1:]}." if settings else text


def said(path: Path) -> str:
    """Return what a benchmark printed, without the lines on the machine."""
    text = path.with_suffix(".txt")
    printed = text.read_text(encoding="utf-8") if text.exists() else "(its text is gone)"
    return printed.partition("\n\n")[2].strip() or printed.strip()


def render_table(table: dict[str, Any]) -> list[str]:
    """Return a table's title and rows, and what it says beside them."""
    rows = table["rows"]
    found = [part for part in PARTS if any(part in row["seconds"] for row in rows)]
    launched, parts = LAUNCHED in found, [part for part in found if part != LAUNCHED]
    columns = [table["case"], "form", *([f"{part}, ms" for part in parts] if len(parts) > 1 else ["ms"])]
    columns += ["times faster (quartiles)", *(["launched one by one, ms"] if launched else []), "memory"]
    with_share = any("share" in row for row in rows)
    columns += ["share of the limit"] if with_share else []
    cells = []
    for number, row in enumerate(rows):
        is_first = number == 0 or rows[number - 1]["case"] != row["case"]
        count = f" ({row['count']} times)" if row.get("count", 1) > 1 else ""
        times = (milliseconds(row["seconds"].get(part), quartiles=part == "both") for part in parts)
        cell = [f"{row['case']}{count}" if is_first else "", row["form"], *times]
        cell += [ratio(row["times_faster"]["both"], is_first), *([one_by_one(row)] if launched else [])]
        cell += [memory(row.get("bytes"))]
        cells.append(cell + ([f"{row['share']:.0%}" if "share" in row else ""] if with_share else []))
    lines = [f"*{table['title']}*", "", line(columns), line(["---"] * len(columns)), *map(line, cells)]
    for form, means in table.get("geometric_means", {}).items():
        shown = ", ".join(f"{part} {mean:.2f}" for part, mean in means.items())
        lines += ["", f"`{form}`, times faster, geometric mean, each layer as often as it occurs: {shown}."]
    if "parts" in table:
        lines += ["", *render_parts(table["parts"])]
    for form, hours in table.get("hours_of_ntu_60", {}).items():
        lines += ["", f"300 epochs of NTU-60 at this rate, {form}: {show_number(hours)} hours."]
    return lines


def render_parts(parts: dict[str, dict[str, float]]) -> list[str]:
    """Return the parts of a step, side by side."""
    forms = list(parts)
    names = list(parts[forms[0]])
    cells = [[name, *(show_number(1e3 * parts[form][name]) for form in forms)] for name in names]
    return [line(["part", *(f"{form}, ms" for form in forms)]), line(["---"] * (1 + len(forms))), *map(line, cells)]


def milliseconds(spread: dict[str, float] | None, *, quartiles: bool) -> str:
    """Write a median, and the quartiles where they are wanted."""
    if spread is None:
        return ""
    median, low, high = (show_number(1e3 * spread[name]) for name in ("median", "low", "high"))
    return f"{median} ({low}-{high})" if quartiles else median


def one_by_one(row: dict[str, Any]) -> str:
    """Write the time of a form that is launched operation by operation, and its ratio to the first form's."""
    if LAUNCHED not in row["seconds"]:
        return ""
    faster = row["times_faster"][LAUNCHED]["median"]
    return f"{milliseconds(row['seconds'][LAUNCHED], quartiles=False)} ({faster:.2f} x)"


def ratio(spread: dict[str, float], is_first: bool) -> str:
    """Write how many times faster a form is than the first."""
    digits = ".2f" if spread["low"] >= 0.1 else ".2g"
    return "1" if is_first else f"{spread['median']:{digits}} ({spread['low']:{digits}}-{spread['high']:{digits}})"


def memory(held: float | None) -> str:
    """Write peak memory in MiB."""
    return "" if held is None else f"{held / 2**20:.1f} MiB"


def line(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
