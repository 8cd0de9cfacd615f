"""Work spread over processes, with results in order and bounded memory."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import NoReturn, TypeVar, cast

from skelcontrast import _check

Task = TypeVar("Task")
Result = TypeVar("Result")

AHEAD = 4  # tasks per worker that may be finished before an earlier one is
_NO_TASK = object()


@dataclass(eq=False)
class _Worker:
    process: SpawnProcess
    connection: Connection


def ordered(work: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int) -> Generator[Result, None, None]:
    """Yield ``work(task)`` for each task, in the order of the tasks.

    One worker is this process itself. More are processes of their own, started afresh, with one thread each; they end
    when this process ends, however it ends. Tasks are taken as they are needed, and only a few results wait for an
    earlier one.

    Args:
        work: What is done with a task; it, the tasks and the results travel between processes.
        tasks: The tasks.
        workers: Number of processes, at least 1.

    Raises:
        ImportError: If `work` raises one.
        OSError: If `work` raises one.
        RuntimeError: If a process dies.
    """
    if workers == 1:
        yield from map(work, tasks)
        return
    pool: list[_Worker] = []
    try:
        pool += [_start(work) for _ in range(workers)]
        yield from _spread(pool, tasks)
    finally:
        for worker in pool:
            worker.connection.close()  # a worker that waits for its next task ends at this
        for worker in pool:
            worker.process.join(timeout=5)
            if worker.process.is_alive():
                worker.process.terminate()
                worker.process.join()


def _start(work: Callable[[Task], object]) -> _Worker:
    context = multiprocessing.get_context("spawn")  # threads of PyTorch do not survive a fork
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, work), daemon=True)
    process.start()
    # With its end open only over there, the death of either process is the end of the other's reading.
    theirs.close()
    return _Worker(process, ours)


def _spread(pool: list[_Worker], tasks: Iterable[Task]) -> Iterator[Result]:
    left = iter(tasks)
    idle, busy = list(pool), dict[Connection, tuple[_Worker, int]]()
    finished: dict[int, object] = {}
    handed, taken, more = 0, 0, True  # the next task's number, the next result's, and whether there are tasks left
    while more or busy or finished:
        while more and idle and handed < taken + AHEAD * len(pool):
            task = next(left, _NO_TASK)
            if task is _NO_TASK:
                more = False
                break
            worker = idle.pop()
            _send(worker, task)
            busy[worker.connection] = (worker, handed)
            handed += 1
        if taken in finished:
            result = finished.pop(taken)
            if isinstance(result, ImportError | OSError):  # in its turn, so that what came before it is not lost
                raise result
            yield cast("Result", result)
            taken += 1
        elif busy:
            for ready in wait(list(busy)):
                worker, number = busy.pop(cast("Connection", ready))
                finished[number] = _receive(worker)
                idle.append(worker)


def _send(worker: _Worker, task: object) -> None:
    try:
        worker.connection.send(task)
    except (BrokenPipeError, ConnectionResetError):
        _died(worker)


def _receive(worker: _Worker) -> object:
    try:
        result: object = worker.connection.recv()
    except (EOFError, ConnectionResetError):
        _died(worker)
    return result


def _died(worker: _Worker) -> NoReturn:
    worker.process.join(timeout=5)
    hint = "A script keeps what it runs under `if __name__ == '__main__':`. Code -9 most often means too little memory."
    got = f"exit code {worker.process.exitcode} from one"
    _check.fail("prepare", "workers", "stay alive", got, hint=hint, kind=RuntimeError)


def _serve(connection: Connection, work: Callable[[Task], object]) -> None:
    """Answer tasks until the other end is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    os.environ["OMP_NUM_THREADS"] = "1"  # read by PyTorch when it is imported, which some options need
    if "torch" in sys.modules:  # by the script that is run, which is imported here as well
        sys.modules["torch"].set_num_threads(1)
    while True:
        try:
            task = connection.recv()
        except EOFError:
            return
        try:
            result = work(task)
        except (ImportError, OSError) as error:
            result = error
        try:
            connection.send(result)
        except (BrokenPipeError, ConnectionResetError):  # nobody waits for it any more
            return
