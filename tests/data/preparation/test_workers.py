"""Work over processes: results in order, little of it at a time, and errors that arrive."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from skelcontrast.data.preparation._workers import AHEAD, ordered


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
