"""What the caller has switched on around a call, a default device, a default dtype or autocast, changes no result."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from skelcontrast import data, evaluation
from skelcontrast.skeleton import COCO_17


def draw(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float32, device="cpu")


TRAIN = evaluation.Features(draw(200, 8, seed=1), torch.arange(200) % 4)
TEST = evaluation.Features(draw(80, 8, seed=2), torch.arange(80) % 4)
SCORES = evaluation.Scores(TEST.features, TEST.labels, [str(row) for row in range(80)])
CLIPS = data.SkeletonDataset(
    draw(8, 2, 6, 17, 1), [0, 1] * 4, names=list("abcdefgh"), subjects=[1, 2] * 4, layout=COCO_17
)


@contextmanager
def default_device() -> Iterator[None]:
    # Tensors there have no values: what is made on it by mistake meets a tensor of the CPU or is asked for numbers.
    with torch.device("meta"):
        yield


@contextmanager
def default_dtype() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def autocast() -> Iterator[None]:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        yield


def nearest() -> Tensor:
    return evaluation.knn_predict(TRAIN.features[:, :2], TRAIN.labels, TEST.features[:, :2])


def linear() -> Tensor:
    return evaluation.linear_probe(TRAIN, TEST, epochs=3).logits


def linear_of_several() -> Tensor:
    return evaluation.linear_probe(TRAIN, TEST, epochs=3, lr=(0.1, 1.0), select="validation", standardize=True).logits


def logistic() -> Tensor:
    return evaluation.logistic_probe(TRAIN, TEST, l2=(0.1, 0.01)).logits


def clusters() -> Tensor:
    return evaluation.k_means(TRAIN.features, 4, restarts=2).centres


def ranking() -> Tensor:
    return draw(1) * 0 + evaluation.retrieval(TRAIN, TEST).mean_average_precision


def uniform() -> Tensor:
    return draw(1) * 0 + evaluation.uniformity(TRAIN.features)


def interval() -> Tensor:
    return draw(1) * 0 + evaluation.bootstrap_interval(TRAIN.features[:, 0], resamples=50).low


def fused() -> Tensor:
    return evaluation.fuse({"joint": SCORES, "bone": SCORES}).logits


def labelled() -> Tensor:
    return evaluation.semi_supervised_indices([0, 1, 1, 0], 0.5)


def batches() -> Tensor:
    return torch.cat([batch.x for batch in data.SkeletonLoader(CLIPS, 2, seed=3)])


def batches_of_a_worker() -> Tensor:
    return torch.cat([batch.x for batch in data.SkeletonLoader(CLIPS, 2, shuffle=False, num_workers=1)])


def split() -> Tensor:
    train, test = CLIPS.cross_subject([1])
    return torch.cat([train.tensor(), test.to("cpu").tensor()])


def own() -> Tensor:
    return data.from_clips([np.ones((2, 5, 17)), draw(2, 7, 17, 2)], [0, 1], layout=COCO_17, frames=6).tensor()


CALLS = [nearest, linear, linear_of_several, logistic, clusters, ranking, uniform, interval, fused, labelled]
CALLS += [batches, batches_of_a_worker, split, own]


@pytest.mark.parametrize("surroundings", [default_device, default_dtype, autocast])
@pytest.mark.parametrize("call", CALLS)
def test_surroundings_change_nothing(
    call: Callable[[], Tensor], surroundings: Callable[[], AbstractContextManager[None]]
) -> None:
    expected = call()
    with surroundings():
        found = call()
    assert found.device == expected.device
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


@pytest.mark.parametrize("surroundings", [default_device, default_dtype])  # autocast is the encoder's own affair
def test_features_and_their_cache(tmp_path: Path, surroundings: Callable[[], AbstractContextManager[None]]) -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(204, 4))
    expected = evaluation.extract_features(encoder, CLIPS)
    with surroundings():
        for _ in range(2):  # made, then read
            found = evaluation.extract_features(encoder, CLIPS, labels=[0, 1] * 4, cache=tmp_path)
            assert torch.equal(found.features, expected.features)
            assert torch.equal(found.labels, expected.labels)
    assert len(list(tmp_path.iterdir())) == 1
