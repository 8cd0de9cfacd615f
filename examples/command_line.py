"""What the examples' command lines share: options that do nothing, errors in one line, and how far an epoch is."""

import re
import sys
from argparse import SUPPRESS, Action, ArgumentParser, Namespace
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

SAID = re.compile(r"[\w.]+: `")
"""How the library's messages begin: the name that was called, and the argument."""


def refuse(parser: ArgumentParser, options: Sequence[str], why: str) -> None:
    """Make options of `aimclr_ntu.py` that would do nothing in another script an error."""

    class Refused(Action):
        def __call__(self, parser: ArgumentParser, _space: Namespace, _given: Any, option: str | None = None) -> None:
            parser.error(f"{option} {why}")

    for option in options:
        parser.add_argument(option, nargs="*", action=Refused, help=SUPPRESS)


def refuse_idle(parser: ArgumentParser, args: Namespace, idle: Mapping[tuple[str, object], Sequence[str]]) -> None:
    """Make options an error that do nothing beside a value of another one: by that option and value, their names."""
    for (name, value), options in idle.items():
        for option in options if vars(args)[name] == value else ():
            if vars(args)[option] != parser.get_default(option):
                beside = name if value is True else f"{name} {value}"
                parser.error(f"--{option} does nothing with --{beside}".replace("_", "-"))


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Say what is wrong with the input; an error that the library or the system did not word keeps its traceback."""
    try:
        yield
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        if not isinstance(error, OSError) and not SAID.match(str(error)):
            raise
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def progress(batches: Iterable[Any], title: str, *, shown: bool = True) -> Iterable[Any]:
    """Show how far an epoch is, on a terminal and where tqdm is installed."""
    with suppress(ImportError):
        from tqdm import tqdm

        batches = tqdm(batches, desc=title, leave=False, disable=None if shown else True)
    return batches
