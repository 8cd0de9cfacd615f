"""Atomic writes: errors and SIGKILL at every stage, and at random moments, leave a whole file."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO

import pytest

from skelcontrast import _atomic
from skelcontrast._atomic import write_atomically

posix = pytest.mark.skipif(os.name != "posix", reason="kills a process by signal")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_new_content_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    for content in (b"old", b"new"):
        write_atomically(target, lambda file, content=content: file.write(content))  # type: ignore[misc]  # default binds
    assert target.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]
    assert target.stat().st_mode & 0o777 == 0o666 & ~current_umask()


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_an_error_while_writing_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")

    def write(file: BinaryIO) -> None:
        file.write(b"ne")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(target, write)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["a.bin"]


def test_leftovers_of_dead_writers_go_and_others_stay(tmp_path: Path) -> None:
    target = tmp_path / "a[1].bin"  # a name that is a pattern
    here = _atomic._place()
    alive, dead, elsewhere = f"{here}.{os.getppid()}", f"{here}.{2**40}", f"ffff0000.{2**40}"
    kept = [
        ".a1.bin.1.cccc.tmp",
        f".a[1].bin.{alive}.aaaa.tmp",
        f".other.bin.{dead}.dddd.tmp",
        f".a[1].bin.{elsewhere}.eeee.tmp",
        ".a[1].bin.note.ee.tmp",
    ]
    old = [f".a[1].bin.{here}.{os.getpid()}.bbbb.tmp", f".a[1].bin.{elsewhere}.hhhh.tmp"]
    gone = [f".a[1].bin.{dead}.ffff.tmp", ".a[1].bin.note.gggg.tmp", *old]
    for name in kept + gone:
        (tmp_path / name).write_bytes(b"half")
    for name in gone[1:]:  # not written to for two hours
        os.utime(tmp_path / name, (time.time() - 7200,) * 2)
    write_atomically(target, lambda file: file.write(b"new"))
    assert names(tmp_path) == sorted([*kept, target.name])


def test_a_leftover_that_vanishes_meanwhile_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / ".a.bin.12.aaaa.tmp"
    monkeypatch.setattr(Path, "glob", lambda *_: [gone])
    write_atomically(tmp_path / "a.bin", lambda file: file.write(b"new"))
    assert names(tmp_path) == ["a.bin"]


def test_a_process_of_another_user_counts_as_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(process: int, signal: int) -> None:
        raise PermissionError(process, signal)

    leftover = tmp_path / f".a.bin.{_atomic._place()}.12.aaaa.tmp"
    leftover.touch()
    monkeypatch.setattr(_atomic.os, "kill", refuse)  # type: ignore[attr-defined]  # the module as `_atomic` sees it
    write_atomically(tmp_path / "a.bin", lambda file: file.write(b"new"))
    assert leftover.exists()


def test_places_are_told_apart_by_host_and_by_process_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    def place(host: str, namespace: int | None) -> str:
        def stat(path: Path) -> SimpleNamespace:
            if namespace is None:
                raise FileNotFoundError(path)
            return SimpleNamespace(st_ino=namespace)

        with monkeypatch.context() as patch:
            patch.setattr(_atomic.platform, "node", lambda: host)  # type: ignore[attr-defined]  # as `_atomic` sees it
            patch.setattr(Path, "stat", stat)
            return _atomic._place()

    assert place("one", 1) == place("one", 1)
    assert len({place("one", 1), place("one", 2), place("two", 1), place("two", None)}) == 4


def run(script: str, folder: Path) -> str:
    """Run a script in a fresh interpreter, which may fork safely, and return what it prints."""
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@posix
def test_sigkill_at_every_stage_leaves_the_old_or_the_new_file(tmp_path: Path) -> None:
    script = """
        import os, signal, sys
        from pathlib import Path
        from skelcontrast import checkpoint

        def die(*_): os.kill(os.getpid(), signal.SIGKILL)

        def after(call):
            def wrapped(*arguments):
                call(*arguments)
                die()
            return wrapped

        import torch
        stages = {
            "write": (torch, "save", lambda content, file: (file.write(b"PK"), file.flush(), die())),
            "flush": (os, "fsync", die),
            "rename": (Path, "replace", die),
            "renamed": (Path, "replace", after(Path.replace)),
        }
        path = Path(sys.argv[1]) / "last.pt"
        for stage, (owner, name, value) in stages.items():
            checkpoint.save(path, {"stage": "old"})
            child = os.fork()
            if child == 0:
                setattr(owner, name, value)
                checkpoint.save(path, {"stage": "new"})
                os._exit(1)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status), stage
            print(stage, checkpoint.load(path)["stage"], len(list(path.parent.iterdir())))
        checkpoint.save(path, {"stage": "last"})
        print(*os.listdir(path.parent))
    """
    lines = run(script, tmp_path).splitlines()
    assert lines == ["write old 2", "flush old 2", "rename old 2", "renamed new 1", "last.pt"]


@posix
def test_sigkill_at_random_moments_never_leaves_an_unreadable_checkpoint(tmp_path: Path) -> None:
    script = """
        import os, random, signal, sys, time
        from pathlib import Path
        import torch
        from torch import nn
        from skelcontrast import checkpoint

        path = Path(sys.argv[1]) / "last.pt"
        model = nn.Linear(256, 256)
        checkpoint.save(path, {"model": model, "step": 0})
        draw = random.Random(0)
        reached, caught, rounds = 0, 0, 0
        while (caught < 8 or not reached) and rounds < 200:  # until enough kills fell into a write
            rounds += 1
            child = os.fork()
            if child == 0:
                step = reached
                while True:
                    step += 1
                    nn.init.constant_(model.weight, step)
                    checkpoint.save(path, {"model": model, "step": step})
            patience = 1 if reached else rounds  # on a loaded machine a save takes longer
            time.sleep(patience * draw.uniform(0.002, 0.04))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            caught += any(entry.suffix == ".tmp" for entry in path.parent.iterdir())
            step = checkpoint.resume(path, {"model": model})["step"]
            assert step >= reached, (step, reached)
            assert step == 0 or bool((model.weight == step).all()), step
            reached = step
        checkpoint.save(path, {})
        print(reached, caught, *os.listdir(path.parent))
    """
    reached, caught, *left = run(script, tmp_path).split()
    assert int(reached) > 0
    assert int(caught) > 0, "no kill fell into a write: the test shows nothing"
    assert left == ["last.pt"]
