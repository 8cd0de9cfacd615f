"""Make tables and figures of the AimCLR paper: do the runs, measure them, put the paper's numbers beside.

    python examples/reproduce.py --table 2 --data PREPARED --protocol xsub --plan
    python examples/reproduce.py --table 2 --data PREPARED --protocol xsub --out runs/ntu60-xsub
    python examples/reproduce.py --table 1 3 --figure 3 --dataset utd-mhad --data FOLDER --budget small --seeds 0 1 2

What the tables hold is in `paper_tables.py`, their runs in `paper_runs.py`, how they are written in `paper_pages.py`.
Runs are shared between tables, and what is done is not done again, so a call can be broken off and given again.
``--plan`` lists the runs and what they would cost, ``--partial`` renders what is done; neither trains. Arguments after
``--`` go to every pre-training, such as ``-- --device cuda --bf16``.
"""

import argparse
import hashlib
import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import torch

import evaluate
from aimclr_ntu import KINDS, settle_data
from paper_pages import UNTRAINED, Row, draw, explained, markdown, origin, title_of, write
from paper_runs import check_begun, plan, run_of, train, trained_at
from paper_tables import BUDGETS, STREAMS, TABLES
from skelcontrast import checkpoint, evaluation, viz
from skelcontrast.evaluation import Features, Scores


def encoder_of(args: argparse.Namespace, row: str, stream: str, seed: int, name: str) -> evaluate.Encoder | None:
    """The encoder of a stream of a row, or `None` if its run has not come that far."""
    run, wanted = run_of(args, row, stream, seed), None if row in UNTRAINED else name
    if not run.has(wanted):
        return None
    written = (run.folder / (wanted or "settings.json")).stat().st_mtime_ns
    return next(one for one in load(run.folder, wanted, written) if one.stream == stream)


@lru_cache(maxsize=len(STREAMS))
def load(folder: Path, name: str | None, _written: int) -> list[evaluate.Encoder]:
    """Load the encoders of a run; those of a row's streams are kept from one protocol to the next."""
    return evaluate.load_run(folder, name=name)


def measured(
    args: argparse.Namespace, row: str, stream: str, seed: int, protocol: str, name: str
) -> evaluate.Found | None:
    """What a protocol says of an encoder, kept beside its checkpoint until that changes."""
    run, trained = run_of(args, row, stream, seed), row not in UNTRAINED
    folder = run.folder
    if not run.has(name if trained else None):
        return None
    budget = BUDGETS[args.budget]
    finetune = {"finetune": budget.finetune, "semi": budget.semi}.get(protocol.partition(" ")[0])
    of = hashlib.sha256((folder / name).read_bytes()).hexdigest() if trained else "untrained"
    key = f"{stream}-{Path(name).stem if trained else 'untrained'}-{protocol.replace(' ', '').replace('%', '')}.pt"
    kept, about = folder / "evaluated" / key, {"of": of, "finetune": finetune}
    if kept.exists():
        old = checkpoint.load(kept)
        if old["about"] == about:
            scores = None if old["logits"] is None else Scores(old["logits"], old["labels"], old["names"])
            return evaluate.Found(old["values"], scores)
    one = encoder_of(args, row, stream, seed, name)
    if one is None:
        return None
    kind, _, share = protocol.partition(" ")
    epochs, lr = finetune or (0, 0.0)
    found = evaluate.measure(one, kind, share=float(share.rstrip("%") or 0) / 100, epochs=epochs, lr=lr, frozen=False)
    scores = found.scores
    kept.parent.mkdir(exist_ok=True)
    parts = (None, None, None) if scores is None else (scores.logits, scores.labels, list(scores.names))
    content = {"about": about, "values": found.values, **dict(zip(("logits", "labels", "names"), parts, strict=True))}
    checkpoint.save(kept, content, rng=False)
    return found


def cell(args: argparse.Namespace, row: str, column: str, protocol: str, name: str = "last.pt") -> list[float]:
    """Accuracies of the seeds that are there, of a stream or of all of them fused."""
    values = []
    for seed in args.seeds:
        needed = STREAMS if column == "fused" else (column,)
        found = [measured(args, row, stream, seed, protocol, name) for stream in needed]
        there = {stream: one for stream, one in zip(needed, found, strict=True) if one is not None}
        if len(there) == len(needed):
            one = evaluate.fused(there) if column == "fused" else there[column]
            values.append(next(iter(one.values.values())))
    return values


def fill(args: argparse.Namespace, name: str) -> list[Row]:
    """Measure what a table shows."""
    content, keep = TABLES[name], BUDGETS[args.budget].keep
    rows = []
    for row in content.rows:
        cells = {}
        for protocol in content.protocols:
            if content.columns == ("epochs",):
                for epoch in keep:
                    cells[str(epoch), protocol] = cell(args, row, "fused", protocol, f"epoch-{epoch}.pt")
            else:
                for column in content.columns:
                    cells[column, protocol] = cell(args, row, column, protocol)
        rows.append(Row(row, cells))
    return rows


def draw_embedding(args: argparse.Namespace, path: Path) -> bool:
    """Figure 2: the streams' test features, each of length one, side by side; NMI of k-means on all classes."""
    panels: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
    names: Sequence[str] = ()
    for row in TABLES["figure 2"].rows:
        streams = [encoder_of(args, row, stream, args.seeds[0], "last.pt") for stream in STREAMS]
        there = [one for one in streams if one is not None]
        if len(there) < len(STREAMS):
            continue
        features, labels = joined(there)
        names = there[0].test.class_names or [str(label) for label in range(int(labels.max()) + 1)]
        clusters = evaluation.k_means(features, len(labels.unique()), progress=True).clusters
        nmi = evaluation.normalized_mutual_information(clusters, labels)
        ten = torch.randperm(len(names), generator=torch.Generator().manual_seed(0))[:10].sort().values
        rows = torch.isin(labels, ten)
        panel = f"{title_of(row, BUDGETS[args.budget])}, NMI {nmi:.3f}"
        panels[panel] = (features[rows], torch.searchsorted(ten, labels[rows]))
        names = [names[label] for label in ten.tolist()]
    if panels:
        viz.plot_embedding(panels, names).savefig(path, dpi=110)
    return bool(panels)


def joined(streams: Sequence[evaluate.Encoder]) -> Features:
    """Test features of all streams, each brought to length one, one behind the other."""
    found = [evaluate.features(one)[1] for one in streams]
    parts = [torch.nn.functional.normalize(one.features, dim=1) for one in found]
    return Features(torch.cat(parts, dim=1), found[0].labels)


def render(args: argparse.Namespace) -> None:
    """Write what was found as Markdown, JSON and pictures, and print it."""
    args.to.mkdir(parents=True, exist_ok=True)
    budget, lines, numbers = BUDGETS[args.budget], [], {}
    for name in args.contents:
        rows = [] if name == "figure 2" else fill(args, name)
        if rows:
            lines += markdown(args, name, rows)
            numbers[name] = {row.name: {f"{a}, {b}": held for (a, b), held in row.cells.items()} for row in rows}
        picture = args.to / f"{args.stem}_{name.replace(' ', '_')}.png"
        if draw(args, name, rows, picture) if rows else draw_embedding(args, picture):
            lines += [f"![{TABLES[name].title}]({picture.name})", ""]
    command = f"{budget.epochs} epochs, `{' '.join([*budget.arguments, *args.more])}`"
    where = args.benchmark if args.protocol is None else f"{args.benchmark}, {args.protocol}"
    lines += [
        f"{where}. Budget: {command}.",
        explained(args),
        "Linear: the released schedule on standardised features; exact: the minimum of the penalised cross-entropy.",
        "The last epoch counts, nothing is chosen on the test part.",
    ]
    write(args.to / f"{args.stem}.md", "\n".join(lines) + "\n")
    how = {"budget": args.budget, "arguments": [*budget.arguments, *args.more], "seeds": args.seeds, **origin()}
    how["trained_at"] = trained_at(args)
    write(args.to / f"{args.stem}.json", json.dumps({**how, "tables": numbers}, indent=1) + "\n")
    print("\n".join(lines), f"\n\nin {args.to}")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    tables, figures = [name for name in TABLES if name.isdigit()], [name[-1] for name in TABLES if not name.isdigit()]
    add("--table", nargs="+", choices=tables, default=[])
    add("--figure", nargs="+", choices=figures, default=[])
    add("--data", type=Path, help="prepared folder, or that of --dataset; without, synthetic actions")
    add("--dataset", choices=KINDS, help="kind of --data")
    add("--benchmark", help="name for the paper's numbers: ntu60, ntu120, pku1, pku2 (default: the prepared folder's)")
    add("--protocol", help="split (default: xsub; cross-subject of synthetic); of official-npy, the one in the folder")
    add("--budget", choices=BUDGETS, default="paper", help="settings of all runs (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0], help="a run of each (default: 0)")
    add("--out", type=Path, default=Path("runs/reproduce"), help="folder of the runs (default: %(default)s)")
    add("--to", type=Path, help="folder of the rendered tables (default: --out)")
    add("--stem", default="tables", help="name of the files there (default: %(default)s)")
    add("--plan", action="store_true", help="list the runs and their cost, start nothing")
    add("--partial", action="store_true", help="render what is done, start nothing")
    add("more", nargs="*", help="arguments for every pre-training, after --")
    args = parser.parse_args(argv)
    args.contents = [*args.table, *(f"figure {number}" for number in args.figure)]
    args.to = args.to or args.out
    if not args.contents:
        parser.error("nothing to make: give --table 1..8, --figure 2 or 3, or several")
    in_folder, args.protocol = args.protocol, None if args.dataset == "official-npy" else args.protocol
    settle_data(args, parser.error)
    args.protocol = args.protocol or in_folder
    if args.benchmark is None:
        report = None if args.data is None else args.data / "report.json"
        known = report is not None and report.exists()
        args.benchmark = json.loads(report.read_text(encoding="utf-8"))["dataset"] if report and known else args.dataset
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse(argv)
    check_begun(args)
    if args.plan:
        plan(args)
        return
    if not args.partial:
        train(args)
    render(args)


if __name__ == "__main__":
    main()
