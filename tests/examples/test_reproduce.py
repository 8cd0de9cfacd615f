"""Tables and figures: planned from the paper, run end to end on generated data of its data sets' shapes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tests.examples.conftest import EXAMPLES, LoadExample
from tests.examples.test_from_raw import SETS

from skelcontrast.data.__main__ import main as data_command

TINY = ("--frames", "8", "--width", "2", "--embedding", "8", "--batch-size", "8", "--dropout", "0", "--eval-every", "9")


@pytest.fixture
def script(example: LoadExample, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script with a budget that is done in a moment."""
    module = example("reproduce")
    tiny = module.BUDGETS["small"]._replace(epochs=2, arguments=TINY, keep=(1, 2), finetune=(1, 0.1), semi=(1, 0.1))
    monkeypatch.setitem(module.BUDGETS, "small", tiny)
    return module


def prepared(name: str, folder: Path) -> Path:
    raw = SETS[name][0](folder / "raw")
    assert data_command(["prepare", name, str(raw), str(folder / "prepared"), "--quiet"]) == 0
    return folder / "prepared"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "protocol", "tables", "figures", "number"),
    [
        ("ntu60", "xsub", "1 2 3 4", "2 3", "[78.9]"),
        ("ntu120", "xset", "2 6 8", "", "[68.8]"),
        ("pku1", "xsub", "2 5 7", "3", "[87.8]"),
        ("pku2", "xsub", "5", "", "[38.5]"),
    ],
)
def test_every_table_on_the_shapes_of_its_data_set(
    script: ModuleType, name: str, protocol: str, tables: str, figures: str, number: str, tmp_path: Path
) -> None:
    data, out, to = prepared(name, tmp_path), tmp_path / "runs", tmp_path / "to"
    wanted = ["--table", *tables.split(), *(["--figure", *figures.split()] if figures else [])]
    given = [*wanted, "--data", str(data), "--protocol", protocol, "--budget", "small"]
    call = [*given, "--out", str(out), "--to", str(to)]
    script.main(call)
    text = (to / "tables.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert rows
    assert not any("| - " in row for row in rows)  # every cell is filled
    assert number in text  # the paper's number of this data set
    for table in tables.split():
        assert f"### Table {table}: {script.TABLES[table].title}" in text
    pictures = {f"tables_figure_{figure}.png" for figure in figures.split()} | {
        "tables_3.png" for table in tables.split() if table == "3"
    }
    assert {path.name for path in to.glob("*.png")} == pictures
    content = json.loads((to / "tables.json").read_text())
    assert set(content) >= {"commit", "machine", "torch", "seeds", "budget", "tables"}
    values = content["tables"]["2" if "2" in tables else "5"]["AimCLR"]["fused, exact"]
    assert len(values) == 1
    assert 0 <= values[0] <= 1
    assert set(content["trained_at"]) == {path.parent.name for path in out.glob("*/result.json")}
    if name != "pku2":  # the rest costs half as much again, so once is enough
        return
    stamps = {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}
    script.main([*call, "--to", str(tmp_path / "again")])  # nothing is trained or measured twice
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()} == stamps
    assert (tmp_path / "again" / "tables.md").read_text() == text


@pytest.mark.slow
def test_plan_and_partial(script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["--table", "2", "--budget", "small", "--out", str(tmp_path), "--seeds", "0", "1"]
    small = ["--", "--queue-size", "16"]
    script.main([*call, "--plan", *small])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in lines[:2]] == [
        ["skeletonclr-joint-0", "to", "do"],
        ["skeletonclr-motion-0", "to", "do"],
    ]
    assert len(lines) == 2 * 3 * 2 + 1  # methods, streams, seeds; the sum
    assert "hours on" in lines[-1]
    assert not list(tmp_path.iterdir())  # nothing was started
    run = script.run_of(script.parse([*call, *small]), "skeletonclr", "joint", 0)
    sys.modules["paper_runs"].SCRIPTS[run.script].main(list(run.arguments))
    script.main([*call, "--partial", *small])
    text = (tmp_path / "tables.md").read_text()
    assert "| SkeletonCLR | - | - | - | - |" not in text  # its joint stream is there
    assert "| AimCLR without NNM | - | - | - | - |" in text
    (run.folder / "result.json").unlink()  # as if it were still going on: its last checkpoint is not the end
    script.main([*call, "--partial", *small])
    assert "| SkeletonCLR | - | - | - | - |" in (tmp_path / "tables.md").read_text()


def test_a_plan_for_fewer_clips_than_three_batches(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--table", "2", "--budget", "small", "--out", str(tmp_path), "--plan", "--", "--batch-size"]
    script.main([*call, "192"])  # 384 clips
    assert "2 epochs, 4 steps" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        script.main([*call, "400"])
    assert "error: SkeletonLoader: `batch_size` must be at most the number of sequences, 384" in capsys.readouterr().err


def test_what_cannot_be_made_is_said(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    for call, message in (
        ([], "nothing to make: give --table 1..8, --figure 2 or 3, or several"),
        (["--table", "9"], "argument --table: invalid choice: '9'"),
        (["--figure", "1"], "argument --figure: invalid choice: '1'"),
    ):
        with pytest.raises(SystemExit):
            script.main(call)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ([], "synthetic, cross-subject"),
        (["--data", "x", "--dataset", "utd-mhad"], "utd-mhad, xsub"),
        (["--data", "x", "--dataset", "official-npy"], "official-npy"),
        (["--data", "x", "--dataset", "official-npy", "--protocol", "xview", "--benchmark", "ntu60"], "ntu60, xview"),
    ],
)
def test_the_label_says_the_split_that_is_used(
    script: ModuleType, options: list[str], label: str, tmp_path: Path
) -> None:
    call = ["--table", "2", "--budget", "small", "--out", str(tmp_path), *options]
    run = script.run_of(script.parse(call), "skeletonclr", "joint", 0)
    trained = sys.modules["paper_runs"].SCRIPTS[run.script].parse(run.arguments)
    assert trained.protocol == (None if "official-npy" in options else label.split(", ")[1])
    script.main([*call, "--partial"])
    text = (tmp_path / "tables.md").read_text()
    assert f"\n{label}. Budget: 2 epochs" in text
    known = "In brackets: the paper's number, where it has one."
    assert f"One seed. {known if 'ntu60' in label else 'The paper has no numbers for this data set.'}\n" in text


def test_the_data_set_is_known_whatever_the_language_of_the_machine(tmp_path: Path) -> None:
    report = {"dataset": "pku1", "class_names": ["欠伸"]}
    (tmp_path / "report.json").write_text(json.dumps(report, ensure_ascii=False), encoding="utf-8")
    code = "import reproduce, sys; print(reproduce.parse(sys.argv[1:]).benchmark)"
    command = [sys.executable, "-c", code, "--table", "2", "--data", str(tmp_path), "--out", str(tmp_path / "out")]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=EXAMPLES)
    assert (done.stdout, done.stderr) == ("pku1\n", "")


def test_runs_of_other_settings_are_not_rendered(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call = ["--table", "2", "--budget", "small", "--out", str(tmp_path), "--partial"]
    run = script.run_of(script.parse(call), "skeletonclr", "joint", 0)
    run.folder.mkdir()
    (run.folder / "last.pt").touch()
    (run.folder / "settings.json").write_text('{"protocol": "cross-view"}')
    with pytest.raises(SystemExit, match="2"):
        script.main(call)
    assert "protocol cross-subject where cross-view is stored" in capsys.readouterr().err


def test_what_nothing_is_known_of_yet_is_a_table_without_numbers(script: ModuleType, tmp_path: Path) -> None:
    script.main(["--figure", "3", "--budget", "small", "--out", str(tmp_path), "--partial"])
    page = (tmp_path / "tables.md").read_text()
    assert "| untrained encoder | - | - | - |" in page
    assert "![" not in page


def test_the_page_says_for_which_data_the_paper_has_numbers(script: ModuleType) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "guide" / "results.md").read_text()
    rows = re.findall(r"^\| `prepared/(\w+)` \| `(\w+)` \| ([\d ]+) \|$", page, re.MULTILINE)
    found: dict[tuple[str, str], set[str]] = {}
    for (table, *_), numbers in sys.modules["paper_tables"].PAPER.items():
        for where in numbers:
            found.setdefault(where, set()).add(table)
    assert {(data, protocol): set(tables.split()) for data, protocol, tables in rows} == found


def test_options_for_every_run_are_left_out_where_they_do_nothing(example: LoadExample, tmp_path: Path) -> None:
    script = example("reproduce")
    paper_runs = sys.modules["paper_runs"]
    more = ["--keep-margin", "0.8", "--mine-from=3", "--temperature", "0.1"]
    runs = paper_runs.planned(script.parse(["--table", "1", "3", "--out", str(tmp_path), "--", *more]))
    parsed = {folder.name: paper_runs.SCRIPTS[run.script].parse(run.arguments) for folder, run in runs.items()}
    assert {args.temperature for args in parsed.values()} == {0.1}
    found = {
        name.removesuffix("-0").removesuffix("-joint"): (args.keep_margin, args.mine_from)
        for name, args in parsed.items()
    }
    assert found["aimclr"] == found["aimclr-no-mining"] == found["aimclr-cross"] == (0.8, 3)
    assert found["aimclr-no-drop"] == (0.7, 3)
    assert found["skeletonclr"] == found["extreme-views"] == (0.7, 150)


def test_every_planned_run_is_accepted(example: LoadExample, tmp_path: Path) -> None:
    script = example("reproduce")
    for budget in script.BUDGETS:
        call = ["--table", *"12345678", "--figure", "2", "3", "--budget", budget, "--out", str(tmp_path)]
        paper_runs = sys.modules["paper_runs"]
        runs = paper_runs.planned(script.parse([*call, "--data", str(tmp_path), "--benchmark", "ntu60"]))
        parsed = {folder: paper_runs.SCRIPTS[run.script].parse(run.arguments) for folder, run in runs.items()}
        assert all(args.out == folder for folder, args in parsed.items())
        assert {args.epochs for args in parsed.values()} == {script.BUDGETS[budget].epochs}
        assert {args.queue_size for args in parsed.values()} == {32768 if budget == "paper" else None}
        mining = {folder.name: args.mine_from < args.epochs for folder, args in parsed.items()}
        assert mining["aimclr-joint-0"]
        assert not mining["aimclr-no-mining-joint-0"]
        assert parsed[tmp_path / "aimclr-no-drop-bone-0"].no_drop
        assert parsed[tmp_path / "extreme-views-bone-0"].views == "extreme"


def test_the_papers_numbers_are_those_of_its_rows(example: LoadExample) -> None:
    tables = example("paper_tables")
    for (table, row, column, protocol), numbers in tables.PAPER.items():
        content = tables.TABLES[table]
        assert row in content.rows
        assert column in content.columns or (table == "3" and int(column) in tables.BUDGETS["paper"].keep)
        assert protocol in content.protocols
        assert all(10 < number < 95 for number in numbers.values())
    assert tables.PAPER["2", "AimCLR", "motion", "linear"]["ntu120", "xset"] == 54.4
    assert tables.PAPER["7", "AimCLR", "fused", "semi 1%"]["ntu60", "xview"] == 54.3
    assert tables.PAPER["7", "crossclr", "fused", "semi 10%"]["pku2", "xsub"] == 28.6
    assert tables.PAPER["8", "crossclr", "fused", "finetune"]["ntu120", "xsub"] == 80.5
    assert {"crossclr", "aimclr-cross"} < set(tables.TABLES["figure 2"].rows)  # the two whose NMI the paper gives
