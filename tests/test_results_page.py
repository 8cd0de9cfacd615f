"""Differences that the page of results and the page on small data give are those of the stored seeds."""

import json
import re
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MINUS = {
    "SkeletonCLR": ("utd_mhad_seeds", "AimCLR", "skeletonclr"),
    "untrained encoder": ("utd_mhad_seeds", "AimCLR", "untrained"),
    "extreme views": ("utd_mhad_ablation", "extreme-views", "skeletonclr"),
    "D3M": ("utd_mhad_ablation", "aimclr-no-drop", "skeletonclr"),
    "EADM": ("utd_mhad_ablation", "aimclr-no-mining", "aimclr-no-drop"),
    "NNM": ("utd_mhad_ablation", "aimclr", "aimclr-no-mining"),
}
"""By the name of a line of differences, the file, and whose accuracy minus whose it gives."""
PROTOCOLS = {"exact": "exact", "linear": "linear", "kNN": "knn"}
STREAMS = ("joint", "motion", "bone", "fused")


def read(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / name).read_text(encoding="utf-8"))


def paired(one: Sequence[float], other: Sequence[float]) -> tuple[str, int]:
    """Return the mean difference in points with its standard error, and how often it is positive."""
    points = [100 * (a - b) for a, b in zip(one, other, strict=True)]
    error = statistics.stdev(points) / len(points) ** 0.5
    mean = round(statistics.fmean(points), 1) + 0.0  # never -0.0
    return f"{mean:.1f} ± {error:.1f}", sum(point > 0 for point in points)


def test_tables_of_differences_are_those_of_the_stored_seeds() -> None:
    page = (ROOT / "docs" / "guide" / "results.md").read_text(encoding="utf-8")
    line, seen = MINUS["SkeletonCLR"], 0
    for name, protocol, cells in re.findall(r"^\| ([\w ]*)\| (exact|linear|kNN) \|(.*)\|$", page, re.MULTILINE):
        line = MINUS[name.strip()] if name.strip() else line
        file, one, other = line
        values = {key: column for table in read(f"{file}.json")["tables"].values() for key, column in columns(table)}
        for stream, cell in zip(STREAMS, map(str.strip, cells.split("|")), strict=True):
            if cell:
                column = f"{stream}, {PROTOCOLS[protocol]}"
                found, ahead = paired(values[one, column], values[other, column])
                assert cell == f"{found} ({ahead})", (name, protocol, stream)
                seen += 1
    assert seen == 22 + 32


def columns(table: dict[str, dict[str, list[float]]]) -> list[tuple[tuple[str, str], list[float]]]:
    return [((row, column), values) for row, found in table.items() for column, values in found.items()]


def test_leads_with_equal_statistics_of_batch_norm_are_those_of_the_stored_seeds() -> None:
    page = (ROOT / "docs" / "guide" / "small_data.md").read_text(encoding="utf-8")
    stored = read("utd_mhad_batch_norm.json")["joint, exact"]
    for clips, ahead in (("plain", 8), ("extreme", 9)):
        found, times = paired(stored[clips]["aimclr-no-mining"], stored[clips]["skeletonclr"])
        assert f"{found} ({clips}" in page.replace("\n", " ")
        assert times == ahead
    for name in ("skeletonclr", "aimclr-no-mining"):
        for clips in stored:
            percent = [100 * value for value in stored[clips][name]]
            assert f"{statistics.fmean(percent):.1f} % ({min(percent):.1f} to {max(percent):.1f})" in page
