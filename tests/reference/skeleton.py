"""Slow, plain oracles of graph partitions and streams, written from their definitions."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def hop_distance(num_joints: int, bones: tuple[tuple[int, int], ...]) -> NDArray[np.int64]:
    """Shortest paths by Floyd and Warshall."""
    hops = np.full((num_joints, num_joints), num_joints, dtype=np.int64)
    for joint in range(num_joints):
        hops[joint, joint] = 0
    for child, parent in bones:
        hops[child, parent] = hops[parent, child] = 1
    for via in range(num_joints):
        for start in range(num_joints):
            for end in range(num_joints):
                hops[start, end] = min(hops[start, end], hops[start, via] + hops[via, end])
    return hops


def adjacency(
    num_joints: int, bones: tuple[tuple[int, int], ...], centre: int, strategy: str, max_hop: int
) -> list[Array]:
    """Partition by partition, entry by entry. Distances above `max_hop` are infinite, as in the released graphs."""
    hops = hop_distance(num_joints, bones)
    far = [float(hops[joint, centre]) if hops[joint, centre] <= max_hop else np.inf for joint in range(num_joints)]
    number = {"uniform": 1, "distance": max_hop + 1, "spatial": 2 * max_hop + 1}[strategy]
    partitions = [np.zeros((num_joints, num_joints)) for _ in range(number)]
    for target in range(num_joints):
        neighbours = [joint for joint in range(num_joints) if hops[joint, target] <= max_hop]
        for source in neighbours:
            hop = int(hops[source, target])
            if strategy == "uniform":
                index = 0
            elif strategy == "distance":
                index = hop
            elif hop == 0:
                index = 0
            else:
                index = 2 * hop - 1 if far[source] >= far[target] else 2 * hop
            partitions[index][source, target] = 1 / len(neighbours)
    return partitions


def bone(x: Array, bones: tuple[tuple[int, int], ...]) -> Array:
    """Child minus parent of (N, C, T, V, M)."""
    y = np.zeros_like(x)
    for child, parent in bones:
        y[:, :, :, child] = x[:, :, :, child] - x[:, :, :, parent]
    return y


def motion(x: Array) -> Array:
    """Next frame minus this one of (N, C, T, V, M)."""
    y = np.zeros_like(x)
    for frame in range(x.shape[2] - 1):
        y[:, :, frame] = x[:, :, frame + 1] - x[:, :, frame]
    return y
