"""The cache of features: found again by content, verified before use, whole or not there."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelcontrast.data import SkeletonDataset
from skelcontrast.evaluation import Features, extract_features
from skelcontrast.skeleton import SkeletonLayout

ARM = SkeletonLayout("arm", ("shoulder", "elbow", "wrist"), ((1, 0), (2, 1)), centre=0, mirror=())
OTHER_ARM = SkeletonLayout("arm", ("shoulder", "elbow", "wrist"), ((1, 0), (2, 0)), centre=0, mirror=())


class Counted(nn.Module):
    """A small encoder that counts the sequences it is given."""

    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        self.layer = nn.Linear(72, 4)
        self.gain, self.width = gain, 4  # shown neither by the state nor by the printed form
        self.count = 0

    def forward(self, x: Tensor) -> Tensor:
        self.count += len(x)
        features: Tensor = self.layer(x.flatten(1)) * self.gain
        return features[:, : self.width]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(30, 3, 4, 3, 2)


def test_second_call_runs_a_few_sequences_only(x: Tensor, tmp_path: Path) -> None:
    encoder, folder = Counted(), tmp_path / "made" / "here"
    plain = extract_features(encoder, x, labels=torch.arange(30))
    encoder.count = 0
    first = extract_features(encoder, x, labels=torch.arange(30), cache=folder)
    assert encoder.count == 30
    again = extract_features(encoder, x, labels=torch.arange(30).flip(0), cache=str(folder), batch_size=7)
    assert encoder.count == 34
    assert torch.equal(first.features, plain.features)
    assert torch.equal(again.features, plain.features)
    assert again.labels.tolist() == list(range(30))[::-1]  # labels are the caller's, not the cache's
    (file,) = folder.iterdir()
    assert re.fullmatch(r"features-[0-9a-f]{64}\.npz", file.name)
    again.features.add_(1)  # its own memory
    assert torch.equal(extract_features(encoder, x, labels=torch.arange(30), cache=folder).features, plain.features)


def files(folder: Path) -> int:
    return len(list(folder.iterdir()))


def test_content_decides(x: Tensor, tmp_path: Path) -> None:
    encoder, labels = Counted(), torch.arange(30)

    def run(data: Tensor | SkeletonDataset, stream: str = "joint", layout: SkeletonLayout | None = None) -> Features:
        return extract_features(encoder, data, labels=labels, cache=tmp_path, stream=stream, layout=layout)  # type: ignore[arg-type]  # one of the streams

    run(x)
    run(x.clone())
    run(SkeletonDataset(x, labels, names=[str(row) for row in range(30)]))
    assert files(tmp_path) == 1
    changed = x.clone()
    changed[29, 2, 3, 2, 1] += 1e-6
    run(changed)
    run(x.flip(0))
    assert files(tmp_path) == 3
    run(x, "bone", ARM)
    run(x, "bone", OTHER_ARM)
    run(x, "motion", ARM)
    assert files(tmp_path) == 6
    with torch.no_grad():
        encoder.layer.bias[3] += 1e-6
    run(x)
    assert files(tmp_path) == 7


def test_the_same_numbers_in_another_shape_or_dtype_are_others(x: Tensor, tmp_path: Path) -> None:
    for data in (x, x.reshape(30, 3, 2, 3, 4), x.view(torch.float64).reshape(30, 3, 2, 3, 2)):
        extract_features(nn.Flatten(), data, labels=torch.arange(30), cache=tmp_path)
    assert files(tmp_path) == 3


def test_key_does_not_depend_on_how_the_sequences_are_read(
    x: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_features(nn.Flatten(), x, labels=torch.arange(30), cache=tmp_path)
    monkeypatch.setattr("skelcontrast.evaluation._feature_cache.ROWS", 7)
    extract_features(nn.Flatten(), x, labels=torch.arange(30), cache=tmp_path)
    assert files(tmp_path) == 1


def test_a_setting_that_the_key_cannot_see_is_noticed(x: Tensor, tmp_path: Path) -> None:
    encoder = Counted()
    extract_features(encoder, x, labels=torch.arange(30), cache=tmp_path)
    encoder.gain = 1.5
    plain = extract_features(encoder, x, labels=torch.arange(30))
    found = extract_features(encoder, x, labels=torch.arange(30), cache=tmp_path)
    assert torch.equal(found.features, plain.features)
    assert files(tmp_path) == 1


def test_features_of_another_width_are_made_anew(x: Tensor, tmp_path: Path) -> None:
    encoder = Counted()
    extract_features(encoder, x, labels=torch.arange(30), cache=tmp_path)
    encoder.width = 3  # as if its code had changed
    found = extract_features(encoder, x, labels=torch.arange(30), cache=tmp_path)
    assert torch.equal(found.features, extract_features(encoder, x, labels=torch.arange(30)).features)
    assert files(tmp_path) == 1


@pytest.mark.parametrize("damage", ["bit", "half", "empty", "text", "other", "double"])
def test_a_damaged_file_is_made_anew(x: Tensor, tmp_path: Path, damage: str) -> None:
    encoder = Counted()
    plain = extract_features(encoder, x, labels=torch.arange(30), cache=tmp_path)
    (file,) = tmp_path.iterdir()
    content = file.read_bytes()
    if damage == "bit":  # in the middle of the numbers, in a row that is not run again
        spoilt = bytearray(content)
        spoilt[len(content) // 2 - 40] ^= 1
        file.write_bytes(bytes(spoilt))
    elif damage == "other":
        np.savez(file, something=np.zeros(3))
    elif damage == "double":
        np.savez(file, features=plain.features.double().numpy())
    else:
        file.write_bytes({"half": content[: len(content) // 2], "empty": b"", "text": b"not an archive"}[damage])
    encoder.count = 0
    found = extract_features(encoder, x, labels=torch.arange(30), cache=tmp_path)
    assert torch.equal(found.features, plain.features)
    assert encoder.count == 30
    assert file.read_bytes() == content
    assert files(tmp_path) == 1


def test_nothing_is_written_when_the_encoder_fails(x: Tensor, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must return features"):
        extract_features(nn.Identity(), x, labels=torch.arange(30), cache=tmp_path)
    assert files(tmp_path) == 0


def test_a_folder_that_cannot_be_written_to_is_known_before_the_encoder_runs(x: Tensor, tmp_path: Path) -> None:
    encoder = Counted()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        extract_features(encoder, x, labels=torch.arange(30), cache=tmp_path / "file" / "cache")
    assert encoder.count == 0


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_gives_what_it_has(x: Tensor, tmp_path: Path) -> None:
    encoder, cache = Counted(), tmp_path / "cache"
    made = extract_features(encoder, x, labels=torch.arange(30), cache=cache)
    cache.chmod(0o555)
    encoder.count = 0
    assert torch.equal(extract_features(encoder, x, labels=torch.arange(30), cache=cache).features, made.features)
    assert encoder.count == 4
    with pytest.raises(PermissionError):
        extract_features(encoder, x[1:], labels=torch.arange(29), cache=cache)
    assert encoder.count == 4


def test_any_dtype_of_state_can_be_hashed(x: Tensor, tmp_path: Path) -> None:
    class Odd(nn.Flatten):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 3}

        def set_extra_state(self, state: object) -> None:
            """Take nothing."""

    encoder = Odd()
    encoder.register_buffer("brief", torch.ones(3, dtype=torch.bfloat16))
    encoder.register_buffer("flag", torch.tensor(True))
    encoder.register_buffer("none", torch.zeros(0))
    extract_features(encoder, x, labels=torch.arange(30), cache=tmp_path)
    encoder.brief = torch.full((3,), 2, dtype=torch.bfloat16)
    extract_features(encoder, x, labels=torch.arange(30), cache=tmp_path)
    assert files(tmp_path) == 2


def test_buffers_that_are_not_in_the_state_count(x: Tensor, tmp_path: Path) -> None:
    """A row that is not run again is the only one whose feature such a buffer changes."""

    class Thresholded(nn.Flatten):
        threshold: Tensor

        def __init__(self, threshold: float) -> None:
            super().__init__()
            self.register_buffer("threshold", torch.tensor(threshold), persistent=False)

        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).clamp(max=self.threshold)

    x[1] = 50.0
    for threshold in (100.0, 10.0):
        found = extract_features(Thresholded(threshold), x, labels=torch.arange(30), cache=tmp_path)
        assert found.features.max() == min(threshold, 50)
    assert files(tmp_path) == 2


def test_a_file_is_no_folder(x: Tensor, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(ValueError, match=r"extract_features: `cache` must be a folder, got the file .*file\."):
        extract_features(nn.Flatten(), x, labels=torch.arange(30), cache=file)
