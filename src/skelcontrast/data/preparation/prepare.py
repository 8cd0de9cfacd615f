"""From a raw folder to a prepared one: every frame once, on which all protocols, streams and lengths are views."""

import json
import zlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import get_args

from skelcontrast import _check
from skelcontrast.data._joints import SHOULDERS
from skelcontrast.data.bodies import BodyPolicy
from skelcontrast.data.preparation._clips import ClipMaker, Dtype, EmptyFrames, Shoulders
from skelcontrast.data.preparation._task import Task
from skelcontrast.data.preparation.protocols import DatasetName, read_missing_skeletons
from skelcontrast.data.preparation.raw import RawDataset, SkippedSample
from skelcontrast.data.preparation.report import PreparationReport
from skelcontrast.data.preparation.sources import list_raw
from skelcontrast.skeleton import SkeletonLayout

OWNER = "prepare"


def prepare(
    dataset: DatasetName,
    raw: Path | str,
    out: Path | str,
    *,
    bodies: BodyPolicy = "file-order",
    body_count: int | None = None,
    centre: str | None = "usual",
    shoulders: Shoulders = "as-recorded",
    empty_frames: EmptyFrames = "drop",
    frames: int | None = None,
    dtype: Dtype = "float32",
    missing: Path | str | None = None,
    layout: SkeletonLayout | None = None,
    with_score: bool = False,
    skip_bad: bool = False,
    workers: int = 1,
    progress: bool = True,
) -> PreparationReport:
    r"""Read a raw data set once and write a folder that every protocol, stream and length is read from.

    The folder holds ``positions.npy``, all frames of all samples one behind the other, (F, C, V, M);
    ``samples.csv``, a line for each sample in the same order; and ``report.json``. `open_prepared` opens it.

    Each sample goes through these steps: bodies are chosen, frames without anybody dropped, a joint is put at the
    origin, and, where asked for, the sequence is resampled and the shoulders are aligned. Samples without anybody are
    left out and reported.

    The folder appears whole or not at all. Until then everything is in a folder beside it, ``<out>.unfinished``. An
    interrupted preparation goes on from there when it is called again with the same settings, and ends with the same
    bytes, with any number of workers.

    Args:
        dataset: Name of the data set; `list_raw` says which files are looked for.
        raw: The raw folder; for ``"pickle"`` the file of annotations.
        out: The folder to make, which may lie in the raw one. It must not exist, unless it is the whole result of this
            same call, with the same settings and from files of the same names and sizes (a pickle of the same content);
            then its report is returned, and nothing else is done.
        bodies: How bodies are chosen, see `choose_bodies`: as the released code does, or following people by their ids.
        body_count: Number of bodies M; 2 unless given, 1 for NW-UCLA and UTD-MHAD.
        centre: Name of the joint that is put at the origin in every frame, or `None` for none. ``"usual"`` is the
            spine's shoulder joint for NTU RGB+D and PKU-MMD, as in the released code; "hip centre" for UTD-MHAD;
            "shoulder centre" for NW-UCLA; the layout's centre for pickles, but none for `COCO_17` or with scores.
        shoulders: ``"parallel"`` turns every body so that its shoulders lie along x (`align_shoulders`), ``"official"``
            does so as the released code does, which resamples before: give 50 `frames` as well.
        empty_frames: Whether frames in which none of the chosen bodies is there are dropped or kept as zeros.
        frames: Number of frames that every sample is resampled to here, at least 1. Unless given, all frames are kept,
            and `open_prepared` resamples to any number.
        dtype: Kind of number of the positions. ``"float16"`` halves the folder, at a precision of about a millimetre.
        missing: List of samples to leave out, see `read_missing_skeletons`; NTU RGB+D only.
        layout: Skeleton of the poses in a pickle, `NTU_RGBD_25` unless given.
        with_score: Whether the scores of 2-D poses in a pickle become a third coordinate.
        skip_bad: Whether broken files are left out and reported. Otherwise they are an error that names them.
        workers: Number of processes that read files; 1 is this process itself, which always reads a pickle alone. More
            help as long as there are free cores. They import the script that called, which must keep what it runs under
            ``if __name__ == "__main__":``.
        progress: Whether progress is shown, on the standard error stream.

    Returns:
        What was done; the same as ``report.json``.

    Raises:
        BrokenFilesError: If files are broken, without `skip_bad`. Nothing is left behind.
        OSError: If a folder cannot be read or written, such as on a full disk; the message names the file.
        RuntimeError: If another process is preparing the same folder, or a worker process dies.
        SkeletonFormatError: If a list of names or a pickle as a whole is broken.
        TypeError: If an argument is of the wrong kind.
        ValueError: If an option is none of those named, `out` exists, an interrupted preparation had other settings,
            or there is no sample to prepare.

    Example:
        A recording of one frame with one body, whose joints are all at the same place.

        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> (folder / "raw").mkdir()
        >>> joints = ("0.5 -0.25 3.0 " + "0 " * 8 + "2\n") * 25
        >>> text = "1\n1\n72057594037944738 0 0 0 0 0 0 0 0 2\n25\n" + joints
        >>> _ = (folder / "raw" / "S001C002P003R002A013.skeleton").write_text(text)
        >>> report = prepare("ntu60", folder / "raw", folder / "ntu60", progress=False)
        >>> report.samples, report.shape, report.counts["xview"]
        (1, (1, 3, 25, 2), SplitCount(train=1, test=0))
    """
    _check.choice(OWNER, "bodies", bodies, get_args(BodyPolicy))
    _check.choice(OWNER, "shoulders", shoulders, get_args(Shoulders))
    _check.choice(OWNER, "empty_frames", empty_frames, get_args(EmptyFrames))
    _check.choice(OWNER, "dtype", dtype, get_args(Dtype))
    workers = _check.integer(OWNER, "workers", workers, 1)
    if frames is not None:
        frames = _check.integer(OWNER, "frames", frames, 1)
    if body_count is not None:
        body_count = _check.integer(OWNER, "body_count", body_count, 1)
    if missing is not None and dataset not in ("ntu60", "ntu120"):
        _check.fail(OWNER, "missing", "be given for NTU RGB+D only", f"a list for {dataset!r}")
    source = list_raw(dataset, raw, layout=layout, with_score=with_score)
    maker = ClipMaker(
        source.name,
        source.root,
        source.layout,
        source.coordinates,
        bodies=bodies,
        body_count=source.bodies if body_count is None else body_count,
        centre=_joint(source, centre, with_score=with_score),
        shoulders=shoulders,
        frames=frames,
        empty_frames=empty_frames,
        dtype=dtype,
        clips=source.clips,
    )
    _check_shoulders(maker)
    task = Task(
        _without(source, frozenset() if missing is None else read_missing_skeletons(missing)),
        maker,
        settings={**maker.settings(), **_skeleton(source), "missing": missing is not None, "with_score": with_score},
        skip_bad=skip_bad,
    )
    return task.run(Path(out).absolute(), workers=1 if dataset == "pickle" else workers, shown=progress)


def _joint(source: RawDataset, centre: str | None, *, with_score: bool) -> str | None:
    if centre is None:
        return None
    if centre == "usual":
        return source.origin
    _check.choice(OWNER, "centre", centre, ("usual", *source.layout.joints))
    if with_score:
        _check.fail(OWNER, "centre", "be None with scores, from which nothing can be subtracted", repr(centre))
    return centre


def _skeleton(source: RawDataset) -> dict[str, str]:
    """Return the skeleton of a pickle as a setting, by its name and what it is; all other data sets have one."""
    if source.name != "pickle":
        return {}
    return {"layout": f"{source.layout.name} {zlib.crc32(json.dumps(asdict(source.layout)).encode()):08x}"}


def _check_shoulders(maker: ClipMaker) -> None:
    absent = [side for side in SHOULDERS if side not in maker.layout.joints]
    if maker.shoulders != "as-recorded" and (absent or maker.coordinates != 3):
        got = f"no joint '{absent[0]}'" if absent else f"{maker.coordinates} coordinates"
        _check.fail(OWNER, "shoulders", "be 'as-recorded' for data without shoulders in space", got)


def _without(source: RawDataset, missing: frozenset[str]) -> RawDataset:
    """Take out the samples that are on a list of missing skeletons."""
    kept = tuple(sample for sample in source.samples if sample.name not in missing)
    if source.samples and not kept:
        _check.fail(OWNER, "missing", "leave samples to prepare", f"a list with all {len(source.samples)} of them")
    reason = "on the list of samples with missing skeletons"
    listed = [SkippedSample(one.name, one.file, "listed", reason) for one in source.samples if one.name in missing]
    return replace(source, samples=kept, left_out=(*source.left_out, *listed))
