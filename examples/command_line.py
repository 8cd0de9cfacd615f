"""What the command lines beside `aimclr_ntu.py` share: options of it that do nothing in them."""

from argparse import SUPPRESS, Action, ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any


def refuse(parser: ArgumentParser, options: Sequence[str], why: str) -> None:
    """Make options of `aimclr_ntu.py` that would do nothing in another script an error."""

    class Refused(Action):
        def __call__(self, parser: ArgumentParser, _space: Namespace, _given: Any, option: str | None = None) -> None:
            parser.error(f"{option} {why}")

    for option in options:
        parser.add_argument(option, nargs="*", action=Refused, help=SUPPRESS)
