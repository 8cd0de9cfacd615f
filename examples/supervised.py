"""Train the same encoder with labels, as the yardstick beside pre-training.

    python examples/supervised.py --dataset utd-mhad --data FOLDER --epochs 40

Same data, normal augmentation, optimiser and schedule as `aimclr_ntu.py`, whose arguments it shares; a linear layer on
the encoder's features and cross-entropy instead of the contrastive loss. The last epoch's accuracy counts. Interrupted
runs go on with ``--resume``.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch

import aimclr_ntu as pretraining
from aimclr_ntu import errors_in_one_line
from command_line import refuse
from skelcontrast import augment, checkpoint
from skelcontrast.evaluation import train_classifier
from skelcontrast.skeleton import NTU_RGBD_25

UNUSED = (
    *("--method", "--positives", "--views", "--no-drop", "--keep-margin", "--extreme-from", "--mine-from"),
    *("--queue-size", "--momentum", "--temperature", "--embedding", "--keep", "--bf16", "--fast", "--resident"),
)
"""Arguments of `aimclr_ntu.py` that mean nothing here."""


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Others: see aimclr_ntu.py --help, without {', '.join(UNUSED)}; --out: runs/supervised unless given",
    )
    refuse(parser, UNUSED, "does nothing in training with labels")
    _, rest = parser.parse_known_args(argv)
    args = pretraining.parse(["--out", "runs/supervised", *rest])
    unused = {option.removeprefix("--").replace("-", "_") for option in UNUSED}
    used = {name: value for name, value in vars(args).items() if name not in unused}
    return argparse.Namespace(**used, method="supervised")


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    args = parse(argv)
    torch.manual_seed(args.seed)
    with errors_in_one_line():
        pretraining.check_resumed(args)
        train, test = pretraining.load_data(args)
        encoder, last = pretraining.build_encoder(args, train).to(args.device), args.out / "last.pt"
        begun = checkpoint.load(last) if args.resume and last.exists() else None
        args.out.mkdir(parents=True, exist_ok=True)
    checkpoint.write_json_lines(args.out / "settings.json", [vars(args)])

    def keep(state: dict[str, Any]) -> None:
        checkpoint.write_json_lines(args.out / "log.jsonl", state["log"])
        checkpoint.save(last, state)
        print("  ".join(f"{name} {value:.4g}" for name, value in state["log"][-1].items()))

    trained = train_classifier(
        encoder,
        train,
        test,
        epochs=args.epochs,
        lr=lambda epoch: args.lr * pretraining.learning_rate_factor(args, epoch),
        batch_size=args.batch_size,
        augmentation=augment.normal(preset=args.preset, amplitude=args.shear),
        stream=args.stream,
        layout=train.layout or NTU_RGBD_25,
        layer=torch.nn.Linear(encoder.out_features, train.num_classes),
        eval_every=args.eval_every,
        seed=args.seed,
        num_workers=args.workers,
        resume=begun,
        on_epoch=keep,
    )
    result = {"accuracy": trained.accuracy, "top5": trained.top5}
    checkpoint.write_json_lines(args.out / "result.json", [result])
    print(f"accuracy {result['accuracy']:.1%}   in {args.out}")
    return result


if __name__ == "__main__":
    main()
