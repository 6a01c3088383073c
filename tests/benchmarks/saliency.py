"""Which saliency keeps most accuracy right after the removal, before anything else is done?

    python -m tests.benchmarks.saliency CHECKPOINT DATA [--share 80] [--samples 512] [--mean X,X,X]

Channels are removed in one shot, without new batch norm statistics or training; test accuracy.
``inner`` cuts only the first convolution of each residual block, ``all`` the residual stream too.
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from nnslim.channels import ChannelMap, channel_groups
from nnslim.channels.magnitude import magnitude
from nnslim.cli.output import Output
from nnslim.data import Data, Loader, Sampling, load_data, stratified_indices
from nnslim.measure.accuracy import network_accuracy
from nnslim.models.opening import open_model
from nnslim.network import Network
from nnslim.pruning import Constraints, CostModel, Limit, make_plan
from nnslim.pruning.scores.measured import Batch, Scores, measured
from nnslim.pruning.scores.taylor import taylor
from nnslim.report import Table
from nnslim.settings.inputs import ModelSettings, PreprocessSettings
from nnslim.settings.parse import parse_floats
from nnslim.surgery import apply_edit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint")
    parser.add_argument("data")
    parser.add_argument("--share", type=float, nargs="+", default=[80.0, 50.0])
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--mean")
    parser.add_argument("--std")
    args = parser.parse_args()
    data = load_data(args.data)
    mean, std = (
        text and parse_floats(text, name) for name, text in (("mean", args.mean), ("std", args.std))
    )
    said = PreprocessSettings(mean=mean or None, std=std or None)
    network = open_model(Path(args.checkpoint), ModelSettings(), said, data, Output()).network
    channels = channel_groups(network)
    preprocess = network.preprocess or data.preprocess
    test = Loader(data.test, preprocess, 500)
    rows = []
    runs = (
        (seed, *run)
        for seed in args.seeds
        for run in _criteria(network, channels, data, args.samples, seed)
    )
    for seed, name, scores, seconds in runs:
        row = [name, str(seed), f"{seconds:.0f}"]
        for share, inner, per_cost in itertools.product(args.share, (True, False), (False, True)):
            keep = _outer(channels) if inner else ()
            constraints = Constraints(
                {"params": Limit(share / 100, relative=True)}, keep=keep, per_cost=per_cost
            )
            plan = make_plan(channels, CostModel(network, channels), scores, constraints)
            cut = apply_edit(network, plan.edit, channels)
            row.append(
                f"{network_accuracy(cut.to(memory_format=torch.channels_last), test).top1_pct:.2f}"
            )
        rows.append(row)
        Output().info("  ".join(row))
    kinds = [
        f"{share:.0f}% {'inner' if inner else 'all'}{' /cost' if per_cost else ''}"
        for share, inner, per_cost in itertools.product(args.share, (True, False), (False, True))
    ]
    table = Table.of(
        f"top-1 right after the removal, {args.samples} samples",
        ["criterion", ">seed", ">s", *(f">{k}" for k in kinds)],
        rows,
    )
    Output().result({"rows": [list(row) for row in rows]}, table)


def _outer(channels: ChannelMap) -> tuple[str, ...]:
    """Groups of the residual stream: those that more than one layer writes to."""
    return tuple(
        g.name
        for g in channels.prunable
        if sum(
            1
            for m in g.members
            if m.dim == 0 and m.tensor.endswith("weight") and "conv" in m.tensor
        )
        > 1
    )


def _criteria(
    network: Network, channels: ChannelMap, data: Data, samples: int, seed: int
) -> Iterator[tuple[str, Scores, float]]:
    preprocess = network.preprocess or data.preprocess
    split = data.train.subset(stratified_indices(data.train.labels, samples, seed=seed))

    def batches(augmented: bool) -> list[Batch]:
        return list(
            Loader(
                split,
                preprocess,
                256,
                sampling=Sampling(shuffle=True, seed=seed),
                augment=data.augment if augmented else None,
            )
        )

    def timed(name: str, function, *args) -> tuple[str, Scores, float]:
        start = time.perf_counter()
        return name, function(*args), time.perf_counter() - start

    yield timed("magnitude L2", magnitude, network, channels)
    yield timed("magnitude L1 per layer", _l1_per_layer, network, channels)
    for augmented in (False, True):
        kind = "augmented" if augmented else "clean"
        yield timed(f"taylor, {kind}", taylor, network, channels, batches(augmented))
        for criterion in ("loss", "logits"):
            yield timed(
                f"{criterion}, {kind}", measured, network, channels, batches(augmented), criterion
            )


def _l1_per_layer(network: Network, channels: ChannelMap) -> Scores:
    """L1 norm of the first producing filter, over the mean of its layer."""
    scores: Scores = {}
    for group in channels.prunable:
        member = next(m for m in group.members if m.dim == 0)
        norms = network.tensor(member.tensor).detach().abs().flatten(1).sum(1).numpy()
        own = norms[member.positions].sum(axis=1)
        scores[group.name] = np.asarray(own / own.mean())
    return scores


if __name__ == "__main__":
    main()
