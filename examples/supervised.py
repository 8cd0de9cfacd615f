"""Train the same encoder with labels, as the yardstick beside pre-training.

    python examples/supervised.py --dataset utd-mhad --data FOLDER --epochs 40 --out runs/supervised

Same data, normal augmentation, optimiser and schedule as `aimclr_ntu.py`, whose arguments it shares; a linear layer on
the encoder's features and cross-entropy instead of the contrastive loss. The last epoch's accuracy counts.
"""

from collections.abc import Sequence

import torch
from torch.nn import functional as F
from tqdm import tqdm

import aimclr_ntu as pretraining
from skelcontrast import augment
from skelcontrast.data import SkeletonLoader
from skelcontrast.evaluation import extract_features
from skelcontrast.skeleton import NTU_RGBD_25, to_stream


def main(argv: Sequence[str] | None = None) -> dict[str, float]:
    args = pretraining.parse(argv)
    torch.manual_seed(args.seed)
    train, test = pretraining.load_data(args)
    layout = train.layout or NTU_RGBD_25
    encoder = pretraining.build_encoder(args, train)
    classifier = torch.nn.Sequential(encoder, torch.nn.Linear(encoder.out_features, train.num_classes)).to(args.device)
    loader = SkeletonLoader(train, args.batch_size, seed=args.seed, num_workers=args.workers, device=args.device)
    optimizer = torch.optim.SGD(classifier.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda e: pretraining.learning_rate_factor(args, e))
    normal = augment.normal(preset=args.preset)
    records: list[dict[str, float]] = []
    args.out.mkdir(parents=True, exist_ok=True)

    for epoch in range(args.epochs):
        classifier.train()
        losses = []
        for batch in tqdm(loader, desc=f"epoch {epoch + 1}/{args.epochs}", leave=False, disable=None):
            x = to_stream(normal(batch.x, batch.generator), args.stream, layout)
            loss = F.cross_entropy(classifier(x), batch.labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        schedule.step()
        records.append({"epoch": epoch + 1.0, "loss": float(torch.stack(losses).mean())})
        pretraining.write_log(args.out / "log.jsonl", records)
        print(f"epoch {epoch + 1}  loss {records[-1]['loss']:.4g}")

    scores = extract_features(classifier, test, stream=args.stream)
    result = {"accuracy": float((scores.features.argmax(1) == scores.labels).double().mean())}
    pretraining.write_log(args.out / "result.json", [result])
    print(f"accuracy {result['accuracy']:.1%}   in {args.out}")
    return result


if __name__ == "__main__":
    main()
