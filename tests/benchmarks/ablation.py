"""What each part of the recipe is worth: one part changed at a time, on a subset of CIFAR-10.

python -m tests.benchmarks.ablation cifar10.npz resnet20.th --subset 10000
    (an hour on two cores; what is done is not done again; --only NAME runs the parts so named)
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import torch

from nnslim.artifact import write_page
from nnslim.artifact.directory import write_json
from nnslim.cli.output import Output
from nnslim.data import load_data
from nnslim.pruning import (
    PruneConfig,
    RegularizerConfig,
    RoundConfig,
    RunContext,
    SaliencyConfig,
    SparseConfig,
    prune_network,
)
from nnslim.settings.commands import TalkSettings
from nnslim.settings.prune import Penalty
from nnslim.train import TrainConfig
from tests.benchmarks.cifar import HALF, dense_network

STAGES = (("sparse",), ("cut",), ("calibrated", "refitted"), ("tuned",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("model")
    parser.add_argument("--subset", type=int, default=10_000, help="training images; 0 takes all")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--build", default="build/ablation")
    parser.add_argument("--report", default="docs/results/ablation.md")
    options = parser.parse_args()
    out, root = Output(TalkSettings(no_progress=True)), Path(options.build)
    data = load_data(options.data)
    if options.subset:
        data = data.with_subset(options.subset, seed=0)
    options.images = len(data.train)
    for name, config in variants(options.epochs):
        place = root / f"{name.replace(' ', '-').replace('/', '-')}.json"
        if place.exists() or (options.only and not any(part in name for part in options.only)):
            continue
        start = time.perf_counter()
        context = RunContext(torch.device(options.device), sink=out)
        found = prune_network(dense_network(options.model), data, config, context)
        top1 = {stage: own.top1_pct for stage, own in (found.accuracies or {}).items()}
        root.mkdir(parents=True, exist_ok=True)
        write_json(place, {"name": name, "top1": top1, "seconds": time.perf_counter() - start})
        out.info(f"{name}: {top1}")
        _report(root, options)


def variants(epochs: int) -> Iterator[tuple[str, PruneConfig]]:
    """Every variant by name; the first is what the others change one part of."""
    base = PruneConfig(
        limits={"params": HALF, "macs": HALF},
        saliency=SaliencyConfig("jacobian", 256),
        sparse=SparseConfig(2, 0.05),
        training=TrainConfig(epochs=epochs, lr=0.05),
        refit_images=0,
    )
    yield "base: 2 epochs of fading, jacobian, 1 round, distilled", base
    for n in (0, 1, 4, 8):
        yield f"fading: {n} epochs", replace(base, sparse=SparseConfig(n, 0.05))
    for deadline in (0.4, 1.0):
        yield f"fading by {deadline}", replace(base, sparse=SparseConfig(2, 0.05, True, deadline))
    for name in get_args(Penalty):
        penalty = SparseConfig(2, 0.05, regularizer=RegularizerConfig(name))
        yield f"penalty: {name}", replace(base, sparse=penalty)
    for kind in ("logits", "loss", "taylor", "magnitude"):
        plain = replace(base, sparse=SparseConfig(0))
        yield (
            f"saliency without sparse training: {kind}",
            replace(plain, saliency=SaliencyConfig(kind, 256)),
        )
    yield "not distilled", replace(base, training=replace(base.train, distill_weight=0.0))
    for n in (128, 512, 2048):
        yield (
            f"fitted on {n} without sparse training",
            replace(base, sparse=SparseConfig(0), refit_images=n),
        )
    for n in (3, 5):
        yield (
            f"rounds: {n} without sparse training",
            replace(base, sparse=SparseConfig(0), rounds=RoundConfig(n, 1, 0.05)),
        )


def _report(root: Path, options: argparse.Namespace) -> None:
    rows = {}
    for path in root.glob("*.json"):
        found = json.loads(path.read_text())
        rows[found["name"]] = found
    lines = [_HEAD.format(**vars(options), name=Path(options.model).name.partition("-")[0])]
    lines.append(
        "| variant | after sparse | right after removal | new statistics, or fitted | final | min |"
    )
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, _ in variants(options.epochs):
        if name in rows:
            top1 = rows[name]["top1"]
            found = [[f"{top1[s]:.2f}" for s in own if s in top1] for own in STAGES]
            cells = [(own or ["-"])[0] for own in found]
            minutes = f"{rows[name]['seconds'] / 60:.1f}"
            lines.append(f"| {name} | {' | '.join(cells)} | {minutes} |")
    write_page(Path(options.report), "\n".join(lines) + "\n", overwrite=True)


_HEAD = """# What each part of the recipe is worth

Written by `python -m tests.benchmarks.ablation`; do not edit. The published {name} cut to at most
half of its parameters and half of its MACs, trained on {images:,} CIFAR-10 images ({device});
epochs of fine-tuning: {epochs}, learning rate 0.05, seed 0. One part is changed at a time; one run
each, so differences of a few tenths mean nothing. Top-1 in percent on the 10,000 test images.
"""


if __name__ == "__main__":
    main()
