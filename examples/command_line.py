"""What the command lines of the training loops share: options that must fit, and what is said while they run."""

import json
import sys
from argparse import SUPPRESS, Action, ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")
KINDS = ("prepared", "synthetic", "utd-mhad", "official-npy")
"""What a data set may be."""
SPLITS = {"prepared": "xsub", "synthetic": "cross-subject", "utd-mhad": "xsub"}
"""By kind of data set, the split unless another is asked for; the folder of official-npy holds a single one."""
FREE = {"epochs", "device", "workers", "keep", "eval_every", "out", "resume", "fast", "resident", "data"}
"""Settings that a resumed run may change: how far it goes, where it runs and lies, what is kept and measured of it."""


def settle_data(args: Namespace, error: Callable[[str], NoReturn]) -> None:
    """Fill in kind and split of the data set and make its path absolute, or say which options do not fit."""
    args.dataset = args.dataset or ("synthetic" if args.data is None else "prepared")
    if args.dataset != "synthetic" and args.data is None:
        error(f"--dataset {args.dataset} needs --data FOLDER")
    if args.dataset == "synthetic" and args.data is not None:
        error(f"--dataset synthetic reads no folder, got --data {args.data}")
    if args.dataset == "official-npy" and args.protocol is not None:
        error("--dataset official-npy has no --protocol to choose: the folder holds a single split")
    args.protocol = args.protocol or SPLITS.get(args.dataset)
    args.data = None if args.data is None else args.data.absolute()  # so that a run is evaluated from anywhere


def check_run(parser: ArgumentParser, args: Namespace) -> None:
    """Say which options of a run do not fit each other or the folder that it goes into."""
    if args.dataset == "utd-mhad":
        args.origin = args.origin or "hip centre"
    elif args.origin is not None:
        parser.error(f"--origin is for --dataset utd-mhad only, got --dataset {args.dataset}")
    if args.eval_every < 1:
        parser.error(f"--eval-every must be at least 1, got {args.eval_every}")
    if args.fast and not args.device.startswith("cuda"):
        parser.error(f"--fast needs a CUDA device, got --device {args.device}")
    if not args.resume and (args.out / "last.pt").exists():
        parser.error(f"{args.out} holds a run: pass --resume to go on with it, or another --out")


def refuse(parser: ArgumentParser, options: Sequence[str], why: str) -> None:
    """Make options of `aimclr_ntu.py` that would do nothing in another script an error."""

    class Refused(Action):
        def __call__(self, parser: ArgumentParser, _space: Namespace, _given: Any, option: str | None = None) -> None:
            parser.error(f"{option} {why}")

    for option in options:
        parser.add_argument(option, nargs="*", action=Refused, help=SUPPRESS)


def check_resumed(args: Namespace) -> None:
    """Refuse to go on with a run by other settings than those that it was begun with, except the `FREE` ones.

    A cosine schedule depends on the number of epochs, which is therefore not free with it.
    """
    path = args.out / "settings.json"
    if not (args.resume and (args.out / "last.pt").exists() and path.exists()):
        return
    stored, given = json.loads(path.read_text()), json.loads(json.dumps(vars(args), default=str))
    fixed = given.keys() - FREE | ({"epochs"} if args.schedule == "cosine" else set())
    changed = [
        f"{name} (stored {stored[name]}, given {given[name]})"
        for name in given
        if name in fixed and name in stored and stored[name] != given[name]  # the run may be older than a setting
    ]
    if changed:
        sys.stderr.write(f"error: {args.out} was begun with other settings: {', '.join(changed)}\n")
        sys.exit(2)


@contextmanager
def errors_in_one_line() -> Iterator[None]:
    """Say what is wrong with the input; for the loading of data and the building of models, and nothing else."""
    try:
        yield
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


def progress(batches: Iterable[T], title: str, *, shown: bool = True) -> Iterable[T]:
    """Show how far an epoch is, on a terminal and where tqdm (the extra `data`) is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        return batches
    bar: Iterable[T] = tqdm(batches, desc=title, leave=False, disable=None if shown else True)
    return bar
