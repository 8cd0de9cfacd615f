"""Run the benchmarks, each one only after the tests of its operation have passed in this same call.

python -m benchmarks                          all of them, on the screen
python -m benchmarks augment losses           some of them
python -m benchmarks --quick                  all, small: whether they run, not how fast the library is
python -m benchmarks losses -- --keys 65536   with arguments of its own
python -m benchmarks --out benchmarks/results also into two files per operation, text and JSON, with machine and commit

On a CPU torch has one thread unless `--threads` says otherwise: then what is timed is what the thread computed, which
is steady on a machine that does other work. `python -m benchmarks.report` makes the tables and plots of the docs.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.machine import ROOT, describe_machine, show, stem
from benchmarks.registry import BENCHMARKS, Benchmark
from skelcontrast._atomic import write_atomically

INSTALL = 'install the extra with: pip install -c constraints.txt -e ".[bench]"'


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed behind a gate of tests.")
    # No choices= here: argparse would hold the empty default against them.
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="small inputs and two repeats")
    parser.add_argument("--threads", type=int, default=1, help="threads for torch on a CPU (default 1)")
    own, more = split(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(own)
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there is {', '.join(BENCHMARKS)}")
    if more and len(args.names) != 1:
        parser.error("arguments after -- belong to one benchmark, so name it")

    machine = describe_machine(args.threads)
    print(show(machine))
    runner = Runner(machine, args.out, args.threads)
    failed = []
    for name in args.names or BENCHMARKS:
        benchmark = BENCHMARKS[name]
        if not runner.run(name, benchmark, [*benchmark.arguments, *(benchmark.quick if args.quick else ()), *more]):
            failed.append(name)
    if failed:
        print(f"no result for: {', '.join(failed)}")
    return 1 if failed else 0


def split(argv: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments before and after ``--``."""
    at = list(argv).index("--") if "--" in argv else len(argv)
    return list(argv[:at]), list(argv[at + 1 :])


class Runner:
    """Runs tests, each set once per call, and measurements behind them."""

    def __init__(self, machine: dict[str, str], out: Path | None, threads: int) -> None:
        self.machine, self.out = machine, out
        self.passed: dict[str, bool] = {}
        self.environment = dict(os.environ)
        self.in_parallel = ["-n", "auto", "--maxprocesses", "8"] if importlib.util.find_spec("xdist") else []
        if not torch.cuda.is_available():  # all threads of torch and of what lies below it
            self.environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}

    def run(self, name: str, benchmark: Benchmark, arguments: Sequence[str]) -> bool:
        """Run one operation's tests and, when they pass, its measurement; return whether both went well.

        Where a package that it needs is not installed, nothing is run, and that counts as well.
        """
        absent = [package for package in benchmark.needs if importlib.util.find_spec(package) is None]
        if absent:
            print(f"\n{name}: skipped, because {' and '.join(absent)} cannot be found; {INSTALL}")
            return True
        print(f"\n{name}: tests", flush=True)
        if not self.test(benchmark.tests):
            print(f"{name}: not measured, because its tests did not pass")
            return False
        print(f"{name}: measuring", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            numbers = Path(folder) / "numbers.json"
            measured = subprocess.run(  # noqa: S603  our own arguments
                [sys.executable, "-m", benchmark.module, "--json", str(numbers), *arguments],
                cwd=ROOT,
                env=self.environment,
                check=False,
                stdout=subprocess.PIPE,
                text=True,
            )
            print(measured.stdout, end="")
            if measured.returncode != 0:
                print(f"{name}: the benchmark stopped with exit code {measured.returncode}")
                return False
            if self.out is not None:
                command = " ".join(["python -m", benchmark.module, *arguments])
                result = json.loads(numbers.read_text(encoding="utf-8"))
                kept: dict[str, object] = {"machine": self.machine, "command": command, "result": result}
                write(self.out, name, self.machine, measured.stdout, kept)
        return True

    def test(self, paths: Sequence[str]) -> bool:
        """Run those of some tests that have not been run in this call; return whether all passed."""
        for path in paths:
            if path not in self.passed:
                tests = [sys.executable, "-m", "pytest", "-q", "--no-header", *self.in_parallel, path]
                code = subprocess.run(tests, cwd=ROOT, env=self.environment, check=False).returncode  # noqa: S603  our own arguments
                self.passed[path] = code == 0
            if not self.passed[path]:
                return False
        return True


def write(out: Path, name: str, machine: dict[str, str], text: str, result: dict[str, object]) -> None:
    """Keep a result as text and as JSON, in files named after the operation and the machine, whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    target = out / stem(name, machine)
    contents = {".txt": f"{show(machine)}\n\n{text}", ".json": json.dumps(result, indent=2) + "\n"}
    for suffix, content in contents.items():
        whole = content.encode()
        write_atomically(target.with_name(target.name + suffix), lambda file, whole=whole: file.write(whole))  # type: ignore[misc]  # bound now, not later
    print(f"{name}: written to {target}.txt and .json")


if __name__ == "__main__":
    sys.exit(main())
