"""Time the reader of NTU `.skeleton` files against a plain one: a loop of readline().split() into dictionaries.

python -m benchmarks.parsing                        one core, 50 generated files of 100 frames
python -m benchmarks.parsing --files 200 --frames 300
python -m benchmarks.parsing --json result.json     also as numbers in a file

Both read the same files from the page cache, one file after the other and each file with both in turn, so that
whatever else the machine is doing meets both. Times are those of the processor, not of the clock: a core's worth. The
plain reader is the tests' oracle; it stops at the dictionaries, while ours goes on to checked arrays. Generated files
without anybody in them are left out.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from tests.reference.ntu import read_arrays, read_skeleton
from tests.reference.ntu_files import make_ntu_folder

from benchmarks.measure import save
from skelcontrast.data import read_ntu

NTU60_FILES = 56_880


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parsing", description="Speed of reading .skeleton.")
    parser.add_argument("--files", type=int, default=50, help="files that are generated")
    parser.add_argument("--frames", type=int, default=100, help="frames of each")
    parser.add_argument("--repeats", type=int, default=5, help="how often each file is read")
    parser.add_argument("--json", type=Path, help="file for the numbers")
    args = parser.parse_args(argv)

    with tempfile.TemporaryDirectory() as folder:
        made = make_ntu_folder(Path(folder), count=args.files, frames=args.frames)
        paths = [path for path in made if path.stat().st_size > 1000]
        size = sum(path.stat().st_size for path in paths) / len(paths)
        for path in paths:
            check(path)
        subjects: dict[str, Callable[[Path], object]] = {
            "plain loop, dictionaries": read_skeleton,
            "plain loop, arrays": read_arrays,
            "skelcontrast.data.read_ntu": read_ntu,
        }
        millis = measure(subjects, paths, args.repeats)

    plain, arrays, ours = (np.array(values) for values in millis.values())
    ratios = plain / ours
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(
        f"{len(paths)} files of {args.frames} frames, {size / 1000:.0f} kB on average, each read {args.repeats} times"
    )
    print(f"{'CPU milliseconds a file':28} {'median':>8} {'quartiles':>17} {'least':>8} {'mean':>8}")
    for name, values in millis.items():
        first, second, third = statistics.quantiles(values, n=4)
        spread = f"{first:8.2f}-{third:<8.2f}"
        print(f"{name:28} {second:8.2f} {spread} {min(values):8.2f} {statistics.fmean(values):8.2f}")
    print(
        f"read_ntu: {middle:.1f} times faster than the plain loop (median over reads), quartiles {low:.1f}-{high:.1f}"
    )
    print(f"read_ntu: {statistics.median(arrays / ours):.1f} times faster than the plain loop with arrays")
    minutes = NTU60_FILES * ours.mean() / 60e3
    print(f"{NTU60_FILES} such files: {minutes:.1f} minutes of one core")
    settings = {"files": len(paths), "frames": args.frames, "repeats": args.repeats, "bytes_per_file": size}
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    faster = {"ratio_median": middle, "ratio_quartiles": [low, high], "ntu60_core_minutes": minutes}
    save(args.json, {**settings, **versions, "milliseconds_per_file": millis, **faster})


def check(path: Path) -> None:
    """Make sure, before anything is timed, that both read the same."""
    clip = read_ntu(path)
    for one, other in zip((clip.positions, clip.body_ids, clip.tracking), read_arrays(path), strict=True):
        np.testing.assert_array_equal(one, other)


def measure(
    subjects: dict[str, Callable[[Path], object]], paths: Sequence[Path], repeats: int
) -> dict[str, list[float]]:
    """Time each subject on each file, once per repeat, after a round to warm up; milliseconds, file by file."""
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for repeat in range(repeats + 1):
        for path in paths:
            for name, subject in subjects.items():
                start = time.process_time()
                subject(path)
                if repeat >= 1:
                    times[name].append(1e3 * (time.process_time() - start))
    return times


if __name__ == "__main__":
    main()
