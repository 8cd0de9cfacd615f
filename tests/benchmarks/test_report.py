"""Results as tables and plots: what is held is shown, old and absent results too, and the page includes all of it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from benchmarks.__main__ import write
from benchmarks.forms import table, whole_row
from benchmarks.machine import ROOT
from benchmarks.registry import BENCHMARKS

from benchmarks import report

MACHINE = {"date": "today", "commit": "abc", "machine": "a CPU, 2 logical cores", "versions": "torch 9"}


def keep(folder: Path, name: str, result: dict[str, Any], **machine: str) -> None:
    write(folder, name, MACHINE | machine, "as printed\n", {"machine": MACHINE | machine, "result": result})


def grown() -> dict[str, Any]:
    rows = []
    for value in (16, 64):
        for form, scale in (("released form", 4.0), ("ours", 1.0)):
            times = [scale * value, scale * value * 2, scale * value * 3]
            base = [4.0 * value, 4.0 * value * 2, 4.0 * value * 3]
            rows.append(whole_row(f"K {value}", form, times, base, value * 2**20) | {"value": value})
    rows[-1]["share"] = 0.625
    return table("Loss, K", "K", rows, axis="K")


def test_wins_losses_limits_and_machines_are_shown(tmp_path: Path) -> None:
    slower = [whole_row("layer", form, [s] * 2, [1.0] * 2, None) for form, s in (("released form", 1), ("ours", 2.0))]
    limits = {"copy_bytes_per_second": 2e10, "matrix_flops_per_second": 7e10}
    keep(tmp_path, "losses", {"threads": 1, "limits": limits, "tables": [table("A layer", "case", slower)]})
    keep(tmp_path, "losses", {"tables": [table("A layer", "case", slower)]}, device="A GPU")
    page = report.render("losses", tmp_path, None)
    assert "**a CPU, 2 logical cores**, today, commit `abc`" in page
    assert "**A GPU**" in page
    assert "Threads 1; a copy moves 20 GB/s, a large product runs at 70 GFLOP/s." in page
    assert "| layer | released form | 1000 (1000-1000) | 1 |  |" in page
    assert "|  | ours | 2000 (2000-2000) | 0.50 (0.50-0.50) |  |" in page


def test_parts_means_and_projections_are_shown(tmp_path: Path) -> None:
    parts = {"released form": {"backward": 0.5}, "ours": {"backward": 0.25}}
    more = {"parts": parts, "hours_of_ntu_60": {"ours": 12.34}, "geometric_means": {"auto": {"both": 2.5}}}
    keep(tmp_path, "step", {"tables": [{**grown(), **more}]})
    page = report.render("step", tmp_path, None)
    assert "| backward | 500 | 250 |" in page
    assert "ours: 12.34 hours." in page
    assert "`auto`, times faster, geometric mean, each layer as often as it occurs: both 2.50." in page
    assert "| 62% |" in page


def test_a_result_without_tables_is_shown_as_printed(tmp_path: Path) -> None:
    keep(tmp_path, "parsing", {"milliseconds_per_file": 3})
    page = report.render("parsing", tmp_path, None)
    assert "```text\nas printed\n```" in page


def test_every_operation_gets_a_file_and_growth_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep(tmp_path, "scaling", {"tables": [grown()]})
    assert report.main(["--results", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    found = {path.name for path in (tmp_path / "out").iterdir()}
    pages = {f"performance_{name}.md" for name in BENCHMARKS}
    (image,) = found - pages
    assert pages <= found
    assert (tmp_path / "out" / image).read_bytes().startswith(b"\x89PNG")
    assert f"]({image})" in (tmp_path / "out" / "performance_scaling.md").read_text()
    assert "Not measured yet: `python -m benchmarks losses --out" in (
        tmp_path / "out" / "performance_losses.md"
    ).read_text(encoding="utf-8")
    assert "performance_*.md" in capsys.readouterr().out


def test_a_broken_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "losses-cpu.json").write_text("{")
    with pytest.raises(SystemExit, match=r"losses-cpu\.json"):
        report.render("losses", tmp_path, None)


def test_the_page_includes_every_operation_as_it_is_rendered() -> None:
    page = (ROOT / "docs" / "guide" / "performance.md").read_text(encoding="utf-8")
    included = re.findall(r"\{include\} \.\./\.\./benchmarks/results/performance_(\w+)\.md", page)
    assert sorted(included) == sorted(BENCHMARKS)
    for name in BENCHMARKS:
        kept = (report.RESULTS / f"performance_{name}.md").read_text(encoding="utf-8")
        images = [line for line in kept.splitlines() if line.startswith("![")]
        rendered = report.render(name, report.RESULTS, None)
        without = "\n".join(line for line in kept.splitlines() if not line.startswith("!["))
        assert re.sub(r"\n+", "\n", without).strip() == re.sub(r"\n+", "\n", rendered).strip(), (
            f"performance_{name}.md is not what its results give: run `python -m benchmarks.report`"
        )
        for image in images:
            assert (report.RESULTS / image.split("](")[1].rstrip(")")).exists()


def test_results_are_numbers() -> None:
    for name in BENCHMARKS:
        for path in report.results_of(name, report.RESULTS):
            assert {"machine", "result"} <= json.loads(path.read_text(encoding="utf-8")).keys()
