"""Prepare a raw data set, and look at what came of it.

python -m skelcontrast.data prepare ntu60 RAW OUT --workers 4
python -m skelcontrast.data inspect OUT --pictures PICTURES
"""

import argparse
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import get_args

from skelcontrast.data.bodies import BodyPolicy
from skelcontrast.data.preparation._clips import Dtype, EmptyFrames, Shoulders
from skelcontrast.data.preparation._task import NAMED
from skelcontrast.data.preparation.inspection import inspect_prepared
from skelcontrast.data.preparation.prepare import prepare
from skelcontrast.data.preparation.protocols import DatasetName
from skelcontrast.skeleton import SkeletonLayout, layouts

LAYOUTS: dict[str, SkeletonLayout] = {name: getattr(layouts, name) for name in layouts.__all__}
INTERRUPTED = 130  # as a shell says it


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 2 where the input or an option is wrong, or 130 after Ctrl-C."""
    args = _parser().parse_args(argv)
    try:
        lines = _inspect(args) if args.command == "inspect" else _prepare(args)
    except OSError as error:
        named = error.filename is not None and error.strerror is not None
        sys.stderr.write(f"error: {f'{error.filename}: {error.strerror}' if named else error}\n")
        return 2
    except (ValueError, TypeError, ImportError, RuntimeError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(
            "\ninterrupted" + ("; the same command goes on where it was\n" if args.command == "prepare" else "\n")
        )
        return INTERRUPTED
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m skelcontrast.data",
        description="Prepare a raw data set, and look at what came of it.",
        epilog="`prepare --help` and `inspect --help` tell more.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    make = commands.add_parser(
        "prepare",
        help="from raw files to a prepared folder",
        description="Read a raw data set once, into a folder that every protocol, stream and length is read from.",
        epilog="After an interruption the same command goes on where it was.",
    )
    add, default = make.add_argument, "(default: %(default)s)"
    datasets = get_args(DatasetName)
    add("dataset", choices=datasets, metavar="DATASET", help=f"what RAW holds: {', '.join(datasets)}")
    add("raw", type=Path, metavar="RAW", help="folder with the raw files, at any depth; for pickle, the file")
    add("out", type=Path, metavar="OUT", help="folder to make")
    add("--workers", type=int, default=1, metavar="N", help=f"processes, no more than there are free cores {default}")
    bodies = f"the first ones of each frame, as in the released code, or people followed by their ids {default}"
    add("--bodies", choices=get_args(BodyPolicy), default="file-order", help=bodies)
    add("--body-count", type=int, metavar="M", help="bodies of a sample (default: as many as the data set has)")
    centre = "joint at the origin in every frame, by name, or 'none' (default: the one usual for the data set)"
    add("--centre", default="usual", metavar="JOINT", help=centre)
    shoulders = f"turn bodies until their shoulders lie along x, exactly or as the released code does {default}"
    add("--shoulders", choices=get_args(Shoulders), default="as-recorded", help=shoulders)
    add("--empty-frames", choices=get_args(EmptyFrames), default="drop", help=f"frames without anybody {default}")
    add("--frames", type=int, metavar="T", help="resample here already (default: all frames are kept)")
    add("--dtype", choices=get_args(Dtype), default="float32", help=f"kind of number; float16 takes half {default}")
    add("--missing", type=Path, metavar="LIST", help="leave out the samples that the authors' list names (NTU RGB+D)")
    poses = f"skeleton of the poses in a pickle: {', '.join(sorted(LAYOUTS))} (default: NTU_RGBD_25)"
    add("--layout", choices=sorted(LAYOUTS), metavar="LAYOUT", help=poses)
    add("--with-score", action="store_true", help="make scores of 2-D poses in a pickle a third coordinate")
    add("--skip-bad", action="store_true", help="leave out broken files and report them, instead of stopping")
    add("--quiet", action="store_true", help="show no progress")

    look = commands.add_parser(
        "inspect",
        help="what is in a prepared folder",
        description="Say what is in a prepared folder: counts, lengths, bodies, suspicious frames, checksums.",
    )
    look.add_argument("out", type=Path, metavar="OUT", help="prepared folder")
    look.add_argument(
        "--pictures", type=Path, metavar="FOLDER", help="draw samples: pictures and an animation (extra: plots)"
    )
    look.add_argument("--samples", type=int, default=4, metavar="N", help=f"how many are drawn {default}")
    return parser


def _prepare(args: argparse.Namespace) -> list[str]:
    written = "was there already" if args.out.exists() else "written"
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
    broken = [f"  {one.kind}: {one.name}: {one.reason}" for one in report.skipped if one.kind == "broken"]
    more = [f"  and {len(broken) - NAMED} more, in {args.out / 'report.json'}"] if len(broken) > NAMED else []
    return [*report.lines(), *broken[:NAMED], *more, f"{written}: {args.out}"]


def _inspect(args: argparse.Namespace) -> list[str]:
    lines = inspect_prepared(args.out).lines()
    if args.pictures is None:
        return lines
    from skelcontrast import viz
    from skelcontrast.data.preparation._pictures import draw_samples

    plot, animate = viz.plot_skeleton, viz.animate_skeletons
    written = draw_samples(args.out, args.pictures, count=args.samples, plot=plot, animate=animate)
    return [*lines, *(f"written: {path}" for path in written)]


if __name__ == "__main__":
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a file in an old encoding may lack letters of a path
    sys.exit(main())
