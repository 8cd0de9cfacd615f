import weakref

import pytest
import torch
from torch._subclasses import FakeTensorMode

from skelcontrast import augment
from skelcontrast._shared import count, joint_index
from skelcontrast.augment import temporal
from skelcontrast.nn._spectral import spectral_basis


def test_joint_index_is_copied_once_and_usable_in_training() -> None:
    joints = (2, 0, 1, 97)  # that no other test asks for
    with torch.inference_mode():
        index = joint_index(joints, torch.device("cpu"))
    assert index.tolist() == [*joints]
    assert not index.is_inference()
    assert joint_index(joints, torch.device("cpu")) is index


def test_tensors_without_values_are_not_kept() -> None:
    joints, cpu = (1, 0, 2, 98), torch.device("cpu")
    with FakeTensorMode():
        assert type(joint_index(joints, cpu)) is not torch.Tensor
    real = joint_index(joints, cpu)
    assert real.tolist() == [*joints]
    with FakeTensorMode():
        assert type(joint_index(joints, cpu)) is not torch.Tensor
    assert joint_index(joints, cpu) is real


def test_of_what_grows_with_the_square_of_the_frames_little_is_kept() -> None:
    cpu, frames = torch.device("cpu"), range(40, 60)  # each a recording's own length
    made = [
        [spectral_basis(T, 9).analysis for T in frames],
        [temporal._crops(T, 6, cpu) for T in frames],
        [temporal._windows(T, 15, torch.float32, cpu)[1] for T in frames],
    ]
    for tensors in made:
        references = [weakref.ref(tensor) for tensor in tensors]
        tensors.clear()
        assert sum(reference() is not None for reference in references) <= 8


@pytest.mark.parametrize("recorded", [True, False])
def test_what_a_graph_was_recorded_with_is_kept(recorded: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, size = torch.device("cpu"), 10_007 + recorded
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: recorded)
    kept = weakref.ref(count(size, cpu))
    monkeypatch.undo()
    for other in range(300):
        count(other, cpu)
    assert (kept() is not None) == recorded


def test_what_a_graph_makes_is_for_it_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, size = torch.device("cpu"), 10_019
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    recorded = count(size, cpu).zero_()  # as it is before the graph is replayed
    monkeypatch.undo()
    shared = count(size, cpu)
    assert shared is not recorded
    assert torch.equal(shared, torch.arange(size))
    assert count(size, cpu) is shared


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_graph_reads_what_it_was_recorded_with_whatever_is_asked_for_later() -> None:
    crop, x = augment.TemporalCrop(), torch.arange(64.0, device="cuda").view(1, 1, 64, 1, 1)
    params = augment.TemporalCropParams(torch.tensor([3], device="cuda"))
    expected = crop.apply(x, params)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = crop.apply(x, params)
    for frames in range(100, 400):
        crop.apply(torch.zeros(1, 1, frames, 1, 1, device="cuda"), params)
    graph.replay()
    assert torch.equal(got, expected)
