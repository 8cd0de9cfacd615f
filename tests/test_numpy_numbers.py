"""Whole numbers of NumPy are taken for plain ones: results, files and what is kept in them are the same."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from skelcontrast.data import (
    SkeletonDataset,
    SkeletonLoader,
    SyntheticActions,
    choose_bodies,
    from_clips,
    open_prepared,
    prepare,
    read_ntu,
)
from skelcontrast.evaluation import (
    Features,
    Scores,
    bank_contents,
    bootstrap_interval,
    confusion_matrix,
    extract_features,
    k_means,
    knn_accuracy,
    linear_probe,
    logistic_probe,
    retrieval,
    search_weights,
    semi_supervised_indices,
    topk_accuracy,
    train_classifier,
    uniformity,
)
from skelcontrast.skeleton import COCO_17, adjacency
from skelcontrast.viz import plot_embedding, plot_skeleton
from tests.reference.ntu_files import make_ntu_folder

Whole = Callable[[int], Any]
"""Makes a whole number of a kind."""


def features() -> Features:
    return Features(torch.eye(4).repeat(5, 1) + 0.1, torch.arange(20) % 4)


def clips() -> SyntheticActions:
    return SyntheticActions(subjects=2, repetitions=1, frames=2)


def loaded(whole: Whole) -> list[Any]:
    loader = SkeletonLoader(clips(), whole(40), seed=whole(1), num_workers=whole(0), rank=whole(0), world_size=whole(2))
    return [[batch.rows.tolist(), batch.generator.initial_seed()] for batch in loader] + loader.order(whole(2)).tolist()


def trained(whole: Whole) -> Any:
    train, test = clips().split("cross-subject")
    layer = torch.nn.Linear(300, 16)
    small: Callable[[float], Any] = float if whole is int else np.float32
    return train_classifier(
        torch.nn.Flatten(), train, test, epochs=whole(2), lr=0.5, batch_size=whole(48), milestones=[whole(1)],
        gamma=small(0.5), momentum=small(0.5), weight_decay=small(0), eval_every=whole(2), seed=whole(0), layer=layer,
    ).log[0]  # fmt: skip


CASES: dict[str, Callable[[Whole], Any]] = {
    "from_clips": lambda n: from_clips([np.ones((2, 5, 17))], [0], layout=COCO_17, frames=n(7)).shape,
    "SyntheticActions": lambda n: SyntheticActions(subjects=n(1), repetitions=n(1), frames=n(2), seed=n(3)).shape,
    "SkeletonDataset": lambda n: SkeletonDataset(
        torch.zeros(1, 3, 2, 5, 1), [0], names=["a"], num_classes=n(3)
    ).num_classes,
    "SkeletonDataset.batches": lambda n: [len(part) for part in clips().batches(range(7), n(3))],
    "SkeletonLoader": loaded,
    "adjacency": lambda n: adjacency(COCO_17, max_hop=n(2)).shape,
    "bank_contents": lambda n: bank_contents(torch.arange(5), size=n(4), pointer=n(1)).tolist(),
    "bootstrap_interval": lambda n: bootstrap_interval(torch.arange(9), resamples=n(9), seed=n(1)),
    "confusion_matrix": lambda n: confusion_matrix(torch.arange(2), torch.arange(2), num_classes=n(3)).tolist(),
    "extract_features": lambda n: extract_features(
        torch.nn.Flatten(), torch.ones(4, 3, 1, 1, 1), labels=[n(0)] * 4, batch_size=n(3)
    ).features.tolist(),
    "k_means": lambda n: k_means(
        features().features, n(3), restarts=n(2), max_iterations=n(9), seed=n(1)
    ).clusters.tolist(),
    "knn_accuracy": lambda n: knn_accuracy(features(), features(), k=(n(1), n(3))),
    "linear_probe": lambda n: linear_probe(
        features(), features(), num_classes=n(5), epochs=n(3), batch_size=n(7), milestones=[n(2)], every=n(2),
        seed=n(1), select="test-best",
    ).logits.tolist(),
    "logistic_probe": lambda n: logistic_probe(
        features(), features(), num_classes=n(4), max_iterations=n(90), seed=n(1)
    ).logits.tolist(),
    "plot_embedding": lambda n: len(plot_embedding({"a": features()}, seed=n(1)).axes),
    "plot_skeleton": lambda n: len(plot_skeleton(torch.rand(2, 5, 17, 1), COCO_17, frames=n(3)).axes[0].texts),
    "retrieval": lambda n: retrieval(features(), features(), k=(n(1), n(2)), chunk_size=n(3)).recall,
    "search_weights": lambda n: search_weights(
        {name: Scores(*features(), [str(row) for row in range(20)]) for name in ("joint", "bone")}, steps=n(3)
    ),
    "semi_supervised_indices": lambda n: semi_supervised_indices(torch.arange(9) % 2, 0.5, seed=n(1)).tolist(),
    "topk_accuracy": lambda n: topk_accuracy(*features(), k=n(2)),
    "train_classifier": trained,
    "uniformity": lambda n: uniformity(features().features, chunk_size=n(3)),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_results_are_the_same_and_plain(case: Callable[[Whole], Any]) -> None:
    torch.manual_seed(0)
    plain = json.dumps(case(int))
    torch.manual_seed(0)
    assert json.dumps(case(np.int64)) == plain


def test_prepared_files_are_the_same(tmp_path: Path) -> None:
    (path, *_) = make_ntu_folder(tmp_path / "raw", count=3, frames=4, shortest=4)
    assert choose_bodies(read_ntu(path), count=np.int64(3)).shape[3] == 3  # type: ignore[arg-type]
    kinds: dict[str, Whole] = {"plain": int, "numpy": np.int64}
    reports = [
        prepare("ntu60", tmp_path / "raw", tmp_path / name, body_count=n(2), frames=n(6), workers=n(1), progress=False)
        for name, n in kinds.items()
    ]
    assert reports[0] == reports[1]
    first, second = (open_prepared(tmp_path / name, frames=n(5), progress=False) for name, n in kinds.items())
    assert torch.equal(first.tensor(), second.tensor())
