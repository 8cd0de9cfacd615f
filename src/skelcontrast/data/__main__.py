"""Prepare a raw data set, and look at what came of it.

python -m skelcontrast.data prepare ntu60 RAW OUT --workers 4
python -m skelcontrast.data inspect OUT --pictures PICTURES
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from skelcontrast.data.bodies import BodyPolicy
from skelcontrast.data.preparation._clips import Dtype, EmptyFrames, Shoulders
from skelcontrast.data.preparation.inspection import inspect_prepared
from skelcontrast.data.preparation.prepare import prepare
from skelcontrast.data.preparation.protocols import DatasetName
from skelcontrast.skeleton import SkeletonLayout, layouts

LAYOUTS: dict[str, SkeletonLayout] = {name: getattr(layouts, name) for name in layouts.__all__}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, or 2 where the input or an option is wrong."""
    args = _parser().parse_args(argv)
    try:
        lines = _inspect(args) if args.command == "inspect" else _prepare(args)
    except (ValueError, TypeError, OSError, ImportError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m skelcontrast.data",
        description="Prepare a raw data set, and look at what came of it.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    formatter = argparse.ArgumentDefaultsHelpFormatter

    make = commands.add_parser("prepare", help="raw files to a prepared folder", formatter_class=formatter)
    add = make.add_argument
    add("dataset", choices=get_args(DatasetName), help="which data set the raw folder holds")
    add("raw", type=Path, metavar="RAW", help="raw folder; for pickle, the file")
    add("out", type=Path, metavar="OUT", help="folder to make")
    add("--workers", type=int, default=1, help="processes")
    add("--bodies", choices=get_args(BodyPolicy), default="file-order", help="how bodies are chosen")
    add("--body-count", type=int, metavar="M", help="bodies of a sample; that of the data set unless given")
    add("--centre", default="usual", metavar="JOINT", help="joint at the origin, 'usual' or 'none'")
    add("--shoulders", choices=get_args(Shoulders), default="as-recorded", help="turn bodies to one side")
    add("--empty-frames", choices=get_args(EmptyFrames), default="drop", help="frames without anybody")
    add("--frames", type=int, metavar="T", help="resample here already; all frames are kept unless given")
    add("--dtype", choices=get_args(Dtype), default="float32", help="kind of number")
    add("--missing", type=Path, metavar="LIST", help="list of samples with missing skeletons, to leave out")
    add("--layout", choices=sorted(LAYOUTS), help="skeleton of the poses in a pickle")
    add("--with-score", action="store_true", help="scores of poses in a pickle as third coordinate")
    add("--skip-bad", action="store_true", help="leave out broken files, and report them")
    add("--quiet", action="store_true", help="no progress bar")

    look = commands.add_parser("inspect", help="what is in a prepared folder", formatter_class=formatter)
    look.add_argument("out", type=Path, metavar="OUT", help="prepared folder")
    look.add_argument("--pictures", type=Path, metavar="FOLDER", help="where to put a picture and an animation")
    look.add_argument("--samples", type=int, default=4, help="how many samples are drawn")
    return parser


def _prepare(args: argparse.Namespace) -> list[str]:
    report = prepare(
        args.dataset,
        args.raw,
        args.out,
        bodies=args.bodies,
        body_count=args.body_count,
        centre=None if args.centre == "none" else args.centre,
        shoulders=args.shoulders,
        empty_frames=args.empty_frames,
        frames=args.frames,
        dtype=args.dtype,
        missing=args.missing,
        layout=None if args.layout is None else LAYOUTS[args.layout],
        with_score=args.with_score,
        skip_bad=args.skip_bad,
        workers=args.workers,
        progress=not args.quiet,
    )
    named = [f"  {one.kind}: {one.name}: {one.reason}" for one in report.skipped if one.kind == "broken"]
    return [*report.lines(), *named, f"written: {args.out}"]


def _inspect(args: argparse.Namespace) -> list[str]:
    lines = inspect_prepared(args.out).lines()
    if args.pictures is None:
        return lines
    from skelcontrast import viz
    from skelcontrast.data.preparation._pictures import draw_samples

    written = draw_samples(args.out, args.pictures, count=args.samples, plot=viz.plot_skeleton, draw=viz.draw_skeleton)
    return [*lines, *(f"written: {path}" for path in written)]


if __name__ == "__main__":
    sys.exit(main())
