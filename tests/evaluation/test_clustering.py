"""k-means and mutual information against scikit-learn, and the messages of bad calls."""

import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from skelcontrast.evaluation import clustering, k_means, normalized_mutual_information


def clouds(rows: int, width: int, classes: int, *, spread: float) -> tuple[Tensor, Tensor]:
    labels = torch.arange(rows) % classes
    return torch.randn(classes, width)[labels] * 3 + spread * torch.randn(rows, width), labels


@settings(max_examples=40, deadline=None)
@given(data=st.lists(st.tuples(st.integers(-2, 3), st.integers(0, 4)), min_size=1, max_size=40))
def test_mutual_information_agrees_with_scikit_learn(data: list[tuple[int, int]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    clusters, labels = (torch.tensor(part) for part in zip(*data, strict=True))
    expected = metrics.normalized_mutual_info_score(labels.numpy(), clusters.numpy())
    assert normalized_mutual_information(clusters, labels) == pytest.approx(expected, abs=1e-9)


def test_names_of_clusters_do_not_matter() -> None:
    clusters, labels = torch.randint(4, (60,)), torch.randint(3, (60,))
    assert normalized_mutual_information(clusters * 1000 - 7, labels) == normalized_mutual_information(clusters, labels)
    assert normalized_mutual_information(labels, labels + 5) == pytest.approx(1.0)


def test_as_good_as_scikit_learn() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    x, _ = clouds(300, 5, 6, spread=2.0)
    expected = cluster.KMeans(6, n_init=10, random_state=0).fit(x.numpy())
    assert k_means(x, 6).inertia <= 1.01 * expected.inertia_


def test_from_the_same_centres_scikit_learn_does_not_move() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    x, _ = clouds(200, 4, 5, spread=2.0)
    found = k_means(x, 5, restarts=1)
    again = cluster.KMeans(5, init=found.centres.numpy(), n_init=1).fit(x.numpy())
    assert again.labels_.tolist() == found.clusters.tolist()
    assert found.inertia == pytest.approx(again.inertia_, rel=1e-5)


def test_progress_is_shown_where_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    x, _ = clouds(30, 4, 3, spread=1.0)
    quiet = k_means(x, 3, restarts=2)
    assert capsys.readouterr() == ("", "")
    assert torch.equal(k_means(x, 3, restarts=2, progress=True).clusters, quiet.clusters)
    out, err = capsys.readouterr()
    assert out == ""
    assert "60/60" in err or "60 of 60" in err  # without tqdm


def test_clear_clouds_are_found_wherever_they_lie() -> None:
    x, labels = clouds(90, 8, 5, spread=0.1)
    found = k_means(x + 1000, 5)
    assert normalized_mutual_information(found.clusters, labels) == pytest.approx(1.0)
    middles = torch.stack([x[labels == label].mean(dim=0) for label in range(5)]) + 1000
    torch.testing.assert_close(found.centres[found.clusters], middles[labels])


def test_a_single_start_finds_far_clouds_from_any_seed() -> None:
    """Its centres are drawn by their squared distance, so that two in one cloud are a matter of 1 in 100000."""
    x, labels = clouds(40, 8, 4, spread=0.01)
    for seed in range(20):
        found = k_means(x, 4, restarts=1, seed=seed)
        assert normalized_mutual_information(found.clusters, labels) == pytest.approx(1.0)


def test_every_centre_is_the_mean_of_its_features() -> None:
    x, _ = clouds(100, 3, 4, spread=3.0)
    found = k_means(x.double(), 7)
    assert found.clusters.unique().tolist() == list(range(7))
    for cluster in range(7):
        torch.testing.assert_close(found.centres[cluster], x.double()[found.clusters == cluster].mean(dim=0))


def test_half_precision_features_are_clustered_in_float32() -> None:
    x = clouds(100, 3, 4, spread=3.0)[0].bfloat16()
    found, expected = k_means(x, 4), k_means(x.float(), 4)
    assert torch.equal(found.centres, expected.centres)
    assert found.inertia == expected.inertia


def test_autocast_does_not_reach_the_distances() -> None:
    x = torch.rand(4000, 2)
    expected = k_means(x, 12, restarts=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(k_means(x, 12, restarts=1).centres, expected.centres)


def test_an_empty_cluster_goes_to_the_feature_that_lies_worst(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([[0.0], [1.0], [9.0], [10.0]])
    start = torch.tensor([[0.0], [1.0], [1000.0]]) - x.mean()
    monkeypatch.setattr(clustering, "_spread", lambda *_: start)
    # The first move leaves the centres at 0 and 20/3, from which 1 lies farther than 9 and 10.
    assert k_means(x, 3, restarts=1, max_iterations=2).clusters.tolist() == [0, 2, 1, 1]


def test_few_features_and_equal_ones() -> None:
    x = torch.randn(5, 2)
    assert k_means(x, 5).inertia == pytest.approx(0.0, abs=1e-10)
    assert k_means(x, 1).clusters.tolist() == [0] * 5
    assert k_means(torch.ones(6, 2), 3).inertia == 0.0


def test_seed_decides_and_the_global_generator_stays() -> None:
    x = torch.rand(200, 2)
    before = torch.get_rng_state()
    first, again, other = (k_means(x, 8, restarts=1, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.centres, again.centres)
    assert not torch.equal(first.centres, other.centres)
    assert torch.equal(torch.get_rng_state(), before)


def test_iterations_can_be_cut_short() -> None:
    x = torch.rand(200, 2)
    short, long = (k_means(x, 12, restarts=1, max_iterations=n) for n in (1, 100))
    assert short.inertia > long.inertia


def test_more_starts_are_never_worse() -> None:
    x = torch.rand(200, 2)
    assert k_means(x, 12, restarts=6).inertia <= k_means(x, 12, restarts=1).inertia


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (
            lambda: k_means(torch.rand(3, 2), 4),
            ValueError,
            "k_means: `num_clusters` must lie in [1, 3], got 4. There are no more features than that.",
        ),
        (lambda: k_means(torch.rand(3), 1), ValueError, "k_means: `features` must have shape (N, D), got (3,)."),
        (
            lambda: k_means(torch.full((3, 1), torch.nan), 1),
            ValueError,
            "k_means: `features` must be finite, got NaN or infinity in 3 of 3 rows.",
        ),
        (lambda: k_means(torch.rand(3, 2), 1, restarts=0), ValueError, "`restarts` must be at least 1, got 0."),
        (lambda: k_means(torch.rand(3, 2), 1, seed=-1), ValueError, "`seed` must be at least 0, got -1."),
        (
            lambda: k_means(torch.rand(3, 2), 1, max_iterations=0),
            ValueError,
            "`max_iterations` must be at least 1, got 0.",
        ),
        (
            lambda: normalized_mutual_information(torch.arange(3), torch.arange(2)),
            ValueError,
            "normalized_mutual_information: `labels` must have shape (3,) to match `clusters`, got (2,).",
        ),
        (
            lambda: normalized_mutual_information(torch.rand(3), torch.arange(3)),
            TypeError,
            "normalized_mutual_information: `clusters` must hold integers, got torch.float32.",
        ),
        (
            lambda: normalized_mutual_information(torch.arange(0), torch.arange(0)),
            ValueError,
            "normalized_mutual_information: `clusters` must hold at least one sample, got none.",
        ),
    ],
)
def test_bad_calls(call: Any, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=re.escape(message)):
        call()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_where_torch_is_told_to_be_deterministic_it_starts_as_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    features, _ = clouds(60, 3, 4, spread=0.3)
    torch.use_deterministic_algorithms(True)
    try:
        found = k_means(features.cuda(), 4)
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(found.clusters.cpu(), k_means(features, 4).clusters)
