"""Files that are either old or new, never half: written under another name, flushed, renamed."""

import glob
import hashlib
import os
import platform
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

FORGOTTEN_AFTER = 3600.0  # seconds without a write; decides where process ids cannot


def write_atomically(target: Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that at every moment `target` holds the old content or the new one, whole.

    Every step is on the disk before the next begins. What killed processes left behind for the same target is removed.
    """
    for sibling in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        if _abandoned(sibling):
            sibling.unlink(missing_ok=True)
    temporary = target.with_name(f".{target.name}.{_place()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except RuntimeError as error:  # that of the archive of `torch.save`, which hides why the disk did not take it
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    finally:
        temporary.unlink(missing_ok=True)
    flush(target.parent)  # without which the new name may be lost


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk; of folders only POSIX can say so."""
    if path.is_dir() and os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _abandoned(temporary: Path) -> bool:
    """Tell whether nobody writes this temporary file any more: its process is gone, or it has not grown for long."""
    try:
        age = time.time() - temporary.stat().st_mtime
    except FileNotFoundError:  # its writer has just renamed it
        return False
    place, process = temporary.name.split(".")[-4:-2]
    if os.name != "posix" or place != _place() or not process.isdecimal():  # elsewhere signal 0 is no harmless question
        return age > FORGOTTEN_AFTER
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # alive, someone else's
        pass
    return age > FORGOTTEN_AFTER


def _place() -> str:
    """Name where a process id means the same process: this host and, on Linux, this PID namespace."""
    try:
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        namespace = 0
    return hashlib.sha256(f"{platform.node()} {namespace}".encode()).hexdigest()[:8]
