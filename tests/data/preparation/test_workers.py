"""Work over processes: results in order, little of it at a time, and errors that arrive."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.reference import raw_files

from skelcontrast.data.preparation._workers import AHEAD, _send, _serve, _start, ordered


def test_one_worker_is_this_process() -> None:
    assert list(ordered(lambda task: (task, os.getpid()), range(3), workers=1)) == [(n, os.getpid()) for n in range(3)]


def test_results_come_in_order_and_tasks_are_taken_as_needed(tmp_path: Path) -> None:
    taken = []
    for number in range(40):
        (tmp_path / str(number)).mkdir()
        for entry in range(300 if number % 3 == 0 else 1):  # every third takes longer than its neighbours
            (tmp_path / str(number) / f"{number}-{entry}").touch()

    def tasks() -> Iterator[Path]:
        for number in range(40):
            taken.append(number)
            yield tmp_path / str(number)
        yield tmp_path / "nowhere"

    results = ordered(os.listdir, tasks(), workers=2)
    assert next(results)[0].startswith("0-")
    assert len(taken) <= 1 + 2 * AHEAD
    for number in range(1, 40):
        assert {entry.split("-")[0] for entry in next(results)} == {str(number)}
    with pytest.raises(FileNotFoundError, match="nowhere"):
        next(results)


def test_a_dead_worker_is_noticed() -> None:
    text = r"prepare: `workers` must stay alive, got exit code 3 from one\. A script keeps .* '__main__':`\."
    with pytest.raises(RuntimeError, match=text):
        list(ordered(os._exit, [3, 3, 3], workers=2))
    worker = _start(abs)
    worker.process.kill()
    worker.process.join()
    with pytest.raises(
        RuntimeError, match=r"got exit code -9 from one\. .* Code -9 most often means too little memory"
    ):
        _send(worker, 1)
    worker.connection.close()


def test_a_worker_answers_until_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a thread of this process, which must not change in what a worker changes of itself."""
    said: list[object] = []
    monkeypatch.setattr(signal, "signal", lambda *what: said.append(what))
    monkeypatch.setattr(torch, "set_num_threads", said.append)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    ours, theirs = multiprocessing.Pipe()
    worker = threading.Thread(target=_serve, args=(theirs, os.listdir), daemon=True)
    worker.start()
    ours.send(tmp_path)
    assert ours.recv() == []
    ours.send(tmp_path / "nowhere")
    assert isinstance(ours.recv(), FileNotFoundError)
    ours.close()
    worker.join(timeout=20)
    assert not worker.is_alive()
    assert said == [(signal.SIGINT, signal.SIG_IGN), 1]
    assert os.environ["OMP_NUM_THREADS"] == "1"

    ours, theirs = multiprocessing.Pipe()
    ours.send(tmp_path)
    ours.close()
    _serve(theirs, os.listdir)  # has a result that nobody takes


def test_a_worker_starts_without_pytorch_and_keeps_to_one_thread_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    loaded = "'torch' in [__import__('skelcontrast.data.__main__'), *__import__('sys').modules]"
    found = ordered(eval, [loaded, loaded, "__import__('torch').get_num_threads()"], workers=2)
    assert list(found) == [False, False, 1]


PREPARE = """
import sys
from skelcontrast.data import inspect_prepared, list_raw, prepare
for name, raw in zip(sys.argv[2::2], sys.argv[3::2], strict=True):
    out = f"{sys.argv[1]}/{name}"
    assert prepare(name, raw, out, progress=False).samples > 0
    assert inspect_prepared(out).lines()
print(sorted(name for name in sys.modules if name.split(".")[0] == "torch"))
prepare(name, raw, out + "-resampled", frames=5, shoulders="parallel", progress=False)
print("torch" in sys.modules)
"""


def test_reading_preparing_and_inspecting_do_without_pytorch(ntu_folder: Path, tmp_path: Path) -> None:
    """What a worker does to a file, here in the interpreter that starts it; other lengths and turned bodies need it."""
    raw = {
        "ntu120": ntu_folder,
        "pickle": raw_files.make_annotations(tmp_path / "poses.pkl"),
        "nw-ucla": raw_files.make_nw_ucla_folder(tmp_path / "nw-ucla"),
        "pku1": raw_files.make_pku_folder(tmp_path / "pku1"),
        "ntu60": ntu_folder,
    }
    (tmp_path / "out").mkdir()
    pairs = [str(word) for pair in raw.items() for word in pair]
    run = subprocess.run(
        [sys.executable, "-c", PREPARE, str(tmp_path / "out"), *pairs], check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["[]", "True"]
