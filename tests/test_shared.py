import torch
from torch._subclasses import FakeTensorMode

from skelcontrast._shared import joint_index


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
