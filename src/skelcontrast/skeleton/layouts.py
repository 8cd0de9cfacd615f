"""The built-in skeletons. Joints count from 0; bones are (child, parent) and lead to the centre."""

from skelcontrast.skeleton.layout import SkeletonLayout

__all__ = [
    "COCO_17",
    "H36M_17",
    "KINECT_V1_20",
    "MEDIAPIPE_33",
    "NTU_RGBD_25",
    "OPENPOSE_18",
    "UTD_MHAD_20",
]

NTU_RGBD_25 = SkeletonLayout(
    name="NTU_RGBD_25",
    joints=(
        "spine base", "spine middle", "neck", "head",
        "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand",
        "left hip", "left knee", "left ankle", "left foot",
        "right hip", "right knee", "right ankle", "right foot",
        "spine shoulder", "left hand tip", "left thumb", "right hand tip", "right thumb",
    ),
    bones=(
        (0, 1), (1, 20), (2, 20), (3, 2),
        (4, 20), (5, 4), (6, 5), (7, 6),
        (8, 20), (9, 8), (10, 9), (11, 10),
        (12, 0), (13, 12), (14, 13), (15, 14),
        (16, 0), (17, 16), (18, 17), (19, 18),
        (21, 22), (22, 7), (23, 24), (24, 11),
    ),
    centre=20,
    mirror=((4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19), (21, 23), (22, 24)),
)  # fmt: skip
"""Kinect v2 as in NTU RGB+D 60 and 120 and PKU-MMD: 25 joints, centre at the shoulders' spine joint.

The hand tips hang on the thumbs, as in the released AimCLR graph and bone stream.
"""

KINECT_V1_20 = SkeletonLayout(
    name="KINECT_V1_20",
    joints=(
        "hip centre", "spine", "shoulder centre", "head",
        "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand",
        "left hip", "left knee", "left ankle", "left foot",
        "right hip", "right knee", "right ankle", "right foot",
    ),
    bones=(
        (0, 1), (1, 2), (3, 2),
        (4, 2), (5, 4), (6, 5), (7, 6),
        (8, 2), (9, 8), (10, 9), (11, 10),
        (12, 0), (13, 12), (14, 13), (15, 14),
        (16, 0), (17, 16), (18, 17), (19, 18),
    ),
    centre=2,
    mirror=((4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19)),
)  # fmt: skip
"""Kinect v1 in the sensor's own order, as in NW-UCLA: 20 joints, centre at the shoulder centre."""

UTD_MHAD_20 = SkeletonLayout(
    name="UTD_MHAD_20",
    joints=(
        "head", "shoulder centre", "spine", "hip centre",
        "left shoulder", "left elbow", "left wrist", "left hand",
        "right shoulder", "right elbow", "right wrist", "right hand",
        "left hip", "left knee", "left ankle", "left foot",
        "right hip", "right knee", "right ankle", "right foot",
    ),
    bones=(
        (0, 1), (2, 1), (3, 2),
        (4, 1), (5, 4), (6, 5), (7, 6),
        (8, 1), (9, 8), (10, 9), (11, 10),
        (12, 3), (13, 12), (14, 13), (15, 14),
        (16, 3), (17, 16), (18, 17), (19, 18),
    ),
    centre=1,
    mirror=((4, 8), (5, 9), (6, 10), (7, 11), (12, 16), (13, 17), (14, 18), (15, 19)),
)  # fmt: skip
"""Kinect v1 in the order of the UTD-MHAD files: the tree of `KINECT_V1_20`, its trunk listed from the head down."""

OPENPOSE_18 = SkeletonLayout(
    name="OPENPOSE_18",
    joints=(
        "nose", "neck", "right shoulder", "right elbow", "right wrist", "left shoulder", "left elbow", "left wrist",
        "right hip", "right knee", "right ankle", "left hip", "left knee", "left ankle",
        "right eye", "left eye", "right ear", "left ear",
    ),
    bones=(
        (0, 1), (2, 1), (3, 2), (4, 3), (5, 1), (6, 5), (7, 6),
        (8, 2), (9, 8), (10, 9), (11, 5), (12, 11), (13, 12),
        (14, 0), (15, 0), (16, 14), (17, 15),
    ),
    centre=1,
    mirror=((5, 2), (6, 3), (7, 4), (11, 8), (12, 9), (13, 10), (15, 14), (17, 16)),
)  # fmt: skip
"""OpenPose's 18 joints, as in Kinetics-Skeleton; the hips hang on the shoulders, as in the ST-GCN graph."""

COCO_17 = SkeletonLayout(
    name="COCO_17",
    joints=(
        "nose", "left eye", "right eye", "left ear", "right ear",
        "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist",
        "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle",
    ),
    bones=(
        (1, 0), (2, 0), (3, 1), (4, 2),
        (5, 0), (6, 0), (7, 5), (8, 6), (9, 7), (10, 8),
        (11, 5), (12, 6), (13, 11), (14, 12), (15, 13), (16, 14),
    ),
    centre=0,
    mirror=((1, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16)),
)  # fmt: skip
"""COCO's 17 key points, usually 2-D. There is no neck: the shoulders hang on the nose, which is the centre."""

H36M_17 = SkeletonLayout(
    name="H36M_17",
    joints=(
        "pelvis", "right hip", "right knee", "right foot", "left hip", "left knee", "left foot",
        "spine", "thorax", "neck", "head",
        "left shoulder", "left elbow", "left wrist", "right shoulder", "right elbow", "right wrist",
    ),
    bones=(
        (1, 0), (2, 1), (3, 2), (4, 0), (5, 4), (6, 5),
        (7, 0), (8, 7), (9, 8), (10, 9),
        (11, 8), (12, 11), (13, 12), (14, 8), (15, 14), (16, 15),
    ),
    centre=0,
    mirror=((4, 1), (5, 2), (6, 3), (11, 14), (12, 15), (13, 16)),
)  # fmt: skip
"""Human3.6M's usual 17 joints, the pelvis first and the centre."""

MEDIAPIPE_33 = SkeletonLayout(
    name="MEDIAPIPE_33",
    joints=(
        "nose", "left eye inner", "left eye", "left eye outer", "right eye inner", "right eye", "right eye outer",
        "left ear", "right ear", "left mouth", "right mouth",
        "left shoulder", "right shoulder", "left elbow", "right elbow", "left wrist", "right wrist",
        "left pinky", "right pinky", "left index", "right index", "left thumb", "right thumb",
        "left hip", "right hip", "left knee", "right knee", "left ankle", "right ankle",
        "left heel", "right heel", "left foot index", "right foot index",
    ),
    bones=(
        (1, 0), (2, 1), (3, 2), (4, 0), (5, 4), (6, 5), (7, 3), (8, 6), (9, 0), (10, 0),
        (11, 0), (12, 0), (13, 11), (14, 12), (15, 13), (16, 14),
        (17, 15), (18, 16), (19, 15), (20, 16), (21, 15), (22, 16),
        (23, 11), (24, 12), (25, 23), (26, 24), (27, 25), (28, 26), (29, 27), (30, 28), (31, 29), (32, 30),
    ),
    centre=0,
    mirror=(
        (1, 4), (2, 5), (3, 6), (7, 8), (9, 10), (11, 12), (13, 14), (15, 16), (17, 18), (19, 20), (21, 22),
        (23, 24), (25, 26), (27, 28), (29, 30), (31, 32),
    ),
)  # fmt: skip
"""MediaPipe Pose's 33 landmarks. There is no neck: the shoulders hang on the nose, which is the centre."""
