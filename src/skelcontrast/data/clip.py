"""What a reader returns: one recording as its file has it, or an error that names the file and the line."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from skelcontrast.skeleton import SkeletonLayout

NOBODY = -1


class SkeletonFormatError(ValueError):
    """A file is not as its format says.

    Args:
        owner: Public name of the reader.
        path: The file.
        must: What the format asks for, such as ``"hold 25 joints"``.
        got: What the file holds.
        line: Line of the file, from 1, where there is one.
        hint: A sentence on the likely cause.

    Example:
        >>> raise SkeletonFormatError("read_ntu", "S001.skeleton", "be a frame count", "'abc'", line=1)
        Traceback (most recent call last):
        ...
        skelcontrast.data.clip.SkeletonFormatError: read_ntu: `S001.skeleton`, line 1, must be a frame count, got 'abc'.
    """

    def __init__(
        self, owner: str, path: Path | str, must: str, got: object, *, line: int | None = None, hint: str = ""
    ) -> None:
        self.owner = owner
        self.path = Path(path)
        self.must = must
        self.got = str(got)
        self.line = line
        self.hint = hint
        where = f"`{path}`" if line is None else f"`{path}`, line {line},"
        super().__init__(f"{owner}: {where} must {must}, got {got}.{' ' + hint if hint else ''}")

    def __reduce__(self) -> tuple[object, ...]:
        # Errors travel between worker processes; the default would call __init__ with the message alone.
        return _rebuild, (self.owner, self.path, self.must, self.got, self.line, self.hint)


def _rebuild(owner: str, path: Path, must: str, got: str, line: int | None, hint: str) -> SkeletonFormatError:
    return SkeletonFormatError(owner, path, must, got, line=line, hint=hint)


@dataclass(frozen=True, eq=False)
class SkeletonClip:
    """One recording as its file has it: nothing centred, resampled or chosen yet."""

    positions: npt.NDArray[np.float32]
    """Joint positions (C, T, V, M), finite; zero where there is no body. Slot m of a frame is the file's m-th body
    there, so that a person may change slots from frame to frame. T may be 0."""
    body_ids: npt.NDArray[np.int64]
    """Which body is in which slot (T, M); -1 where there is none."""
    layout: SkeletonLayout
    """The skeleton."""
    tracking: npt.NDArray[np.int8] | None = None
    """How sure the sensor was of each joint (T, V, M): 0 not tracked, 1 inferred, 2 tracked. `None` where the file
    does not say."""
