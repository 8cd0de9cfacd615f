"""A preparation that is interrupted or killed at any moment, and begun again, ends with the same bytes."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from tests.reference.ntu_files import make_ntu_folder
from tests.reference.preparation import contents, interrupt, run


def test_an_interrupted_preparation_goes_on(ntu_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(ntu_folder, tmp_path / "undisturbed")
    out, unfinished = tmp_path / "out", tmp_path / "out.unfinished"
    interrupt(monkeypatch, ntu_folder, out, after=2)
    assert not out.exists()
    begun = (unfinished / "result" / "positions.npy").stat().st_size
    assert begun > 128
    # A process that dies while it writes leaves more than it has entered.
    with (unfinished / "result" / "positions.npy").open("ab") as file:
        file.write(b"half a batch")
    with (unfinished / "batches.jsonl").open("ab") as file:
        file.write(b"[16, [[")
    first = (unfinished / "batches.jsonl").read_bytes().splitlines()[0]
    interrupt(monkeypatch, ntu_folder, out, after=1)
    assert (unfinished / "result" / "positions.npy").stat().st_size > begun
    assert (unfinished / "batches.jsonl").read_bytes().splitlines()[0] == first
    run(ntu_folder, out)
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert not unfinished.exists()


def test_what_a_machine_that_went_down_has_lost_is_made_again(
    ntu_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(ntu_folder, tmp_path / "undisturbed")
    interrupt(monkeypatch, ntu_folder, tmp_path / "out", after=3)
    positions = tmp_path / "out.unfinished" / "result" / "positions.npy"
    content = bytearray(positions.read_bytes())
    content[len(content) // 2 :] = bytes(len(content) - len(content) // 2)  # blocks that never reached the disk
    positions.write_bytes(content)
    run(ntu_folder, tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


KILLS = """
    import os, random, shutil, signal, sys, time
    from pathlib import Path
    from skelcontrast.data import prepare

    raw, folder = Path(sys.argv[1]), Path(sys.argv[2])

    def begin(out):
        child = os.fork()
        if child == 0:
            prepare("ntu60", raw, out, progress=False)
            os._exit(0)
        return child

    def contents(out):
        return [(path.name, path.read_bytes()) for path in sorted(out.iterdir())]

    start = time.monotonic()
    os.waitpid(begin(folder / "undisturbed"), 0)
    lasts = time.monotonic() - start
    expected = contents(folder / "undisturbed")
    draw, caught, number = random.Random(0), 0, 0
    while caught < 20:  # a kill before the beginning or behind the end shows nothing, and is not counted
        number += 1
        assert number < 1000, "hardly a kill falls into a preparation"
        out, unfinished = folder / str(number), folder / f"{number}.unfinished"
        child = begin(out)
        time.sleep(draw.uniform(0, lasts))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        caught += unfinished.exists()
        assert not out.exists() or contents(out) == expected, number
        prepare("ntu60", raw, out, progress=False)
        assert contents(out) == expected, number
        assert not unfinished.exists(), number
        shutil.rmtree(out)
    print(caught)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_sigkill_at_random_moments_changes_nothing(tmp_path: Path) -> None:
    make_ntu_folder(tmp_path / "raw", count=100, frames=8)
    command = [sys.executable, "-c", textwrap.dedent(KILLS), str(tmp_path / "raw"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 20


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for worker processes in /proc")
def test_a_killed_command_takes_its_workers_with_it_and_can_be_finished(tmp_path: Path) -> None:
    raw, out = tmp_path / "raw", tmp_path / "out"
    make_ntu_folder(raw, count=300, frames=8)
    run(raw, tmp_path / "undisturbed")
    command = [sys.executable, "-m", "skelcontrast.data", "prepare", "ntu60", str(raw), str(out), "--workers", "2"]
    with subprocess.Popen([*command, "--quiet"]) as process:
        entered = tmp_path / "out.unfinished" / "batches.jsonl"
        until = time.monotonic() + 120
        while not (entered.exists() and entered.stat().st_size) and time.monotonic() < until:
            time.sleep(0.002)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.send_signal(signal.SIGKILL)
    assert len(children) >= 2
    until = time.monotonic() + 60
    while any(alive(int(child)) for child in children):
        assert time.monotonic() < until, "workers outlive the process that started them"
        time.sleep(0.05)
    assert not out.exists()
    run(raw, out)
    assert contents(out) == contents(tmp_path / "undisturbed")


def alive(process: int) -> bool:
    try:
        return "(zombie)" not in Path(f"/proc/{process}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
