"""Augmentations of coordinates and joints: shear, flip, rotation and axis mask."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from skelcontrast import _check
from skelcontrast._shared import count, joint_index, shared
from skelcontrast.augment.axes import AxisMaps
from skelcontrast.augment.base import AxisTransform, chosen, integers, map_dtype, uniform
from skelcontrast.skeleton.layout import SkeletonLayout, check_joints, check_layout


class ShearParams(NamedTuple):
    """Drawn by `Shear`: matrices (N, C, C), the identity for samples left alone."""

    matrix: Tensor


@dataclass(frozen=True)
class Shear(AxisTransform[ShearParams]):
    """Shear the coordinates: y = R x, R the identity plus independent off-diagonal entries U(-a, a).

    Works for any number of coordinates C; there are C(C - 1) off-diagonal entries, two for 2-D input.

    Args:
        amplitude: Bound a of the off-diagonal entries, at least 0. 0.5 as released.
        p: Probability that a sample is sheared.

    Raises:
        ValueError: If `amplitude` is negative or `p` outside [0, 1].

    References:
        AimCLR, section 3.2; Rao et al., Augmented Skeleton Based Contrastive Action Learning, 2021 (the matrix).

    Example:
        >>> x = torch.tensor([1.0, 2.0]).reshape(1, 2, 1, 1, 1)  # one point (1, 2)
        >>> params = ShearParams(matrix=torch.tensor([[[1.0, 0.5], [0.0, 1.0]]]))
        >>> Shear().apply(x, params).flatten()
        tensor([2., 2.])
    """

    params_type = ShearParams
    amplitude: float = 0.5
    p: float = 1.0

    def __post_init__(self) -> None:
        _check.interval("Shear", "amplitude", self.amplitude, 0)
        _check.interval("Shear", "p", self.p, 0, 1)

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> ShearParams:
        """Draw one matrix per sample."""
        N, C = self.check(x).shape[:2]
        free = _off_diagonal(C, torch.float32, x.device)
        if self.p < 1:
            free = free * chosen(x, self.p, generator)[:, None, None]
        entries = uniform(x, (N, C, C), -self.amplitude, self.amplitude, generator)
        return ShearParams(torch.addcmul(_identity(C, x.device), entries, free))

    def check_params(self, x: Tensor, params: ShearParams) -> None:
        """Check also that the matrices are for as many coordinates."""
        super().check_params(x, params)
        _check.shape("Shear", "params.matrix", params.matrix, "N C C", C=x.shape[1], why="to match `x`")

    def maps(self, x: Tensor, params: ShearParams) -> AxisMaps:
        """Return the matrices."""
        return AxisMaps(channel=params.matrix.to(map_dtype(x)))


@shared
def _identity(C: int, device: torch.device) -> Tensor:
    return torch.eye(C, dtype=torch.float32, device=device)


@shared
def _off_diagonal(C: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return zeros on the diagonal and ones beside it (C, C)."""
    return (1 - torch.eye(C, device=device)).to(dtype)


class SpatialFlipParams(NamedTuple):
    """Drawn by `SpatialFlip`: which samples are flipped (N,), bool."""

    flipped: Tensor


@dataclass(frozen=True)
class SpatialFlip(AxisTransform[SpatialFlipParams]):
    """Mirror the body: swap the layout's mirror pairs and negate the coordinate across the body.

    The reflection is through the origin, so centre the skeletons first. Works for any number of coordinates.

    Deviates from the paper's released code, which only swaps the joints: that leaves a body facing the same way with
    its limbs crossed over. `mirror_axis=None` does the same.

    Args:
        layout: The skeleton.
        p: Probability that a sample is flipped.
        mirror_axis: Coordinate to negate, 0 for x; `None` to swap joints only.

    Raises:
        TypeError: If `layout` is not a `SkeletonLayout`.
        ValueError: If `p` is outside [0, 1] or `mirror_axis` negative; in use, if `x` has not the joints of the
            layout or no coordinate `mirror_axis`.

    References:
        AimCLR, section 3.2.

    Example:
        >>> from skelcontrast.skeleton import SkeletonLayout
        >>> arms = SkeletonLayout(
        ...     "arms", ("neck", "left", "right"), bones=((1, 0), (2, 0)), centre=0, mirror=((1, 2),)
        ... )
        >>> x = torch.tensor([0.5, -1.0, 2.0]).reshape(1, 1, 1, 3, 1)  # x of neck, left and right arm
        >>> SpatialFlip(arms).apply(x, SpatialFlipParams(torch.tensor([True]))).flatten()
        tensor([-0.5000, -2.0000,  1.0000])
    """

    params_type = SpatialFlipParams
    layout: SkeletonLayout
    p: float = 0.5
    mirror_axis: int | None = 0

    def __post_init__(self) -> None:
        check_layout("SpatialFlip", self.layout)
        _check.interval("SpatialFlip", "p", self.p, 0, 1)
        if self.mirror_axis is not None:
            _check.integer("SpatialFlip", "mirror_axis", self.mirror_axis, 0)

    def check(self, x: object) -> Tensor:
        """Check also the number of joints and that there is a coordinate `mirror_axis`."""
        batch = check_joints("SpatialFlip", super().check(x), self.layout)
        if self.mirror_axis is not None and self.mirror_axis >= batch.shape[1]:
            must = f"have more than {self.mirror_axis} coordinates for `mirror_axis={self.mirror_axis}`"
            _check.fail("SpatialFlip", "x", must, _check.show(batch.shape))
        return batch

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> SpatialFlipParams:
        """Draw which samples are flipped."""
        return SpatialFlipParams(chosen(self.check(x), self.p, generator))

    def maps(self, x: Tensor, params: SpatialFlipParams) -> AxisMaps:
        """Return the joint that moves to each place, and the reflection."""
        C, V = x.shape[1], x.shape[3]
        flipped = params.flipped.unsqueeze(1)
        partner = joint_index(self.layout.flip_index, x.device)
        joint = torch.where(flipped, partner, count(V, x.device))
        if self.mirror_axis is None:
            return AxisMaps(joint=joint)
        reflected, kept = _reflection(C, self.mirror_axis, map_dtype(x), x.device)
        return AxisMaps(joint=joint, channel=torch.where(flipped, reflected, kept))


@shared
def _reflection(C: int, mirror_axis: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the diagonals (C,) of a reflection and of the identity."""
    kept = torch.ones(C, dtype=dtype, device=device)
    reflected = kept.clone()
    reflected[mirror_axis] = -1
    return reflected, kept


class RotateParams(NamedTuple):
    """Drawn by `Rotate`: angles in degrees, (N, 3) about x, y and z, or (N, 1) in the plane for 2-D input."""

    angle_degrees: Tensor


@dataclass(frozen=True)
class Rotate(AxisTransform[RotateParams]):
    """Turn the body about the origin, mostly about one axis, drawn for each sample.

    One of the three axes is the main axis, with an angle U(0, `max_degrees`); the other two turn by
    U(0, `max_minor_degrees`). The turns follow one another about x, then y, then z; a positive angle turns
    y towards -z, z towards -x, and x towards -y. For 2-D input there is one turn in the plane, by
    U(0, `max_degrees`), x towards -y for positive angles; other numbers of coordinates are an error.

    Args:
        max_degrees: Largest angle about the main axis, in [0, 180].
        max_minor_degrees: Largest angle about the other two, in [0, 180].
        signed: Draw angles from symmetric intervals instead, U(-max, max). The released intervals start at 0.
        p: Probability that a sample is turned.

    Raises:
        ValueError: If an angle or `p` is out of range; in use, if `x` has not two or three coordinates.

    References:
        AimCLR, section 3.2; the intervals [0, pi/6] and [0, pi/180] and the order of axes as released.

    Example:
        >>> x = torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1, 1)  # a point on the x axis
        >>> params = RotateParams(torch.tensor([[0.0, 0.0, 90.0]]))  # a quarter turn about z
        >>> Rotate().apply(x, params).flatten().round().abs()
        tensor([0., 1., 0.])
    """

    params_type = RotateParams
    max_degrees: float = 30.0
    max_minor_degrees: float = 1.0
    signed: bool = False
    p: float = 1.0

    def __post_init__(self) -> None:
        _check.interval("Rotate", "max_degrees", self.max_degrees, 0, 180)
        _check.interval("Rotate", "max_minor_degrees", self.max_minor_degrees, 0, 180)
        _check.interval("Rotate", "p", self.p, 0, 1)

    def check(self, x: object) -> Tensor:
        """Check also that there are two or three coordinates."""
        batch = super().check(x)
        if batch.shape[1] not in {2, 3}:
            _check.fail("Rotate", "x", "have 2 or 3 coordinates", _check.show(batch.shape))
        return batch

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> RotateParams:
        """Draw angles for each sample."""
        N, C = self.check(x).shape[:2]
        axes = 3 if C == 3 else 1
        share = uniform(x, (N, axes), -1.0 if self.signed else 0.0, 1.0, generator)
        main = integers(x, axes, generator)
        degrees = share * _largest(axes, self.max_degrees, self.max_minor_degrees, x.device).index_select(0, main)
        if self.p < 1:
            degrees = degrees * chosen(x, self.p, generator)[:, None]
        return RotateParams(degrees)

    def check_params(self, x: Tensor, params: RotateParams) -> None:
        """Check also that there are as many angles as axes to turn about."""
        super().check_params(x, params)
        axes = 3 if x.shape[1] == 3 else 1
        _check.shape("Rotate", "params.angle_degrees", params.angle_degrees, "N A", A=axes, why="to match `x`")

    def maps(self, x: Tensor, params: RotateParams) -> AxisMaps:
        """Return the rotation matrices."""
        degrees = params.angle_degrees.to(map_dtype(x))[:, :, None, None]
        along, beside, across, quarter = _axes(degrees.dtype, x.device)
        if x.shape[1] == 2:  # the turn about z, seen in its plane
            along, beside, across = (part[2:, :2, :2] for part in (along, beside, across))
        cosine, sine = torch.add(quarter, degrees, alpha=math.pi / 180).sin().split(1, dim=2)
        turns = torch.addcmul(torch.addcmul(along, cosine, beside), sine, across)
        if x.shape[1] == 2:
            return AxisMaps(channel=turns[:, 0])
        about_x, about_y, about_z = turns.unbind(1)
        return AxisMaps(channel=about_z @ about_y @ about_x)


@shared
def _axes(dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the parts of Rodrigues' formula for the axes x, y and z, (3, 3, 3) each, and angles (2, 1).

    A turn about an axis keeps what lies along it, shrinks what lies beside it by the cosine, and adds the cross product
    by the sine. The cosine is the sine a quarter turn on: with these angles added, one operation gives both.
    """
    basis = torch.eye(3, dtype=dtype, device=device)
    along = basis[:, :, None] * basis[:, None, :]
    across = torch.linalg.cross(basis[:, None].expand(3, 3, 3), basis[None].expand(3, 3, 3))
    return along, basis - along, across, torch.tensor([[math.pi / 2], [0]], dtype=dtype, device=device)


@shared
def _largest(axes: int, main: float, minor: float, device: torch.device) -> Tensor:
    """Return the largest angles about all axes, by the main one (axes, axes)."""
    return torch.full((axes, axes), minor, dtype=torch.float32, device=device).fill_diagonal_(main)


class AxisMaskParams(NamedTuple):
    """Drawn by `AxisMask`: which coordinates stay (N, C), bool."""

    keep: Tensor


@dataclass(frozen=True)
class AxisMask(AxisTransform[AxisMaskParams]):
    """Set one coordinate, drawn uniformly for each sample, to zero for the whole sequence.

    Works for any number of coordinates: 2-D input loses one of two, 1-D input everything.

    Args:
        p: Probability that a sample loses a coordinate.

    Raises:
        ValueError: If `p` is outside [0, 1].

    References:
        AimCLR, section 3.2.

    Example:
        >>> x = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1, 1)
        >>> AxisMask().apply(x, AxisMaskParams(torch.tensor([[True, False, True]]))).flatten()
        tensor([1., 0., 3.])
    """

    params_type = AxisMaskParams
    p: float = 0.5

    def __post_init__(self) -> None:
        _check.interval("AxisMask", "p", self.p, 0, 1)

    def sample(self, x: Tensor, generator: torch.Generator | None = None) -> AxisMaskParams:
        """Draw the coordinate for each sample."""
        C = self.check(x).shape[1]
        others = _off_diagonal(C, torch.bool, x.device).index_select(0, integers(x, C, generator))
        return AxisMaskParams(others | chosen(x, 1 - self.p, generator)[:, None])

    def check_params(self, x: Tensor, params: AxisMaskParams) -> None:
        """Check also that they are for as many coordinates."""
        super().check_params(x, params)
        _check.shape("AxisMask", "params.keep", params.keep, "N C", C=x.shape[1], why="to match `x`")

    def maps(self, x: Tensor, params: AxisMaskParams) -> AxisMaps:
        """Return ones and zeros, the diagonals of the maps."""
        return AxisMaps(channel=params.keep.to(map_dtype(x)))
