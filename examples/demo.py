"""See the library work in about two minutes on a CPU, with nothing to download.

    python examples/demo.py --out demo

Pre-trains AimCLR on animated people with a narrow encoder, prints kNN and linear accuracy before and after, and
writes pictures: a clip and two views of it in motion, the eight augmentations, what the drop layer takes away, the
curves of the run, t-SNE before and after. For training in earnest see `aimclr_ntu.py`.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from matplotlib.animation import FuncAnimation
from matplotlib.figure import Figure

from aimclr_ntu import errors_in_one_line, progress
from skelcontrast import augment, methods, nn, viz
from skelcontrast.data import SkeletonDataset, SkeletonLoader, SyntheticActions
from skelcontrast.evaluation import Features, extract_features, knn_accuracy, linear_probe, mean_terms
from skelcontrast.skeleton import SkeletonLayout

SHOWN = ("wave", "clap", "kick", "squat", "jump", "walk in place", "bow", "push")


def measure(encoder: torch.nn.Module, train: SkeletonDataset, test: SkeletonDataset) -> tuple[Features, float, float]:
    """Features of the test part, kNN accuracy, linear accuracy."""
    known, new = extract_features(encoder, train), extract_features(encoder, test)
    return new, knn_accuracy(known, new), linear_probe(known, new, standardize=True).accuracy


def draw_drops(encoder: nn.STGCN, clip: torch.Tensor, layout: SkeletonLayout) -> Figure:
    """The fifth of joints and of frames whose features SimAM attends to most."""
    with torch.no_grad():
        masks = nn.EADM(drop_share=0.2).masks(encoder.eval().feature_map(clip[None]))
    return viz.plot_drops(clip, masks, layout)


def animate_views(clip: torch.Tensor, layout: SkeletonLayout, *, seed: int) -> FuncAnimation:
    """A clip, and what the contrastive loss compares it by."""
    generator = torch.Generator().manual_seed(seed)
    normal, extreme = augment.Views(augment.normal(), augment.extreme(layout))(clip[None], generator)
    views = {"as recorded": clip, "normal view": normal[0], "extreme view": extreme[0]}
    return viz.animate_skeletons(views, layout, columns=3)


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the pictures")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(argv)
    with errors_in_one_line():
        args.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(args.seed)
    start = time.perf_counter()

    data = SyntheticActions(frames=24)
    train, test = data.split("cross-subject")
    layout = data.layout
    if layout is None or data.class_names is None:
        parser.error("SyntheticActions has a layout and class names")
    encoder = nn.STGCN(layout, channels=(16, 32, 64), strides=(1, 2, 2), dropout=0.0)
    model = methods.AimCLR(encoder, nn.ProjectionHead(64, 64), queue_size=len(train) // 2, momentum=0.99)
    views = augment.Views(augment.normal(), augment.normal(), augment.extreme(layout))
    loader = SkeletonLoader(train, batch_size=32, seed=args.seed)
    steps = args.epochs * len(loader)
    optimizer = torch.optim.SGD(model.query_parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    print(f"{len(train)} clips to train on and {len(test)} of other people to test on, {data.num_classes} actions")
    before, knn_before, linear_before = measure(encoder, train, test)
    log: list[dict[str, float]] = [{"epoch": 0, "knn": knn_before}]
    for epoch in progress(range(args.epochs), "pre-training"):
        terms = []
        for batch in loader:
            model.momentum_update()
            embedded = model.embed(*views(batch.x, batch.generator))
            loss = model.loss(embedded, mine=epoch >= args.epochs // 2)
            optimizer.zero_grad()
            loss.total.backward()
            optimizer.step()
            schedule.step()
            model.enqueue(embedded.key)
            # Without the total, as those of the two stages cannot be compared.
            parts = {"info_nce": loss.info_nce, "nnm": loss.nnm, "d3m": loss.d3m}
            terms.append({name: term.detach() for name, term in parts.items() if term is not None})
        log.append({"epoch": epoch + 1, **mean_terms(terms)})
        if (epoch + 1) % 5 == 0:
            log[-1]["knn"] = knn_accuracy(extract_features(encoder, train), extract_features(encoder, test))
    after, knn, linear = measure(encoder, train, test)

    wave, kick = (
        next(sample.x for sample in test if data.class_names[sample.label] == action) for action in ("wave", "kick")
    )
    shown = torch.tensor([data.class_names.index(name) for name in SHOWN])
    panels = {
        name: Features(part.features[torch.isin(part.labels, shown)], part.labels[torch.isin(part.labels, shown)])
        for name, part in (("before", before), ("after", after))
    }
    figures = {
        "augmentations.png": viz.plot_augmentations(wave, layout),
        "drops.png": draw_drops(encoder, kick, layout),
        "curves.png": viz.plot_curves(log),
        "embedding.png": viz.plot_embedding(panels, data.class_names),
    }
    for name, figure in figures.items():
        figure.savefig(args.out / name)
    animate_views(kick, layout, seed=args.seed).save(args.out / "views.gif", writer="pillow", dpi=80)
    print(f"{'':12}{'untrained':>10}{'AimCLR':>10}")
    print(f"{'kNN (k=1)':12}{knn_before:>10.1%}{knn:>10.1%}")
    print(f"{'linear':12}{linear_before:>10.1%}{linear:>10.1%}")
    print(f"{steps} steps, {time.perf_counter() - start:.0f} s in all; pictures in {args.out}/")
    return {"knn_before": knn_before, "knn": knn, "linear_before": linear_before, "linear": linear}


if __name__ == "__main__":
    main()
