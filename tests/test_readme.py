"""Every ```python block of the README and of the guides runs as it stands, page by page, in order."""

import pickle
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelcontrast.data import SyntheticActions, prepare
from skelcontrast.skeleton import COCO_17
from tests.reference.ntu_files import make_ntu_folder
from tests.reference.official import crossclr_state, official_state
from tests.reference.raw_files import make_annotations, make_nw_ucla_folder, make_pku_folder, make_utd_mhad_folder

ROOT = Path(__file__).resolve().parents[1]
NOT_RUN = "<!-- not run:"
"""A block right behind this comment is left out; the comment says why."""
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "_build" not in path.parts and "```python\n" in path.read_text(encoding="utf-8")
]


def blocks(text: str, *, left_out: bool = False) -> list[str]:
    """Return the code of a page's ```python blocks, each behind as many empty lines as to keep its line numbers."""
    found = []
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        before = text[: match.start()].rstrip()
        if before.rpartition("\n")[2].startswith(NOT_RUN) == left_out:
            found.append("\n" * text[: match.start(1)].count("\n") + match[1])
    return found


def run(page: Path, folder: Path, *, left_out: bool = False) -> dict[str, Any]:
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks(page.read_text(encoding="utf-8"), left_out=left_out)):
        script = folder / f"{page.stem}_block_{number}.py"
        script.write_text(block, encoding="utf-8")
        names = runpy.run_path(str(script), init_globals=names)
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_code_on_the_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(page, tmp_path)


def test_blocks_are_found_and_left_out_by_comment() -> None:
    left_out = f"{NOT_RUN} needs data -->\n\n```python\ny = 2\n```"
    page = f"a\n\n```python\nx = 1\n```\n\n{left_out}\n\nb\n```python\nz = 3\n```\n"
    assert blocks(page) == ["\n" * 3 + "x = 1\n", "\n" * 14 + "z = 3\n"]
    assert blocks(page, left_out=True) == ["\n" * 9 + "y = 2\n"]


def write_official(folder: Path) -> None:
    """Write a folder as the released code prepares it, and small checkpoints of it."""
    clips = SyntheticActions(subjects=1, repetitions=1, camera_yaw_degrees=(0.0,))
    (folder / "NTU60_frame50" / "xsub").mkdir(parents=True)
    for part in ("train", "val"):
        start = folder / "NTU60_frame50" / "xsub" / part
        np.save(f"{start}_position.npy", clips.tensor().numpy())
        Path(f"{start}_label.pkl").write_bytes(pickle.dumps((list(clips.names), clips.labels.tolist())))
    torch.save(official_state(), folder / "aimclr_joint.pt")
    torch.save(crossclr_state(), folder / "crossclr_3views.pt")


def test_code_that_needs_the_data_sets_runs_on_generated_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy")
    monkeypatch.chdir(tmp_path)
    make_ntu_folder(tmp_path / "nturgb+d_skeletons", count=24, frames=20, actions=2, subjects=4)
    clip = next((tmp_path / "nturgb+d_skeletons").glob("*.skeleton"))
    clip.rename(clip.with_name("S001C002P003R002A013.skeleton"))
    (tmp_path / "NTU_RGBD_samples_with_missing_skeletons.txt").write_text("S001C002P005R002A008\n")
    make_pku_folder(tmp_path / "PKU-MMD")
    make_nw_ucla_folder(tmp_path / "NW-UCLA")
    clip = next((tmp_path / "NW-UCLA").glob("*.json"))
    clip.rename(clip.with_name("a08_s01_e00_v03.json"))
    make_utd_mhad_folder(tmp_path / "UTD-MHAD" / "Skeleton", actions=1)
    poses = pickle.loads(make_annotations(tmp_path / "ntu60_hrnet.pkl", layout=COCO_17).read_bytes())
    poses["split"]["split1_train"], poses["split"]["split1_val"] = np.array_split(list(poses["split"]["xsub_train"]), 2)
    (tmp_path / "hmdb51_hrnet.pkl").write_bytes(pickle.dumps(poses))
    prepare("pickle", tmp_path / "hmdb51_hrnet.pkl", tmp_path / "prepared" / "poses", layout=COCO_17, progress=False)
    write_official(tmp_path)

    names = run(ROOT / "docs" / "api" / "data.md", tmp_path, left_out=True)
    assert (names["views"].train, names["views"].published) == ((2, 3), (37646, 18932))
    assert len(names["some"]) < len(poses["annotations"])
    assert names["x"].shape == (3, 20, 25, 2)
    assert run(ROOT / "docs" / "api" / "methods.md", tmp_path, left_out=True)["features"][0].features.shape == (16, 8)


def test_a_source_distribution_holds_what_is_spoken_of() -> None:
    settings = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = settings.partition("[tool.hatch.build.targets.sdist]\n")[2].partition("\n]\n")[0]
    included = set(re.findall(r'"([^"]+)"', table))
    pages = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "install.md")
    text = "".join(page.read_text(encoding="utf-8") for page in pages)
    named = {path.name for path in ROOT.iterdir() if path.is_file() and path.name in text}
    assert {"constraints.txt", "constraints-oldest.txt"} <= named
    assert (named | {"Makefile", ".ci"}) - included == {"pyproject.toml"}  # which is there in any case
