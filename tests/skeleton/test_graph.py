from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import pytest
import torch
from tests.reference import skeleton as oracle

from skelcontrast.skeleton import KINECT_V1_20, NTU_RGBD_25, OPENPOSE_18, SkeletonLayout, Strategy, adjacency, layouts

RELEASED_NAMES = {"ntu-rgb+d": NTU_RGBD_25, "nw-ucla": KINECT_V1_20, "openpose": OPENPOSE_18}
STRATEGIES: list[Strategy] = ["uniform", "distance", "spatial"]


@pytest.mark.parametrize("layout", [getattr(layouts, name) for name in layouts.__all__], ids=lambda layout: layout.name)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("max_hop", [1, 2, 3])
def test_equals_oracle(layout: SkeletonLayout, strategy: Strategy, max_hop: int) -> None:
    graph = adjacency(layout, strategy=strategy, max_hop=max_hop)
    expected = np.stack(oracle.adjacency(layout.num_joints, layout.bones, layout.centre, strategy, max_hop))
    assert graph.dtype == torch.float32
    np.testing.assert_array_equal(graph.numpy(), expected.astype(np.float32))


def test_equals_released_graphs(golden: Callable[[str], Mapping[str, Any]]) -> None:
    graphs = golden("graphs.npz")
    for key, expected in graphs.items():
        name, strategy, max_hop = key.split("|")
        graph = adjacency(RELEASED_NAMES[name], strategy=cast("Strategy", strategy), max_hop=int(max_hop))
        np.testing.assert_array_equal(graph.numpy(), expected.astype(np.float32), err_msg=key)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_columns_sum_to_one_and_partitions_do_not_overlap(strategy: Strategy) -> None:
    graph = adjacency(NTU_RGBD_25, strategy=strategy, max_hop=2)
    torch.testing.assert_close(graph.sum(dim=(0, 1)), torch.ones(25))
    assert (graph > 0).sum(dim=0).max() == 1


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ({"strategy": "spacial"}, ValueError, r"adjacency: `strategy` must be one of 'uniform', 'distance', 'spatial'"),
        ({"max_hop": 0}, ValueError, r"adjacency: `max_hop` must be at least 1, got 0\."),
        ({"max_hop": 1.0}, TypeError, r"adjacency: `max_hop` must be an integer, got 1\.0\."),
        (
            {"layout": "ntu"},
            TypeError,
            r"adjacency: `layout` must be a SkeletonLayout, got 'ntu'\. Built-in layouts are",
        ),
    ],
)
def test_errors(arguments: dict[str, Any], kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text):
        adjacency(**{"layout": NTU_RGBD_25, **arguments})
