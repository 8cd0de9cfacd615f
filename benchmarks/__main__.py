"""Run the benchmarks, each one only after the tests of its operation have passed in this same call.

python -m benchmarks                          all of them, on the screen
python -m benchmarks augment                  one of them
python -m benchmarks --out benchmarks/results also into one text file per operation, with machine and commit
"""

import argparse
import datetime as dt
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]


class Benchmark(NamedTuple):
    """A module of this folder that measures one operation, and the tests that must pass first."""

    module: str
    tests: tuple[str, ...]


BENCHMARKS = {
    "augment": Benchmark("benchmarks.augment", ("tests/augment",)),
    "evaluation": Benchmark("benchmarks.evaluation", ("tests/evaluation",)),
    "parsing": Benchmark("benchmarks.parsing", ("tests/data/readers",)),
    "preparation": Benchmark("benchmarks.preparation", ("tests/data/preparation",)),
}


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed behind a gate of tests.")
    # No choices= here: argparse would hold the empty default against them.
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--out", type=Path, help="folder for the results")
    args = parser.parse_args(argv)
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there is {', '.join(BENCHMARKS)}")

    header = describe_machine()
    print(header)
    failed = [name for name in args.names or BENCHMARKS if not run_one(name, BENCHMARKS[name], header, args.out)]
    if failed:
        print(f"no result for: {', '.join(failed)}")
    return 1 if failed else 0


def run_one(name: str, benchmark: Benchmark, header: str, out: Path | None) -> bool:
    """Run one operation's tests and, when they pass, its measurement; return whether both went well."""
    print(f"\n{name}: tests", flush=True)
    tests = [sys.executable, "-m", "pytest", "-q", "--no-header", *benchmark.tests]
    if subprocess.run(tests, cwd=ROOT, check=False).returncode != 0:  # noqa: S603  our own arguments
        print(f"{name}: not measured, because its tests did not pass")
        return False
    print(f"{name}: measuring", flush=True)
    measured = subprocess.run(  # noqa: S603  our own arguments
        [sys.executable, "-m", benchmark.module], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True
    )
    print(measured.stdout, end="")
    if measured.returncode != 0:
        print(f"{name}: the benchmark stopped with exit code {measured.returncode}")
        return False
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        machine = torch.cuda.get_device_name() if torch.cuda.is_available() else processor()
        path = out / f"{name}-{re.sub('[^a-z0-9]+', '-', machine.lower()).strip('-')}.txt"
        path.write_text(f"{header}\n\n{measured.stdout}", encoding="utf-8")
        print(f"{name}: written to {path}")
    return True


def describe_machine() -> str:
    """Say what the numbers below were measured on."""
    lines = [
        f"date     {dt.datetime.now(dt.timezone.utc):%Y-%m-%d %H:%M} UTC",
        f"commit   {commit()}",
        f"machine  {processor()}, {os.cpu_count()} logical cores",
        f"versions Python {platform.python_version()}, torch {torch.__version__}",
    ]
    if torch.cuda.is_available():
        lines.append(f"device   {torch.cuda.get_device_name()}")
    return "\n".join(lines)


def commit() -> str:
    """Return the commit, marked where the files differ from it."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(git, cwd=ROOT, check=False, capture_output=True, text=True)  # noqa: S603  fixed arguments
    except FileNotFoundError:
        return "unknown (no git)"
    return found.stdout.strip() or "unknown (no commit)"


def processor() -> str:
    """Return the processor's name where the system tells it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    sys.exit(main())
