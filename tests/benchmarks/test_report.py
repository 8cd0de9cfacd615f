"""Results as tables and plots: what is held is shown, old and absent results too, and the page includes all of it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from benchmarks.__main__ import write
from benchmarks.forms import part_row, table, whole_row
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


def test_a_gpu_stands_behind_a_cpu_and_has_two_clocks(tmp_path: Path) -> None:
    def layer(scale: float, *, launched: bool) -> dict[str, Any]:
        rows = []
        for form, faster in (("released form", 1.0), ("ours", 4.0)):
            parts = {"forward": 1.0, "backward": 2.0, "both": 3.0} | ({"launched": 6.0} if launched else {})
            base = {part: [scale * value] * 2 for part, value in parts.items()}
            mine = {
                part: [value / (2.0 if part == "launched" else faster) for value in of] for part, of in base.items()
            }
            rows.append(part_row("3->16", form, base if form == "released form" else mine, base, 2**20))
        return table("A layer", "layer", rows, geometric_means={"ours": {"both": 4.0}})

    limits = {"copy_bytes_per_second": 4.176e12, "matrix_flops_per_second": 5.1e13}
    more = {"threads": 8, "clock": "wall", "precision": "default", "dtype": "bfloat16", "repeats": 2}
    keep(tmp_path, "losses", {**more, "limits": limits, "tables": [layer(1e-4, launched=True)]}, device="A GPU")
    keep(tmp_path, "losses", {**more, "tables": [layer(1.0, launched=False)]}, threads="2")
    page = report.render("losses", tmp_path, None)
    on_cpu, _, on_gpu = page.partition("**A GPU**")
    assert "a CPU, 2 logical cores" in on_cpu
    assert "Threads 8, clock wall, repeats 2." in on_cpu
    assert "| layer | form | forward, ms | backward, ms | both, ms | times faster (quartiles) | memory |" in on_cpu
    assert "launched" not in on_cpu
    assert "Dtype bfloat16, precision default, repeats 2; a copy moves 4176 GB/s, " in on_gpu
    assert "a large product runs at 51,000 GFLOP/s." in on_gpu
    assert "both, ms | times faster (quartiles) | launched one by one, ms | memory |" in on_gpu
    assert "| 3->16 | released form | 0.1 | 0.2 | 0.3 (0.3-0.3) | 1 | 0.6 (1.00 x) | 1.0 MiB |" in on_gpu
    assert "|  | ours | 0.025 | 0.05 | 0.075 (0.075-0.075) | 4.00 (4.00-4.00) | 0.3 (2.00 x) | 1.0 MiB |" in on_gpu


def test_whole_calls_that_are_launched_too_have_two_columns(tmp_path: Path) -> None:
    base = {"both": [1.0] * 2, "launched": [2.0] * 2}
    rows = [part_row("pass", form, base, base, None) for form in ("released form", "STGCN")]
    rows += [whole_row("step", "captured", [1.0] * 2, [1.0] * 2, None)]
    keep(tmp_path, "graph_conv", {"tables": [table("Encoder", "pass", rows)]}, device="A GPU")
    page = report.render("graph_conv", tmp_path, None)
    assert "| pass | form | ms | times faster (quartiles) | launched one by one, ms | memory |" in page
    assert "| step | captured | 1000 (1000-1000) | 1 |  |  |" in page


def test_what_needs_cuda_says_so_until_it_is_measured(tmp_path: Path) -> None:
    page = report.render("graph_conv_bf16", tmp_path, None)
    assert "Not measured yet: `python -m benchmarks graph_conv_bf16 --out benchmarks/results`, with CUDA." in page


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


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("step-amd-epyc", "skelcontrast"),
        ("step-nvidia-h200", "skelcontrast, compiled and captured"),
        ("step_bf16-nvidia-h200", "skelcontrast, compiled and captured"),
    ],
)
def test_readme_says_what_was_measured(name: str, form: str) -> None:
    result = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))["result"]
    (faster,) = (row["times_faster"]["both"]["median"] for row in result["tables"][0]["rows"] if row["form"] == form)
    assert f"{faster:.1f} times" in (ROOT / "README.md").read_text(encoding="utf-8")
