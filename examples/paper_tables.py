"""What the tables and figures of the AimCLR paper are made of, as data: runs, budgets, and the paper's numbers.

`reproduce.py` makes them. Numbers are accuracies in per cent, from Guo et al., "Contrastive Learning from Extremely
Augmented Skeleton Sequences for Self-Supervised Action Recognition", AAAI 2022.
"""

from typing import NamedTuple

STREAMS = ("joint", "motion", "bone")

VARIANTS: dict[str, tuple[str, tuple[str, ...]]] = {
    "skeletonclr": ("aimclr_ntu", ("--method", "skeletonclr")),
    "extreme-views": ("aimclr_ntu", ("--method", "skeletonclr", "--views", "extreme")),
    "aimclr-no-drop": ("aimclr_ntu", ("--method", "aimclr", "--no-drop", "--mine-from", "{never}")),
    "aimclr-no-mining": ("aimclr_ntu", ("--method", "aimclr", "--mine-from", "{never}")),
    "aimclr": ("aimclr_ntu", ("--method", "aimclr", "--mine-from", "{half}")),
    "crossclr": ("crossclr_ntu", ("--method", "skeletonclr", "--mine-from", "{half}")),
    "aimclr-cross": ("crossclr_ntu", ("--method", "aimclr", "--mine-from", "{half}")),
}
"""By name, the script and the arguments of a pre-training; {half} is half of the epochs, {never} all of them."""

TITLES = {
    "untrained": "untrained encoder",
    "scratch": "supervised from scratch",
    "skeletonclr": "SkeletonCLR",
    "extreme-views": "SkeletonCLR on extreme views",
    "aimclr-no-drop": "AimCLR without EADM and NNM",
    "aimclr-no-mining": "AimCLR without NNM",
    "aimclr": "AimCLR",
    "crossclr": "CrosSCLR",
    "aimclr-cross": "AimCLR with cross-stream mining",
}


class Budget(NamedTuple):
    """How long and with what settings every run of a table is trained."""

    epochs: int
    arguments: tuple[str, ...]
    keep: tuple[int, ...]
    """Epochs of Table 3."""
    finetune: tuple[int, float]
    """Epochs and learning rate of finetuning and of training from scratch, of which the paper says neither."""
    semi: tuple[int, float]
    """The same with few labels, where an epoch has few steps."""
    aimclr: str
    """What stands for AimCLR outside of Table 1."""


BUDGETS = {
    "paper": Budget(
        300,
        ("--batch-size", "128", "--lr", "0.1", "--queue-size", "32768"),  # also where there are fewer clips
        (100, 150, 200, 300),
        (100, 0.1),
        (100, 0.1),
        "aimclr",
    ),
    # What was found for a few hundred clips, see docs/guide/small_data.md; mining costs accuracy there.
    "small": Budget(
        15,
        (
            *("--frames", "25", "--batch-size", "32", "--lr", "0.02", "--warmup", "3", "--schedule", "cosine"),
            *("--dropout", "0", "--momentum", "0.99", "--shear", "0.2", "--eval-every", "3"),
        ),
        (5, 8, 10, 15),
        (20, 0.02),
        (100, 0.02),
        "aimclr-no-mining",
    ),
}


class Content(NamedTuple):
    """A table: how each row's encoders came about, how they are measured, and in which columns."""

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    """Streams, "fused", or epochs."""
    protocols: tuple[str, ...]


ABLATION = ("skeletonclr", "extreme-views", "aimclr-no-drop", "aimclr-no-mining", "aimclr")
PAIR = ("skeletonclr", "AimCLR")  # AimCLR: what the budget takes for it
LINEAR = ("exact", "linear")
TABLES: dict[str, Content] = {
    "1": Content("Ablation", ABLATION, (*STREAMS, "fused"), LINEAR),
    "2": Content("SkeletonCLR and AimCLR by stream", ("untrained", *PAIR), (*STREAMS, "fused"), LINEAR),
    "3": Content(
        "Accuracy by epochs, three streams fused",
        ("skeletonclr", "crossclr", "aimclr-cross", "AimCLR"),
        ("epochs",),
        LINEAR,
    ),
    "4": Content("Linear evaluation, NTU RGB+D 60", (*PAIR, "crossclr", "aimclr-cross"), ("joint", "fused"), LINEAR),
    "5": Content("Linear evaluation, PKU-MMD", ("crossclr", "aimclr-cross", "AimCLR"), ("fused",), LINEAR),
    "6": Content("Linear evaluation, NTU RGB+D 120", ("crossclr", "aimclr-cross", "AimCLR"), ("fused",), LINEAR),
    "7": Content("Semi-supervised", ("scratch", "crossclr", *PAIR), (*STREAMS, "fused"), ("semi 1%", "semi 10%")),
    "8": Content("Finetuned", ("scratch", "crossclr", *PAIR), (*STREAMS, "fused"), ("finetune",)),
    "figure 2": Content(
        "t-SNE of ten classes", ("skeletonclr", "crossclr", "AimCLR", "aimclr-cross"), ("fused",), ("features",)
    ),
    "figure 3": Content("kNN accuracy", ("untrained", *PAIR), STREAMS, ("knn",)),
}

_COLUMNS = (("ntu60", "xsub"), ("ntu60", "xview"), ("pku1", "xsub"), ("ntu120", "xsub"), ("ntu120", "xset"))
_TABLE_2 = {
    ("skeletonclr", "joint"): (68.3, 76.4, 80.9, 56.8, 55.9),
    ("AimCLR", "joint"): (74.3, 79.7, 83.4, 63.4, 63.4),
    ("skeletonclr", "motion"): (53.3, 50.8, 63.4, 39.6, 40.2),
    ("AimCLR", "motion"): (66.8, 70.6, 72.0, 57.3, 54.4),
    ("skeletonclr", "bone"): (69.4, 67.4, 72.6, 48.4, 52.0),
    ("AimCLR", "bone"): (73.2, 77.0, 82.0, 62.9, 63.4),
    ("skeletonclr", "fused"): (75.0, 79.8, 85.3, 60.7, 62.6),
    ("AimCLR", "fused"): (78.9, 83.8, 87.8, 68.2, 68.8),
}
_XSUB, _XVIEW = ("ntu60", "xsub"), ("ntu60", "xview")


def _numbers() -> dict[tuple[str, str, str, str], dict[tuple[str, str], float]]:
    """By table, row, column and protocol, the paper's number for each data set and split."""
    found: dict[tuple[str, str, str, str], dict[tuple[str, str], float]] = {}
    for (row, column), values in _TABLE_2.items():
        found["2", row, column, "linear"] = dict(zip(_COLUMNS, values, strict=True))
        if column in ("joint", "fused"):
            found["4", row, column, "linear"] = dict(zip(_COLUMNS[:2], values, strict=False))
    for row, xsub, xview in zip(ABLATION, (75.0, 71.3, 77.4, 78.2, 78.9), (79.8, 77.8, 82.5, 82.8, 83.8), strict=True):
        found["1", row, "fused", "linear"] = {_XSUB: xsub, _XVIEW: xview}
    by_epoch = {
        "skeletonclr": (71.3, 73.8, 74.1, 74.1),
        "crossclr": (70.0, 72.8, 76.0, 77.2),
        "aimclr-cross": (75.4, 76.0, 78.2, 78.6),
        "AimCLR": (76.5, 77.4, 78.3, 78.9),
    }
    for row, accuracies in by_epoch.items():
        for epoch, value in zip(BUDGETS["paper"].keep, accuracies, strict=True):
            found["3", row, str(epoch), "linear"] = {_XSUB: value}
    found["4", "crossclr", "fused", "linear"] = {_XSUB: 77.8, _XVIEW: 83.4}
    found["4", "aimclr-cross", "fused", "linear"] = {_XSUB: 78.6, _XVIEW: 82.6}
    for row, first, second in (("crossclr", 84.9, 21.2), ("aimclr-cross", 87.4, 39.5), ("AimCLR", 87.8, 38.5)):
        found["5", row, "fused", "linear"] = {("pku1", "xsub"): first, ("pku2", "xsub"): second}
    for row, xsub, xset in (("crossclr", 67.9, 66.7), ("aimclr-cross", 68.0, 68.7), ("AimCLR", 68.2, 68.8)):
        found["6", row, "fused", "linear"] = {("ntu120", "xsub"): xsub, ("ntu120", "xset"): xset}
    table_7 = {
        ("crossclr", "semi 1%"): (49.7, 10.2, 51.1, 50.0),
        ("AimCLR", "semi 1%"): (57.5, 15.1, 54.8, 54.3),
        ("crossclr", "semi 10%"): (82.9, 28.6, 74.4, 77.8),
        ("AimCLR", "semi 10%"): (86.1, 33.4, 78.2, 81.6),
    }
    for (row, protocol), four in table_7.items():
        where = (("pku1", "xsub"), ("pku2", "xsub"), _XSUB, _XVIEW)
        found["7", row, "fused", protocol] = dict(zip(where, four, strict=True))
    table_8 = {
        ("skeletonclr", "bone"): (82.2, 88.9, 73.6, 75.3),
        ("AimCLR", "bone"): (83.0, 89.2, 76.4, 76.7),
        ("scratch", "fused"): (85.2, 91.4, 77.2, 77.1),
        ("crossclr", "fused"): (86.2, 92.5, 80.5, 80.4),
        ("AimCLR", "fused"): (86.9, 92.8, 80.1, 80.9),
    }
    for (row, column), four in table_8.items():
        where = (_XSUB, _XVIEW, ("ntu120", "xsub"), ("ntu120", "xset"))
        found["8", row, column, "finetune"] = dict(zip(where, four, strict=True))
    return found


PAPER = _numbers()
