"""The host's time: kernels are counted and not launched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import host


def test_kernels_are_counted_and_do_nothing(tmp_path: Path) -> None:
    """In a process that does not interpret them."""
    where = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks.host", "--device", "cpu", "--repeats", "2", "--threads", "1"]
    hidden = {"TRITON_INTERPRET": "0"}
    run = subprocess.run(
        [*command, "--json", str(where)], check=False, capture_output=True, text=True, env={**os.environ, **hidden}
    )
    assert run.returncode == 0, run.stderr
    (table,) = json.loads(where.read_text(encoding="utf-8"))["tables"]
    forward, both = (row["case"] for row in table["rows"])
    # Two for each of 24 batch norms, less one in three blocks, where two of them are added up; one for the statistics
    # of the five whose features no kernel of ours has convolved; one for each convolution over the graph, two for all
    # but the widest over frames.
    assert forward == f"forward alone, as for keys: {2 * 24 - 3 + 5 + 10 + 2 * 9} kernels"
    # Backwards three for each of the first two kinds, and for two norms that are added up; four for the third.
    assert both == f"forward and backward: {5 * 24 - 3 + 5 - 3 * 3 + 4 * 10 + 6 * 9} kernels"
    assert all(row["seconds"]["both"]["median"] > 0 for row in table["rows"])


def test_interpreted_kernels_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(SystemExit):
        host.main(["--threads", str(torch.get_num_threads())])
    assert "unset TRITON_INTERPRET" in capsys.readouterr().err
