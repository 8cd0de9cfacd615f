"""What a representation is worth: features of a frozen encoder, nearest neighbours, the linear protocol.

Works on any `torch.nn.Module` that maps (N, C, T, V, M) to (N, D) and knows no pre-training method.
"""

from skelcontrast.evaluation._probe import LinearProbeResult
from skelcontrast.evaluation.bank import bank_contents, neighbor_precision, own_key_share
from skelcontrast.evaluation.clustering import KMeans, k_means, normalized_mutual_information
from skelcontrast.evaluation.features import Features, SkeletonSource, extract_features
from skelcontrast.evaluation.finetune import ClassifierResult, train_classifier
from skelcontrast.evaluation.fusion import STREAM_WEIGHTS, Scores, WeightSearch, fuse, search_weights
from skelcontrast.evaluation.health import (
    alignment,
    contrastive_health,
    dimension_spread,
    effective_rank,
    uniformity,
)
from skelcontrast.evaluation.knn import knn_accuracy, knn_predict
from skelcontrast.evaluation.linear import linear_probe
from skelcontrast.evaluation.logistic import logistic_probe
from skelcontrast.evaluation.metrics import (
    Interval,
    Summary,
    bootstrap_interval,
    confusion_matrix,
    per_class_accuracy,
    summarize,
    topk_accuracy,
)
from skelcontrast.evaluation.retrieval import Retrieval, retrieval
from skelcontrast.evaluation.splits import semi_supervised_indices
from skelcontrast.evaluation.terms import mean_terms

__all__ = [
    "STREAM_WEIGHTS",
    "ClassifierResult",
    "Features",
    "Interval",
    "KMeans",
    "LinearProbeResult",
    "Retrieval",
    "Scores",
    "SkeletonSource",
    "Summary",
    "WeightSearch",
    "alignment",
    "bank_contents",
    "bootstrap_interval",
    "confusion_matrix",
    "contrastive_health",
    "dimension_spread",
    "effective_rank",
    "extract_features",
    "fuse",
    "k_means",
    "knn_accuracy",
    "knn_predict",
    "linear_probe",
    "logistic_probe",
    "mean_terms",
    "neighbor_precision",
    "normalized_mutual_information",
    "own_key_share",
    "per_class_accuracy",
    "retrieval",
    "search_weights",
    "semi_supervised_indices",
    "summarize",
    "topk_accuracy",
    "train_classifier",
    "uniformity",
]
