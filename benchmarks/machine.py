"""What numbers were measured on, and what files of them are called."""

import datetime as dt
import os
import platform
import re
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]


def describe_machine(threads: int | None = None) -> dict[str, str]:
    """Say what numbers are measured on."""
    described = {
        "date": f"{dt.datetime.now(dt.timezone.utc):%Y-%m-%d %H:%M} UTC",
        "commit": commit(),
        "machine": f"{processor()}, {os.cpu_count()} logical cores",
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
    }
    if torch.cuda.is_available():
        described["device"] = torch.cuda.get_device_name()
    elif threads is not None:
        described["threads"] = str(threads)
    return described


def stem(name: str, machine: dict[str, str]) -> str:
    """Return the name of a result's files: operation and machine, and the threads where they are not one."""
    parts = [name, machine.get("device", processor())]
    if machine.get("threads", "1") != "1":
        parts.append(f"{machine['threads']} threads")
    return "-".join(re.sub("[^a-z0-9_]+", "-", part.lower()).strip("-") for part in parts)


def show(machine: dict[str, str]) -> str:
    """Write a machine's description, a line per entry."""
    return "\n".join(f"{name:8} {value}" for name, value in machine.items())


def commit() -> str:
    """Return the commit, marked where the code differs from it; results do not count."""
    git = ["git", "describe", "--always", "--abbrev=12", "--exclude=*"]
    status = ["git", "status", "--porcelain", "--", "src", "benchmarks/*.py", "tests"]
    try:
        found, changed = (
            subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True).stdout.strip()  # noqa: S603  fixed arguments
            for command in (git, status)
        )
    except FileNotFoundError:
        return "unknown (no git)"
    return f"{found}-dirty" if found and changed else found or "unknown (no commit)"


def processor() -> str:
    """Return the processor's name where the system tells it, without marks of trade."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return re.sub(r"\((R|TM)\)", "", line.split(":", 1)[1].strip())
    return platform.processor() or platform.machine()
