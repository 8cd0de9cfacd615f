"""Run the benchmarks, each one only after the tests of its operation have passed in this same call.

python -m benchmarks                          all of them, on the screen
python -m benchmarks augment losses           some of them
python -m benchmarks --quick                  all, small: whether they run, not how fast the library is
python -m benchmarks losses -- --keys 65536   with arguments of its own
python -m benchmarks --gate gpu               on CUDA: of the tests only those that need it
python -m benchmarks --out benchmarks/results also into two files per operation, text and JSON, with machine and commit

On a CPU torch has one thread unless `--threads` says otherwise: then what is timed is what the thread computed, which
is steady on a machine that does other work. What is about a CPU alone, or about CUDA, is measured there, and elsewhere
only where it is named. `python -m benchmarks.report` makes the tables and plots of the docs.
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

ALL_TESTS, GPU_TESTS = "all tests", "GPU-marked tests"
INSTALL = 'install the extra with: pip install -c constraints.txt -e ".[bench]"'


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure speed behind a gate of tests.")
    # No choices= here: argparse would hold the empty default against them.
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of: {', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--out", type=Path, help="folder for the results")
    parser.add_argument("--quick", action="store_true", help="small inputs and two repeats")
    parser.add_argument("--threads", type=int, default=1, help="threads for torch on a CPU (default 1)")
    gates = "the tests that must pass first: all of an operation's, or on CUDA only the GPU-marked ones, if it has any"
    parser.add_argument("--gate", choices=("all", "gpu"), default="all", help=gates)
    own, more = split(sys.argv[1:] if argv is None else argv)
    args = parser.parse_args(own)
    unknown = [name for name in args.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there is {', '.join(BENCHMARKS)}")
    if more and len(args.names) != 1:
        parser.error("arguments after -- belong to one benchmark, so name it")
    if args.gate == "gpu" and not torch.cuda.is_available():
        parser.error("--gate gpu needs a CUDA device, without which these tests are skipped")

    machine = describe_machine(args.threads)
    print(show(machine))
    runner = Runner(machine, args.out, args.threads, args.gate)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    here = [name for name, benchmark in BENCHMARKS.items() if benchmark.is_for(device)]
    names, failed = args.names or here, []
    for name in names:  # all tests first: measurements are then near each other in time
        runner.gate(name, BENCHMARKS[name])
    for name in names:
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

    def __init__(self, machine: dict[str, str], out: Path | None, threads: int, gate: str = "all") -> None:
        self.machine, self.out, self.gpu_gate = machine, out, gate == "gpu"
        self.passed: dict[tuple[str, str], bool] = {}
        self.environment = dict(os.environ)
        self.in_parallel = ["-n", "auto", "--maxprocesses", "8"] if importlib.util.find_spec("xdist") else []
        if not torch.cuda.is_available():  # all threads of torch and of what lies below it
            self.environment |= {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}

    def run(self, name: str, benchmark: Benchmark, arguments: Sequence[str]) -> bool:
        """Run one operation's tests and, when they pass, its measurement; return whether both went well.

        Where a package that it needs is not installed, nothing is run, and that counts as well.
        """
        absent = absent_packages(benchmark)
        if absent:
            print(f"\n{name}: skipped, because {' and '.join(absent)} cannot be found; {INSTALL}")
            return True
        gate = self.gate(name, benchmark)
        if gate is None:
            print(f"\n{name}: not measured, because its tests did not pass")
            return False
        print(f"\n{name}: measuring, behind {gate}", flush=True)
        machine = self.machine | {"gate": gate}
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
                kept: dict[str, object] = {"machine": machine, "command": command, "result": result}
                write(self.out, name, machine, measured.stdout, kept)
        return True

    def gate(self, name: str, benchmark: Benchmark) -> str | None:
        """Run an operation's tests, all of them where none is GPU-marked; return which, `None` if one did not pass.

        Those of an operation that will not be measured are not run.
        """
        marked = [path for path in benchmark.tests if self.gpu_gate and has_gpu_tests(ROOT / path)]
        which = GPU_TESTS if marked else ALL_TESTS
        if absent_packages(benchmark):
            return None
        return which if self.test(name, marked or benchmark.tests, which) else None

    def test(self, name: str, paths: Sequence[str], which: str) -> bool:
        """Run those of some tests that have not been run in this call; return whether all passed.

        GPU-marked tests are few, so that starting takes longest: those of an operation are run together.
        """
        if not all(self.passed.get((path, which), True) for path in paths):
            return False
        new = [path for path in paths if (path, which) not in self.passed]
        if new:
            print(f"\n{name}: {which}", flush=True)
        alone = [[path] for path in new]
        for together in [new] if new and which == GPU_TESTS else alone:
            options = [*self.in_parallel, *(["-m", "gpu"] if which == GPU_TESTS else [])]
            tests = [sys.executable, "-m", "pytest", "-q", "--no-header", *options, *together]
            code = subprocess.run(tests, cwd=ROOT, env=self.environment, check=False).returncode  # noqa: S603  our own arguments
            self.passed |= {(path, which): code == 0 for path in together}
            if code != 0:
                return False
        return True


def absent_packages(benchmark: Benchmark) -> list[str]:
    """Return the packages that a benchmark needs and that are not installed."""
    return [package for package in benchmark.needs if importlib.util.find_spec(package) is None]


def has_gpu_tests(path: Path) -> bool:
    """Tell whether a file of tests, or one of a folder, marks a test as needing a GPU."""
    files = path.rglob("test_*.py") if path.is_dir() else [path]
    return any("pytest.mark.gpu" in file.read_text(encoding="utf-8") for file in files)


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
