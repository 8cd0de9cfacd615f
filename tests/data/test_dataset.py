"""The dataset: what it holds, what it reads, how it is cut, and what it refuses."""

import copy
import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelcontrast.data import SkeletonDataset, _device
from skelcontrast.skeleton import NTU_RGBD_25

N = 6
NAMES = ["a", "b", "c", "d", "e", "f"]


def numbers(*, joints: int = 3) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(size=(N, 3, 4, joints, 2)).astype(np.float32)


def clips(data: Any = None, **options: Any) -> SkeletonDataset:
    given = {"names": NAMES, "subjects": [1, 2, 3, 1, 2, 3], "cameras": [1, 1, 1, 2, 2, 2], **options}
    return SkeletonDataset(numbers() if data is None else data, given.pop("labels", [0, 1, 2, 0, 1, 2]), **given)


@pytest.fixture
def mapped(tmp_path: Path) -> Any:
    np.save(tmp_path / "x.npy", numbers())
    return np.load(tmp_path / "x.npy", mmap_mode="r")


def as_tensor() -> torch.Tensor:
    return torch.from_numpy(numbers())


def read_only() -> Any:
    data = numbers()
    data.flags.writeable = False
    return data


@pytest.mark.parametrize("make", [numbers, as_tensor, read_only])
def test_arrays_and_tensors_give_the_same_samples(make: Any) -> None:
    dataset = clips(make())
    x, label, index, name = dataset[4]
    assert torch.equal(x, as_tensor()[4])
    assert (label, index, name) == (1, 4, "e")
    assert [sample.name for sample in dataset] == NAMES
    assert dataset[-1].row == N - 1
    assert torch.equal(dataset.take([5, 0, 0]), as_tensor()[[5, 0, 0]])
    assert dataset.shape == (N, 3, 4, 3, 2)
    assert dataset.device == torch.device("cpu")


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_batches_are_what_take_gives_part_by_part(batch_size: int) -> None:
    order = [4, 0, 0, 2, 1]
    part = clips().subset([5, 3, 1, 0, 2])
    for dataset in (part, part.to("cpu")):
        found = list(dataset.batches(order, batch_size))
        expected = [dataset.take(order[start : start + batch_size]) for start in range(0, 5, batch_size)]
        assert [x.tolist() for x in found] == [x.tolist() for x in expected]


def test_wrong_batches() -> None:
    for order, batch_size, text in (
        ([0, 6], 2, "SkeletonDataset.batches: `order` must lie in [0, 5], got 0 to 6."),
        ([0], 0, "SkeletonDataset.batches: `batch_size` must be at least 1, got 0."),
    ):
        with pytest.raises(ValueError, match=re.escape(text)):
            clips().batches(order, batch_size)
    with pytest.raises(
        TypeError, match=re.escape("SkeletonDataset.batches: `batch_size` must be an integer, got 1.5.")
    ):
        clips().batches([0], 1.5)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match=re.escape("SkeletonDataset.batches: `order` must be integers, got float64.")):
        clips().batches([0.5], 1)  # type: ignore[list-item]  # on purpose


def test_a_sample_is_a_copy() -> None:
    data = as_tensor()
    dataset = clips(data)
    dataset[0].x.zero_()
    dataset.tensor().zero_()
    assert torch.equal(data, as_tensor())


def test_a_mapped_file_is_read_only_where_it_is_asked_for(mapped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = np.memmap.__getitem__

    def watch(self: Any, index: Any) -> Any:
        out = real(self, index)
        read.append(getattr(out, "shape", (0,))[0])
        return out

    monkeypatch.setattr(np.memmap, "__getitem__", watch)
    train, test = clips(mapped).cross_subject([1])
    assert read == [], "making and splitting a dataset reads nothing"
    assert torch.equal(test[1].x, as_tensor()[2])
    assert torch.equal(train.take([1]), as_tensor()[[3]])
    assert read == [1, 1]


def test_a_mapped_file_is_pickled_as_its_place(tmp_path: Path) -> None:
    whole = np.zeros((400, 3, 4, 5, 2), dtype=np.float32)
    whole[7] = 1
    np.save(tmp_path / "x.npy", whole)
    dataset = SkeletonDataset(
        np.load(tmp_path / "x.npy", mmap_mode="r"), [0] * 400, names=[str(index) for index in range(400)]
    ).subset([3, 7])
    stored = pickle.dumps(dataset)
    assert len(stored) < whole.nbytes / 10
    back = pickle.loads(stored)
    assert torch.equal(back.tensor(), dataset.tensor())
    assert back.names == ("3", "7")


def test_a_slice_of_a_mapped_file_and_other_orders_survive_a_pickle(mapped: Any, tmp_path: Path) -> None:
    part = SkeletonDataset(mapped[2:4], [0, 1], names=["a", "b"])
    assert torch.equal(pickle.loads(pickle.dumps(part)).tensor(), as_tensor()[2:4])
    np.save(tmp_path / "f.npy", np.asfortranarray(numbers()))
    turned = clips(np.load(tmp_path / "f.npy", mmap_mode="r"))
    assert torch.equal(pickle.loads(pickle.dumps(turned)).tensor(), as_tensor())
    assert torch.equal(pickle.loads(pickle.dumps(clips())).tensor(), as_tensor())


def test_what_was_written_to_a_copy_on_write_array_is_in_parts_and_pickles(mapped: Any, tmp_path: Path) -> None:
    data = np.load(tmp_path / "x.npy", mmap_mode="c")
    data *= 3
    dataset = clips(data)
    for same in (dataset.subset(range(N)), pickle.loads(pickle.dumps(dataset)), copy.deepcopy(dataset)):
        assert torch.equal(same.tensor(), 3 * as_tensor())


def test_a_subset_shares_the_mapped_file_whatever_lies_there_by_then(mapped: Any, tmp_path: Path) -> None:
    dataset = clips(mapped)
    np.save(tmp_path / "other.npy", numbers() + 1)
    (tmp_path / "other.npy").replace(tmp_path / "x.npy")
    part = dataset.subset([1, 4])
    assert np.shares_memory(part._data, mapped)
    assert torch.equal(part.to("cpu").tensor(), as_tensor()[[1, 4]])


def test_subset_takes_everything_along() -> None:
    dataset = clips(class_names=["x", "y", "z", "never seen"], protocols={"odd": [i % 2 == 1 for i in range(N)]})
    part = dataset.subset([4, 1, 3]).subset([2, 0])  # a subset of a subset: 3, 4
    assert part.names == ("d", "e")
    assert part.labels.tolist() == [0, 1]
    assert part.subjects is not None
    assert part.subjects.tolist() == [1, 2]
    assert part.cameras is not None
    assert part.cameras.tolist() == [2, 2]
    assert part.protocols["odd"].tolist() == [True, False]
    assert part.num_classes == 4
    assert torch.equal(part.tensor(), as_tensor()[[3, 4]])
    assert torch.equal(part[1].x, as_tensor()[4])
    assert len(dataset) == N, "the whole is as it was"


def test_subset_without_subjects_and_cameras() -> None:
    part = clips(subjects=None, cameras=None).subset(torch.tensor([0]))
    assert part.subjects is None
    assert part.cameras is None


def test_splits() -> None:
    dataset = clips(protocols={"first half": np.arange(N) < 3})
    for train, test, expected in (
        (*dataset.split("first half"), ("a", "b", "c")),
        (*dataset.cross_subject([1, 3]), ("a", "c", "d", "f")),
        (*dataset.cross_view([2]), ("d", "e", "f")),
    ):
        assert train.names == expected
        assert set(train.names) | set(test.names) == set(NAMES)
        assert not set(train.names) & set(test.names)


def test_to_moves_the_sequences_only() -> None:
    part = clips().subset([5, 2])
    moved = part.to("cpu")
    assert torch.equal(moved.tensor(), part.tensor())
    assert moved.names == part.names
    assert part.to(torch.device("meta")).take([1, 0]).device.type == "meta"


def test_number_of_classes() -> None:
    assert clips().num_classes == 3
    assert clips(num_classes=7).num_classes == 7
    assert clips(class_names=["x", "y", "z"], num_classes=3).num_classes == 3


def test_repr() -> None:
    assert repr(clips()) == "SkeletonDataset(6 sequences, C=3, T=4, V=3, M=2, 3 classes, 3 subjects, 2 cameras)"
    bare = clips(subjects=None, cameras=None)
    assert repr(bare) == "SkeletonDataset(6 sequences, C=3, T=4, V=3, M=2, 3 classes)"


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        ([[1.0]], TypeError, "`data` must be a numpy.ndarray or a torch.Tensor, got list"),
        (numbers().astype(np.int64), TypeError, "`data` must be floating point, got int64"),
        (as_tensor().long(), TypeError, "`data` must be floating point, got torch.int64"),
        (numbers().astype(">f4"), TypeError, "`data` must have this machine's byte order, got >f4"),
        (
            numbers()[0],
            ValueError,
            "`data` must have shape (N, C, T, V, M), none of them 0, got (3, 4, 3, 2). One sequence is data[None], one",
        ),
        (numbers()[:0], ValueError, "`data` must have shape (N, C, T, V, M), none of them 0, got (0, 3, 4, 3, 2)"),
    ],
)
def test_wrong_data(data: Any, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(f"SkeletonDataset: {text}")):
        SkeletonDataset(data, [0] * N, names=NAMES)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        (
            {"labels": [0, 1]},
            ValueError,
            "`labels` must have one entry for each of the 6 sequences of `data`, got 2 entries",
        ),
        (
            {"names": ["a"]},
            ValueError,
            "`names` must have one entry for each of the 6 sequences of `data`, got 1 entries",
        ),
        (
            {"cameras": [1] * 7},
            ValueError,
            "`cameras` must have one entry for each of the 6 sequences of `data`, got 7 entries",
        ),
        ({"labels": [0.0] * N}, TypeError, "`labels` must be integers, got float64"),
        ({"labels": torch.zeros(N)}, TypeError, "`labels` must be integers, got torch.float32"),
        ({"labels": [[0]] * N}, ValueError, "`labels` must have one axis, got (6, 1)"),
        ({"labels": [[0], [0, 1]]}, ValueError, "`labels` must have one axis, got nested lists"),
        ({"labels": [-1] + [0] * 5}, ValueError, "`labels` must be at least 0, got -1"),
        (
            {"subjects": ["p"] * N},
            TypeError,
            "`subjects` must be integers, got <U1. Number them: `_, subjects = numpy.unique(subjects, return_",
        ),
        (
            {"labels": ["p"] * N},
            TypeError,
            "`labels` must be integers, got <U1. Number them: `_, labels = numpy.unique(",
        ),
        ({"names": ["a", "b", "c", "a", "b", "d"]}, ValueError, "`names` must be different, got 'a' twice"),
        ({"names": [1, 2, 3, 4, 5, 6]}, TypeError, "`names` must be strings, got 1"),
        ({"names": "abcdef"}, TypeError, "`names` must be a sequence of strings, got one string"),
        (
            {"layout": NTU_RGBD_25},
            ValueError,
            "`data` must have the 25 joints of layout 'NTU_RGBD_25' on axis V, got (6, 3, 4, 3, 2)",
        ),
        ({"layout": "ntu"}, TypeError, "`layout` must be a SkeletonLayout, got 'ntu'"),
        ({"class_names": ["x", "y"]}, ValueError, "`labels` must lie below the number of classes, 2, got 2. Labels"),
        ({"num_classes": 1}, ValueError, "`labels` must lie below the number of classes, 1, got 2."),
        ({"num_classes": 0}, ValueError, "`num_classes` must be at least 1, got 0"),
        (
            {"class_names": ["x", "y", "z"], "num_classes": 4},
            ValueError,
            "`num_classes` must be the number of `class_names`, 3, got 4",
        ),
        ({"protocols": {"half": [0, 1] * 3}}, TypeError, "`protocols['half']` must be booleans, got int64"),
        (
            {"protocols": {"half": [True]}},
            ValueError,
            "`protocols['half']` must have one entry for each of the 6 sequences of `data`, got 1 entries",
        ),
    ],
)
def test_wrong_options(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=re.escape(f"SkeletonDataset: {text}")):
        clips(**options)


def test_wrong_positions() -> None:
    dataset = clips()
    with pytest.raises(IndexError):
        dataset[N]
    with pytest.raises(TypeError, match=r"`index` must be an integer, got slice\(0, 2, None\)\. Use take or subset"):
        dataset[0:2]  # type: ignore[index]  # on purpose
    for indices, got in (([0, 6], "0 to 6"), ([-1], "-1 to -1")):
        with pytest.raises(
            ValueError, match=re.escape(f"SkeletonDataset.take: `indices` must lie in [0, 5], got {got}")
        ):
            dataset.take(indices)
    with pytest.raises(ValueError, match=r"SkeletonDataset\.subset: `indices` must name at least one sequence"):
        dataset.subset([])
    with pytest.raises(ValueError, match=r"SkeletonDataset\.subset: `indices` must name each sequence at most once"):
        dataset.subset([1, 1])
    with pytest.raises(TypeError, match=r"SkeletonDataset\.subset: `indices` must be integers, got bool"):
        dataset.subset([True] * N)


def test_wrong_splits() -> None:
    dataset = clips(protocols={"all": [True] * N, "none": [False] * N})
    with pytest.raises(ValueError, match=re.escape("be a protocol of this dataset ('all', 'none'), got 'xsub'")):
        dataset.split("xsub")
    with pytest.raises(ValueError, match="none; see cross_subject and cross_view"):
        clips().split("xsub")
    with pytest.raises(ValueError, match="must leave sequences for training and for testing, got an empty test part"):
        dataset.split("all")
    with pytest.raises(ValueError, match=r"must leave sequences for .* got an empty training part"):
        dataset.split("none")
    with pytest.raises(ValueError, match=r"cross_subject: `train_subjects` must leave .* got an empty test part"):
        dataset.cross_subject([1, 2, 3])
    with pytest.raises(ValueError, match=r"cross_view: `train_cameras` must leave .* got an empty training part"):
        dataset.cross_view([])
    text = "cross_subject: `train_subjects` must be subjects of this dataset, got 99, 0, of whom there is no sequence."
    with pytest.raises(ValueError, match=re.escape(text)):
        dataset.cross_subject([1, 99, 0])
    with pytest.raises(ValueError, match=r"`train_cameras` must be cameras of this dataset, got .*, 7 and others, of"):
        dataset.cross_view(range(3, 12))
    with pytest.raises(ValueError, match=r"cross_subject: `subjects` must be given when the dataset is made, got none"):
        clips(subjects=None).cross_subject([1])
    with pytest.raises(ValueError, match=r"cross_view: `cameras` must be given when the dataset is made, got none"):
        clips(cameras=None).cross_view([1])


def test_to_asks_for_memory_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dataset = clips()
    assert dataset.nbytes == dataset.tensor().nbytes
    assert dataset.subset([1]).nbytes == dataset.nbytes // len(dataset)
    table = tmp_path / "meminfo"
    table.write_text("MemTotal: 9 kB\nMemAvailable: 0 kB\n")
    monkeypatch.setattr(_device, "MEMORY_TABLE", table)
    text = r"SkeletonDataset\.to: `device` must have the 0\.00 GB free that .* need, got 0\.00 GB on 'cpu'\. Fewer"
    with pytest.raises(RuntimeError, match=text):
        dataset.to("cpu")
    table.unlink()  # a system that does not tell
    assert torch.equal(dataset.to("cpu").tensor(), dataset.tensor())


def test_double_precision_is_kept_and_comes_as_float32(tmp_path: Path) -> None:
    double = numbers().astype(np.float64)
    np.save(tmp_path / "x.npy", double)
    for data in (double, torch.from_numpy(double), np.load(tmp_path / "x.npy", mmap_mode="r")):
        dataset = clips(data)
        assert dataset.nbytes == double.nbytes
        assert dataset[1].x.dtype == dataset.to("cpu").tensor().dtype == torch.float32
        assert torch.equal(torch.cat(list(dataset.batches(range(N), 4))), as_tensor())


def test_half_precision_is_kept_and_comes_as_float32() -> None:
    half = clips(numbers().astype(np.float16))
    expected = torch.from_numpy(numbers().astype(np.float16)).float()
    for dataset in (half, half.to("cpu"), half.to("cpu").subset([0, 1, 2, 3, 4, 5])):
        assert dataset.nbytes == 2 * expected.numel()
        assert torch.equal(dataset.tensor(), expected)
        assert torch.equal(torch.cat(list(dataset.batches(range(N), 4))), expected)
        assert dataset[1].x.dtype == torch.float32
