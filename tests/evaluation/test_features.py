"""Feature extraction: what the encoder sees, the mode it is left in, and the messages of bad calls."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from skelcontrast.evaluation import (
    Features,
    SkeletonSource,
    extract_features,
    knn_accuracy,
    linear_probe,
    logistic_probe,
    retrieval,
)
from skelcontrast.moco import MoCo
from skelcontrast.skeleton import SkeletonLayout, to_stream

ARM = SkeletonLayout("arm", ("shoulder", "elbow", "wrist"), ((1, 0), (2, 1)), centre=0, mirror=())


class Recorder(nn.Module):
    """Flattens, and remembers batch sizes and modes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.norm = nn.BatchNorm1d(3 * 4 * 3 * 2)
        self.seen: list[tuple[int, bool, bool]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append((len(x), self.training, torch.is_grad_enabled()))
        features: Tensor = self.norm(x.flatten(1)) * self.scale
        return features


class Source:
    """A data set with nothing but what the protocol asks for."""

    def __init__(self, x: Tensor, labels: Tensor, layout: SkeletonLayout | None) -> None:
        self.x, self.labels, self.layout = x, labels, layout

    def __len__(self) -> int:
        return len(self.x)

    def take(self, indices: Tensor) -> Tensor:
        return self.x[indices]


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 3, 4, 3, 2)


def test_order_batches_and_last_partial_batch(x: Tensor) -> None:
    encoder = Recorder()
    features, labels = extract_features(encoder, x, labels=[4, 3, 2, 1, 0], batch_size=2)
    assert [size for size, _, _ in encoder.seen] == [2, 2, 1]
    torch.testing.assert_close(features, x.flatten(1) / (1 + 1e-5) ** 0.5)
    assert labels.tolist() == [4, 3, 2, 1, 0]
    assert labels.dtype == torch.int64


def test_progress_is_shown_where_it_is_asked_for(x: Tensor, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = extract_features(Recorder(), x, labels=range(len(x)), batch_size=2)
    assert capsys.readouterr() == ("", "")
    shown = extract_features(Recorder(), x, labels=range(len(x)), batch_size=2, progress=True)
    assert torch.equal(shown.features, quiet.features)
    out, err = capsys.readouterr()
    assert out == ""
    assert f"{len(x)}/{len(x)}" in err or f"{len(x)} of {len(x)}" in err  # without tqdm
    assert err.count("features: ") >= 1


def test_evaluation_mode_inside_and_every_flag_back_outside(x: Tensor) -> None:
    encoder = Recorder()
    encoder.norm.eval()  # frozen by its owner: must stay so
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    extract_features(encoder, x, labels=torch.arange(5))
    assert encoder.seen == [(5, False, False)]
    assert encoder.training
    assert not encoder.norm.training
    for name, value in encoder.state_dict().items():
        assert torch.equal(value, before[name])


def test_flags_come_back_after_an_error(x: Tensor) -> None:
    class Failing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ArithmeticError(x.shape)

    encoder = Failing()
    with pytest.raises(ArithmeticError):
        extract_features(encoder, x, labels=torch.arange(5))
    assert encoder.training


def test_features_can_be_trained_on(x: Tensor) -> None:
    features, _ = extract_features(Recorder(), x, labels=torch.arange(5))
    layer = nn.Linear(features.shape[1], 2)
    layer(features).sum().backward()
    assert layer.weight.grad is not None
    assert not features.requires_grad


def test_other_dtypes_end_as_float32(x: Tensor) -> None:
    class Double(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1).double()

    assert extract_features(Double(), x, labels=torch.arange(5)).features.dtype == torch.float32


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.bfloat16, 2e-2)])
def test_an_encoder_of_another_type_is_given_that_type(x: Tensor, dtype: torch.dtype, tolerance: float) -> None:
    linear = nn.Linear(72, 4)
    expected = x.flatten(1) @ linear.weight.detach().T + linear.bias.detach()
    found = extract_features(nn.Sequential(nn.Flatten(), linear).to(dtype), x, labels=torch.arange(5)).features
    torch.testing.assert_close(found, expected, rtol=0, atol=tolerance * float(expected.abs().max()))


@pytest.mark.parametrize("stream", ["joint", "bone", "motion"])
def test_streams_with_the_layout_given_or_known(x: Tensor, stream: Any) -> None:
    encoder = nn.Flatten()
    expected = to_stream(x, stream, ARM).flatten(1)
    given = extract_features(encoder, x, labels=torch.arange(5), stream=stream, layout=ARM)
    known = extract_features(encoder, Source(x, torch.arange(5), ARM), stream=stream)
    assert torch.equal(given.features, expected)
    assert torch.equal(known.features, expected)


def test_a_forward_may_be_the_objects_own(x: Tensor) -> None:  # as of what torch.compile returns
    labels = torch.zeros(len(x), dtype=torch.int64)
    expected = extract_features(nn.Flatten(), x, labels=labels).features
    wrapped = nn.Module()
    wrapped.forward = nn.Flatten().forward
    assert torch.equal(extract_features(wrapped, x, labels=labels).features, expected)


def test_labels_of_a_data_set_and_others_in_their_place(x: Tensor) -> None:
    source = Source(x, torch.tensor([1, 1, 0, 0, 2]), None)
    assert isinstance(source, SkeletonSource)
    assert extract_features(nn.Flatten(), source).labels.tolist() == [1, 1, 0, 0, 2]
    assert extract_features(nn.Flatten(), source, labels=[7, 7, 8, 8, 9]).labels.tolist() == [7, 7, 8, 8, 9]


def test_skeleton_dataset_is_a_source(x: Tensor) -> None:
    data = pytest.importorskip("skelcontrast.data")
    dataset = data.SkeletonDataset(x, [1, 1, 0, 0, 2], names=["a", "b", "c", "d", "e"], layout=ARM)
    features, labels = extract_features(nn.Flatten(), dataset, stream="bone", batch_size=2)
    assert torch.equal(features, to_stream(x, "bone", ARM).flatten(1))
    assert labels.tolist() == [1, 1, 0, 0, 2]
    part = extract_features(nn.Flatten(), dataset.subset([3, 1]))
    assert torch.equal(part.features, x[[3, 1]].flatten(1))


def test_device_is_the_encoders_and_may_be_named(x: Tensor) -> None:
    assert extract_features(Recorder(), x, labels=torch.arange(5), device="cpu").features.device.type == "cpu"
    assert extract_features(nn.Flatten(), x, labels=torch.arange(5), device="cpu").features.shape == (5, 72)
    with pytest.raises(
        ValueError, match=r"extract_features: `device` must be the device of `encoder` \(cpu\), got meta. Move"
    ):
        extract_features(Recorder(), x, labels=torch.arange(5), device="meta")


class Tuple(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("encoder", "options", "kind", "message"),
    [
        (nn.Flatten(), {"labels": None}, ValueError, "`labels` must be given when `data` is a tensor, got None."),
        (nn.Flatten(), {"labels": [1, 2]}, ValueError, "`labels` must have shape (5) to match `data`, got (2,)."),
        (nn.Flatten(), {"labels": torch.rand(5)}, TypeError, "`labels` must hold integers, got torch.float32."),
        (nn.Flatten(), {"batch_size": 0}, ValueError, "`batch_size` must be at least 1, got 0."),
        (nn.Flatten(), {"stream": "joints"}, ValueError, "`stream` must be one of 'joint', 'bone', 'motion'"),
        (
            nn.Flatten(),
            {"stream": "bone"},
            ValueError,
            "`layout` must be given for the bone stream, got None. `data` n",
        ),
        (nn.Identity(), {}, ValueError, "`encoder` must return features of shape (5, D), got (5, 3, 4, 3, 2)."),
        (Tuple(), {}, TypeError, "`encoder` must return one tensor (N, D), got tuple."),
        (MoCo(nn.Flatten(), nn.Linear(72, 2)), {}, TypeError, "`encoder` must be a module with a forward from"),
        (torch.flatten, {}, TypeError, "got builtin_function_or_method. Of AimCLR pass `model.encoder`, of MoCo"),
    ],
)
def test_bad_calls(x: Tensor, encoder: nn.Module, options: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message.replace("(5)", "(5,)"))):
        extract_features(encoder, x, **{"labels": torch.arange(5), **options})


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        ([1, 2], TypeError, "`data` must be a SkeletonDataset or a torch.Tensor, got list."),
        (torch.zeros(2, 3, 4, 3), ValueError, "`data` must have shape (N, C, T, V, M), got (2, 3, 4, 3)."),
        (torch.zeros(2, 3, 4, 3, 1).long(), TypeError, "`data` must be floating point, got torch.int64."),
        (torch.zeros(0, 3, 4, 3, 1), ValueError, "`data` must hold at least one sequence, got none."),
    ],
)
def test_bad_data(data: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(f"extract_features: {message}")):
        extract_features(nn.Flatten(), data, labels=[0, 1])


def moving(norm: nn.Module) -> nn.Module:
    """An encoder whose normalisation uses the statistics of the batch even in evaluation mode."""

    class Moving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            features: Tensor = self.norm.train()(x.flatten(1))
            return features

    return Moving()


def test_a_batch_norm_that_moves_is_an_error_and_put_back(x: Tensor) -> None:
    encoder = moving(nn.BatchNorm1d(72)).eval()
    message = (
        "extract_features: `encoder` must keep its buffers in evaluation mode, got a new norm.running_mean, "
        "norm.running_var, norm.num_batches_tracked. Does its normalisation work on the statistics of the batch?"
    )
    with pytest.raises(RuntimeError, match=re.escape(message)):
        extract_features(encoder, x, labels=torch.arange(5))
    buffers = dict(encoder.named_buffers())
    assert torch.equal(buffers["norm.running_mean"], torch.zeros(72))
    assert torch.equal(buffers["norm.running_var"], torch.ones(72))
    assert not any(module.training for module in encoder.modules())


def test_a_buffer_of_another_shape_has_moved(x: Tensor) -> None:
    class Growing(nn.Flatten):
        last: Tensor

        def forward(self, x: Tensor) -> Tensor:
            self.last = x
            return super().forward(x)

    encoder = Growing()
    encoder.register_buffer("last", torch.zeros(7))
    message = "`encoder` must keep its buffers in evaluation mode, got a new last."
    with pytest.raises(RuntimeError, match=re.escape(message)):
        extract_features(encoder, x, labels=torch.arange(5))


def test_a_batch_norm_without_statistics_is_an_error(x: Tensor) -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(72, track_running_stats=False))
    message = "`encoder` must have running statistics in its batch norm, got 1, which has none. Its features would"
    with pytest.raises(RuntimeError, match=re.escape(message)):
        extract_features(encoder, x, labels=torch.arange(5))
    assert encoder.training


def test_a_submodule_that_stays_in_training_mode_is_an_error(x: Tensor) -> None:
    class Stubborn(nn.Dropout):
        def train(self, mode: bool = True) -> "Stubborn":
            del mode
            self.training = True
            return self

    encoder = nn.Sequential(nn.Flatten(), Stubborn())
    message = "`encoder` must go into evaluation mode as a whole, got 1, which stays in training mode."
    with pytest.raises(RuntimeError, match=re.escape(message)):
        extract_features(encoder, x, labels=torch.arange(5))


def test_buffers_with_nan_stand_still_too(x: Tensor) -> None:
    encoder = nn.Flatten()
    encoder.register_buffer("limit", torch.tensor([torch.nan, 1.0]))
    assert extract_features(encoder, x, labels=torch.arange(5)).features.shape == (5, 72)


@pytest.mark.gpu
def test_on_a_gpu_the_features_come_back_to_the_host(x: Tensor) -> None:
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    encoder = Recorder().cuda()
    found = extract_features(encoder, x, labels=torch.arange(5), batch_size=2)
    assert isinstance(found, Features)
    assert found.features.device.type == "cpu"
    torch.testing.assert_close(found.features, extract_features(encoder.cpu(), x, labels=torch.arange(5)).features)


@pytest.mark.parametrize("protocol", [knn_accuracy, linear_probe, logistic_probe, retrieval])
def test_what_is_not_features_is_refused(protocol: Any) -> None:
    good, tensor = Features(torch.eye(2), torch.arange(2)), torch.rand(3, 2)
    first, second = ("gallery", "queries") if protocol is retrieval else ("train", "test")
    hint = "Put both together: Features(features, labels)."
    for name, sets, got in ((first, (tensor, tensor), "Tensor"), (second, (good, tuple(good)), "tuple")):
        message = f"{protocol.__name__}: `{name}` must be Features, got {got}. {hint}"
        with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
            protocol(*sets)
