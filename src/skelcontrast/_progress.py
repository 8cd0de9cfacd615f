"""How far a long piece of work is: a bar where tqdm is installed, a line now and then where it is not."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LINES = 10  # without a bar


@contextmanager
def progress(title: str, total: int, *, done: int = 0, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """Yield a function that is told how many more are done; what is shown goes to the standard error stream."""
    if not shown:
        yield lambda _: None
        return
    try:
        from tqdm import tqdm
    except ImportError:
        yield _Lines(title, total, done).advance
        return
    with tqdm(desc=title, total=total, initial=done, unit=" samples") as bar:
        yield bar.update


class _Lines:
    def __init__(self, title: str, total: int, done: int) -> None:
        self.title = title
        self.total = total
        self.done = done

    def advance(self, more: int) -> None:
        """Say so when another tenth is done."""
        before, self.done = self.done, self.done + more
        if before * LINES // max(self.total, 1) < self.done * LINES // max(self.total, 1):
            sys.stderr.write(f"{self.title}: {self.done} of {self.total}\n")
