"""What becomes of a benchmark whose packages are not installed, and what `libraries` holds losses against."""

import sys

import pytest
import torch
from benchmarks.__main__ import BENCHMARKS, Benchmark, main

from benchmarks import libraries


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Keep what the runner would have started; everything fails."""
    commands: list[list[str]] = []

    class Failed:
        returncode, stdout = 1, ""

    def run(command: list[str], **_: object) -> Failed:
        commands.append(command)
        return Failed()

    monkeypatch.setattr("benchmarks.__main__.subprocess.run", run)
    monkeypatch.setattr("benchmarks.__main__.commit", lambda: "made up")
    return commands


def test_an_absent_package_skips_and_does_not_fail(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BENCHMARKS, "made_up", Benchmark("benchmarks.made_up", ("tests",), ("json", "no_such_package")))
    assert main(["made_up"]) == 0
    assert ran == []
    shown = capsys.readouterr().out
    assert "made_up: skipped, because no_such_package cannot be found" in shown
    assert 'pip install -c constraints.txt -e ".[bench]"' in shown
    assert "no result" not in shown


def test_present_packages_do_not_skip(
    ran: list[list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(BENCHMARKS, "made_up", Benchmark("benchmarks.made_up", ("tests",), ("json",)))
    assert main(["made_up"]) == 1
    assert len(ran) == 1
    assert "no result for: made_up" in capsys.readouterr().out


def test_run_alone_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightly", None)
    with pytest.raises(SystemExit, match=r'lightly.*pip install -c constraints\.txt -e "\.\[bench\]"') as stopped:
        libraries.main([])
    assert stopped.value.code != 0


def test_the_plain_form_knows_both_orders() -> None:
    problem = libraries.draw(4, 8, 16, torch.device("cpu"))
    ours = libraries.steps(None, None)[libraries.OURS](problem)
    found = [ours()[0].item() for _ in range(2)]
    assert found == pytest.approx(libraries.plain_losses(problem, keys_first=False), rel=1e-5)
    assert found != pytest.approx(libraries.plain_losses(problem, keys_first=True), rel=1e-2)
