"""Run the benchmarks, each one only after the tests of its operation have passed in this same call.

python -m benchmarks                          all of them, on the screen
python -m benchmarks augment                  one of them
python -m benchmarks --out benchmarks/results also into two files per operation, text and JSON, with machine and commit

A benchmark is a module that prints its result, and writes its numbers where ``--json FILE`` is given.
"""

import argparse
import datetime as dt
import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

ROOT = Path(__file__).resolve().parents[1]
INSTALL = 'install the extra with: pip install -c constraints.txt -e ".[bench]"'


class Benchmark(NamedTuple):
    """A module of this folder that measures one operation, the tests that must pass first, and packages it needs."""

    module: str
    tests: tuple[str, ...]
    needs: tuple[str, ...] = ()


BENCHMARKS = {
    "augment": Benchmark("benchmarks.augment", ("tests/augment",)),
    "graph_conv": Benchmark("benchmarks.graph_conv", ("tests/nn", "tests/kernels/test_graph_conv.py")),
    "graph_conv_rules": Benchmark("benchmarks.graph_conv_rules", ("tests/nn/test_graph_conv.py",)),
    "losses": Benchmark("benchmarks.losses", ("tests/losses", "tests/kernels/test_bank_read.py")),
    "losses_rules": Benchmark("benchmarks.losses_rules", ("tests/losses",)),
    "evaluation": Benchmark("benchmarks.evaluation", ("tests/evaluation",)),
    "parsing": Benchmark("benchmarks.parsing", ("tests/data/readers",)),
    "step": Benchmark("benchmarks.step", ("tests/methods",)),
    "preparation": Benchmark("benchmarks.preparation", ("tests/data/preparation",)),
    "libraries": Benchmark(
        "benchmarks.libraries",
        ("tests/losses/test_info_nce.py", "tests/test_memory.py"),
        ("lightly", "pytorch_metric_learning"),
    ),
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

    machine = describe_machine()
    print(show(machine))
    failed = [name for name in args.names or BENCHMARKS if not run_one(name, BENCHMARKS[name], machine, args.out)]
    if failed:
        print(f"no result for: {', '.join(failed)}")
    return 1 if failed else 0


def run_one(name: str, benchmark: Benchmark, machine: dict[str, str], out: Path | None) -> bool:
    """Run one operation's tests and, when they pass, its measurement; return whether both went well.

    Where a package that it needs is not installed, nothing is run, and that counts as well.
    """
    absent = [package for package in benchmark.needs if importlib.util.find_spec(package) is None]
    if absent:
        print(f"\n{name}: skipped, because {' and '.join(absent)} cannot be found; {INSTALL}")
        return True
    print(f"\n{name}: tests", flush=True)
    tests = [sys.executable, "-m", "pytest", "-q", "--no-header", *benchmark.tests]
    if subprocess.run(tests, cwd=ROOT, check=False).returncode != 0:  # noqa: S603  our own arguments
        print(f"{name}: not measured, because its tests did not pass")
        return False
    print(f"{name}: measuring", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        numbers = Path(folder) / "numbers.json"
        measured = subprocess.run(  # noqa: S603  our own arguments
            [sys.executable, "-m", benchmark.module, "--json", str(numbers)],
            cwd=ROOT,
            check=False,
            stdout=subprocess.PIPE,
            text=True,
        )
        print(measured.stdout, end="")
        if measured.returncode != 0:
            print(f"{name}: the benchmark stopped with exit code {measured.returncode}")
            return False
        if out is not None:
            result = {"machine": machine, "result": json.loads(numbers.read_text(encoding="utf-8"))}
            write(out, name, machine, measured.stdout, result)
    return True


def write(out: Path, name: str, machine: dict[str, str], text: str, result: dict[str, object]) -> None:
    """Keep a result as text and as JSON, in files named after the operation and the machine."""
    out.mkdir(parents=True, exist_ok=True)
    stem = f"{name}-{re.sub('[^a-z0-9]+', '-', machine.get('device', processor()).lower()).strip('-')}"
    (out / f"{stem}.txt").write_text(f"{show(machine)}\n\n{text}", encoding="utf-8")
    (out / f"{stem}.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"{name}: written to {out / stem}.txt and .json")


def describe_machine() -> dict[str, str]:
    """Say what the numbers below were measured on."""
    described = {
        "date": f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d %H:%M} UTC",
        "commit": commit(),
        "machine": f"{processor()}, {os.cpu_count()} logical cores",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }
    if torch.cuda.is_available():
        described["device"] = torch.cuda.get_device_name()
    return described


def show(machine: dict[str, str]) -> str:
    """Write a machine's description, a line per entry."""
    return "\n".join(f"{name:8} {value}" for name, value in machine.items())


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
