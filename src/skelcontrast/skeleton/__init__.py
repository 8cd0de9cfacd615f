"""What a skeleton is: layouts, graph partitions and the three streams."""

from skelcontrast.skeleton.graph import Strategy, adjacency
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
from skelcontrast.skeleton.streams import Stream, to_stream

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
