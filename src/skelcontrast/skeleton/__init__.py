"""What a skeleton is: layouts, graph partitions and the three streams."""

from typing import TYPE_CHECKING

from skelcontrast._lazy import on_demand
from skelcontrast.skeleton.layout import SkeletonLayout
from skelcontrast.skeleton.layouts import (
    COCO_17,
    H36M_17,
    KINECT_V1_20,
    MEDIAPIPE_33,
    NTU_RGBD_25,
    OPENPOSE_18,
    UTD_MHAD_20,
)

if TYPE_CHECKING:
    from skelcontrast.skeleton.graph import Strategy, adjacency
    from skelcontrast.skeleton.streams import Stream, to_stream
else:  # with PyTorch
    __getattr__ = on_demand(__name__, {"graph": ("Strategy", "adjacency"), "streams": ("Stream", "to_stream")})

__all__ = [
    "COCO_17",
    "H36M_17",
    "KINECT_V1_20",
    "MEDIAPIPE_33",
    "NTU_RGBD_25",
    "OPENPOSE_18",
    "UTD_MHAD_20",
    "SkeletonLayout",
    "Strategy",
    "Stream",
    "adjacency",
    "to_stream",
]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
