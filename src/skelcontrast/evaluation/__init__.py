"""What a representation is worth: features of a frozen encoder, nearest neighbours, the linear protocol.

Works on any `torch.nn.Module` that maps (N, C, T, V, M) to (N, D) and knows no pre-training method.
"""

from skelcontrast.evaluation.features import Features, SkeletonSource, extract_features
from skelcontrast.evaluation.knn import knn_accuracy, knn_predict
from skelcontrast.evaluation.linear import LinearProbeResult, linear_probe

__all__ = [
    "Features",
    "LinearProbeResult",
    "SkeletonSource",
    "extract_features",
    "knn_accuracy",
    "knn_predict",
    "linear_probe",
]
