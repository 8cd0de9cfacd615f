"""What the command lines beside `aimclr_ntu.py` share: options that do nothing in them, and errors in one line."""

import sys
from argparse import SUPPRESS, Action, ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any


def refuse(parser: ArgumentParser, options: Sequence[str], why: str) -> None:
    """Make options of `aimclr_ntu.py` that would do nothing in another script an error."""

    class Refused(Action):
        def __call__(self, parser: ArgumentParser, _space: Namespace, _given: Any, option: str | None = None) -> None:
            parser.error(f"{option} {why}")

    for option in options:
        parser.add_argument(option, nargs="*", action=Refused, help=SUPPRESS)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Say what is wrong with the input; for the loading of data and the building of models, and nothing else."""
    try:
        yield
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
