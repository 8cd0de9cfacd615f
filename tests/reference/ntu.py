"""The plain reader of NTU `.skeleton` files, line by line into dictionaries, and the plain way to follow bodies."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BODY_KEYS = (
    "bodyID", "clippedEdges", "handLeftConfidence", "handLeftState", "handRightConfidence", "handRightState",
    "isRestricted", "leanX", "leanY", "trackingState",
)  # fmt: skip
JOINT_KEYS = (
    "x", "y", "z", "depthX", "depthY", "colorX", "colorY",
    "orientationW", "orientationX", "orientationY", "orientationZ", "trackingState",
)  # fmt: skip


def read_skeleton(path: Path) -> list[list[dict[str, Any]]]:
    """Return, per frame, per body, its fields and under "joints" a list with the fields of each joint."""
    frames = []
    with path.open(encoding="ascii") as file:
        for _ in range(int(file.readline())):
            bodies = []
            for _ in range(int(file.readline())):
                fields = file.readline().split()
                body: dict[str, Any] = {key: float(value) for key, value in zip(BODY_KEYS, fields, strict=True)}
                body["bodyID"] = int(fields[0])
                body["joints"] = []
                for _ in range(int(file.readline())):
                    values = file.readline().split()
                    body["joints"].append({key: float(value) for key, value in zip(JOINT_KEYS, values, strict=True)})
                bodies.append(body)
            frames.append(bodies)
    return frames


def read_arrays(path: Path) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.int8]]:
    """Return positions (3, T, 25, M), body ids (T, M) and tracking states (T, 25, M), with the loops written out."""
    frames = read_skeleton(path)
    T, M = len(frames), max([len(bodies) for bodies in frames] + [1])
    positions = np.zeros((3, T, 25, M), dtype=np.float32)
    ids = np.full((T, M), -1, dtype=np.int64)
    tracking = np.zeros((T, 25, M), dtype=np.int8)
    for t, bodies in enumerate(frames):
        for m, body in enumerate(bodies):
            ids[t, m] = body["bodyID"]
            for v, joint in enumerate(body["joints"]):
                positions[:, t, v, m] = joint["x"], joint["y"], joint["z"]
                tracking[t, v, m] = joint["trackingState"]
    return positions, ids, tracking


def follow(positions: npt.NDArray[np.float32], ids: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.float32]:
    """Return (C, T, V, count): people followed by their ids, rule by rule over one body and one frame at a time."""
    C, T, V, M = positions.shape
    people: dict[int, dict[int, list[list[float]]]] = {}  # id -> frame -> joint -> coordinates
    for t in range(T):
        for m in range(M):
            who = int(ids[t, m])
            if who != -1 and t not in people.setdefault(who, {}):
                people[who][t] = [[float(positions[c, t, v, m]) for c in range(C)] for v in range(V)]

    def wide(joints: list[list[float]]) -> bool:
        x, y = [joint[0] for joint in joints], [joint[1] for joint in joints]
        return max(x) - min(x) > 0.8 * (max(y) - min(y))

    left = dict(people)
    lasting = {who: seen for who, seen in left.items() if len(seen) >= 12}
    left = lasting or left
    upright = {who: seen for who, seen in left.items() if sum(map(wide, seen.values())) <= 0.7 * len(seen)}
    left = upright or left

    def motion(seen: dict[int, list[list[float]]]) -> float:
        total = 0.0
        for v in range(V):
            for c in range(C):
                values = [joints[v][c] for joints in seen.values()]
                mean = sum(values) / len(values)
                total += sum((value - mean) ** 2 for value in values) / len(values)
        return total

    ranked = sorted(left.values(), key=motion, reverse=True)
    out = np.zeros((C, T, V, count), dtype=np.float32)
    free = [[True] * T for _ in range(count)]
    for seen in ranked:
        for place in range(count):
            if all(free[place][t] for t in seen):
                for t, joints in seen.items():
                    free[place][t] = False
                    out[:, t, :, place] = np.array(joints).T
                break
    return out
