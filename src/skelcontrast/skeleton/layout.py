"""What a skeleton is: which joints it has, which bones tie them, where its centre is, and what mirrors what."""

from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

from skelcontrast import _check

if TYPE_CHECKING:
    from torch import Tensor

OWNER = "SkeletonLayout"


@dataclass(frozen=True)
class SkeletonLayout:
    """The joints of a skeleton and how they hang together; checked when it is made.

    A layout is plain data: everything else in the library that depends on the skeleton (graph partitions, the bone
    stream, the spatial flip, the size of the encoder's input) is derived from it, so a new skeleton is one literal.
    The bones form a tree: every joint but one, the root, is the child of exactly one bone.

    Args:
        name: Name of the layout, used in error messages.
        joints: Names of the V joints, in the order of the data.
        bones: Bones as (child, parent), joints counted from 0. V - 1 of them.
        centre: Joint near the middle of the body. Spatial graph partitions compare distances to it.
        mirror: Pairs of joints (left, right) that swap when the body is mirrored. Joints in no pair stay.

    Raises:
        TypeError: If the centre or an entry of a bone or a mirror pair is not an integer, or a name not a string.
        ValueError: If joint names repeat, a bone or pair refers to a missing joint or is named twice, a joint has two
            parents, a joint is tied to itself or to nothing, the bones form a ring, or the centre is out of range.

    Example:
        >>> arm = SkeletonLayout(
        ...     "arm", joints=("shoulder", "elbow", "wrist"), bones=((1, 0), (2, 1)), centre=0, mirror=()
        ... )
        >>> arm.num_joints, arm.root, arm.parents
        (3, 0, (0, 0, 1))
        >>> arm.hop_distance()
        tensor([[0, 1, 2],
                [1, 0, 1],
                [2, 1, 0]])
    """

    name: str
    joints: tuple[str, ...]
    bones: tuple[tuple[int, int], ...]
    centre: int
    mirror: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        # Lists are accepted for convenience; tuples keep the layout hashable.
        if not isinstance(self.joints, tuple | list) or not all(isinstance(joint, str) for joint in self.joints):
            _check.fail(OWNER, "joints", "be a tuple of names", repr(self.joints), kind=TypeError)
        object.__setattr__(self, "joints", tuple(self.joints))
        object.__setattr__(self, "bones", _pairs("bones", self.bones))
        object.__setattr__(self, "mirror", _pairs("mirror", self.mirror))
        self._check_joints()
        self._check_bones()
        self._check_tree()
        self._check_mirror()

    def _check_joints(self) -> None:
        if not self.joints:
            _check.fail(OWNER, "joints", "name at least one joint", "()")
        repeated = _check.first_repeated(self.joints)
        if repeated is not None:
            _check.fail(OWNER, "joints", "have distinct names", f"'{repeated}' twice")
        # A plain one, like the joints of bones: one of NumPy's could not be written to a prepared folder's report.
        object.__setattr__(self, "centre", _check.integer(OWNER, "centre", self.centre, 0, self.num_joints - 1))

    def _check_bones(self) -> None:
        for child, parent in self.bones:
            for joint in (child, parent):
                self._check_exists("bones", joint, (child, parent))
            if child == parent:
                _check.fail(OWNER, "bones", "tie two different joints", f"{(child, parent)}, {self._say(child)} twice")
        bone = _check.first_repeated((min(bone), max(bone)) for bone in self.bones)
        if bone is not None:
            _check.fail(OWNER, "bones", "name each bone once, in one direction", f"{bone} twice")
        child_twice = _check.first_repeated(child for child, _ in self.bones)
        if child_twice is not None:
            parents = " and ".join(self._say(parent) for child, parent in self.bones if child == child_twice)
            _check.fail(
                OWNER, "bones", "give each joint one parent", f"{self._say(child_twice)} with parents {parents}"
            )

    def _check_tree(self) -> None:
        reached = self._hops_from(self.centre)
        for joint in range(self.num_joints):
            if joint not in reached:
                hint = f"Add a bone with {self._say(joint)}, or leave the joint out."
                got = f"no way from {self._say(joint)} to {self._say(self.centre)}"
                _check.fail(OWNER, "bones", "tie every joint to the rest", got, hint=hint)
        # Connected, one parent each: V bones instead of V - 1 can only mean a ring without a root.
        if len(self.bones) == self.num_joints:
            _check.fail(OWNER, "bones", "leave one joint without a parent, the root", "a ring of bones")

    def _check_mirror(self) -> None:
        for left, right in self.mirror:
            for joint in (left, right):
                self._check_exists("mirror", joint, (left, right))
            if left == right:
                hint = "Joints in no pair stay where they are."
                _check.fail(OWNER, "mirror", "pair two different joints", (left, right), hint=hint)
        joint_twice = _check.first_repeated(joint for pair in self.mirror for joint in pair)
        if joint_twice is not None:
            _check.fail(OWNER, "mirror", "name each joint in at most one pair", f"{self._say(joint_twice)} twice")

    def _check_exists(self, argument: str, joint: int, pair: tuple[int, int]) -> None:
        if not 0 <= joint < self.num_joints:
            must = f"name joints 0 to {self.num_joints - 1}"
            _check.fail(OWNER, argument, must, pair, hint="Joints count from 0." if joint == self.num_joints else "")

    def _say(self, joint: int) -> str:
        return f"joint {joint} '{self.joints[joint]}'"

    def __repr__(self) -> str:
        return f"SkeletonLayout(name={self.name!r}, num_joints={self.num_joints}, num_bones={len(self.bones)})"

    @property
    def num_joints(self) -> int:
        """Number of joints V."""
        return len(self.joints)

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """The bones without direction, the smaller joint first, sorted."""
        return tuple(sorted((min(bone), max(bone)) for bone in self.bones))

    @property
    def parents(self) -> tuple[int, ...]:
        """Parent of each joint; the root is its own parent."""
        parent_of = dict(self.bones)
        # From lists, here and below, because not every version of torch.compile follows a generator.
        return (*[parent_of.get(joint, joint) for joint in range(self.num_joints)],)

    @property
    def root(self) -> int:
        """The one joint without a parent."""
        return next(joint for joint, parent in enumerate(self.parents) if joint == parent)

    @property
    def flip_index(self) -> tuple[int, ...]:
        """For each joint, the one that takes its place in the mirrored body. Applied twice it is the identity."""
        partner = {**dict(self.mirror), **{right: left for left, right in self.mirror}}
        return (*[partner.get(joint, joint) for joint in range(self.num_joints)],)

    def hop_distance(self) -> "Tensor":
        """Return the number of bones between any two joints, (V, V) int64."""
        import torch

        distance = torch.zeros(self.num_joints, self.num_joints, dtype=torch.int64)
        for start in range(self.num_joints):
            for end, hops in self._hops_from(start).items():
                distance[start, end] = hops
        return distance

    def _hops_from(self, start: int) -> dict[int, int]:
        neighbours: dict[int, list[int]] = {joint: [] for joint in range(self.num_joints)}
        for child, parent in self.bones:
            neighbours[child].append(parent)
            neighbours[parent].append(child)
        hops = {start: 0}
        frontier = [start]
        for joint in frontier:  # grows while it is walked: a breadth-first search
            for neighbour in neighbours[joint]:
                if neighbour not in hops:
                    hops[neighbour] = hops[joint] + 1
                    frontier.append(neighbour)
        return hops


def check_layout(owner: str, layout: object) -> SkeletonLayout:
    """Return `layout` if it is a `SkeletonLayout`."""
    if not isinstance(layout, SkeletonLayout):
        hint = "Built-in layouts are in skelcontrast.skeleton."
        _check.fail(owner, "layout", "be a SkeletonLayout", repr(layout), hint=hint, kind=TypeError)
    return layout


def check_joints(owner: str, x: object, layout: SkeletonLayout) -> "Tensor":
    """Return `x` if it is a batch of skeletons (N, C, T, V, M) with the joints of `layout`."""
    batch = _check.tensor(owner, "x", x)
    hint = ""
    if batch.dim() == 5 and batch.shape[3] != layout.num_joints:
        hint = f"Layout '{layout.name}' has {layout.num_joints} joints, `x` has {batch.shape[3]}."
    return _check.skeletons(owner, "x", batch, hint=hint, V=layout.num_joints)


def _pairs(argument: str, pairs: object) -> tuple[tuple[int, int], ...]:
    must = "be pairs of joints"
    if not isinstance(pairs, tuple | list):
        _check.fail(OWNER, argument, must, repr(pairs), kind=TypeError)
    checked: list[tuple[int, int]] = []
    for pair in pairs:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            _check.fail(OWNER, argument, must, repr(pair), kind=TypeError)
        for joint in pair:
            if isinstance(joint, bool) or not isinstance(joint, Integral):
                _check.fail(OWNER, argument, must, repr(pair), kind=TypeError)
        checked.append((int(pair[0]), int(pair[1])))
    return tuple(checked)
