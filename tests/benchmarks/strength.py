"""How far sparse training goes in a short run: fading, and penalties of several strengths.

python -m tests.benchmarks.strength [--epochs 8] [--seeds 0 1] [--only NAME ...]
    (needs no data; 15 minutes on one core; what is done is not done again)

A ResNet-14 learns the handwritten digits of scikit-learn, is trained sparsely and loses what the
budget asks for. "Left" compares, before and after the sparse training, the norms of the weights
that read the channels which the dense network's plan would remove.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, get_args

import numpy as np
import torch

from nnslim.artifact import load_network, save_network, write_page
from nnslim.artifact.directory import write_json
from nnslim.channels import ChannelMap
from nnslim.cli.output import Output
from nnslim.data import Data, load_data
from nnslim.data.loader import Loader, Sampling
from nnslim.models.cifar import CifarResNet
from nnslim.network import Network, trace_network
from nnslim.pruning import (
    Limit,
    PruneConfig,
    RegularizerConfig,
    RunContext,
    SaliencyConfig,
    SparseConfig,
    plan_pruning,
    prune_network,
)
from nnslim.pruning.sparse.penalty import HierarchicalSparsity, removed_channels
from nnslim.settings.commands import TalkSettings
from nnslim.settings.prune import Penalty
from nnslim.train import TrainConfig
from nnslim.train.loop import fit

STAGES = ("sparse", "cut", "calibrated")
BATCH = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--macs", type=float, default=0.3)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--build", default="build/strength")
    parser.add_argument("--report", default="docs/results/strength.md")
    options = parser.parse_args()
    out, root = Output(TalkSettings(no_progress=True)), Path(options.build)
    data = load_data("digits")
    for seed in options.seeds:
        for name, sparse in variants(options.epochs, options.lr):
            record = root / f"{name.replace(' ', '-')}-{seed}.json"
            if record.exists() or (options.only and not any(part in name for part in options.only)):
                continue
            config = PruneConfig(
                limits={"macs": Limit(options.macs, relative=True)},
                saliency=SaliencyConfig("logits", 256),
                sparse=sparse,
                training=TrainConfig(epochs=0, compile=False),
                batch_size=BATCH,
                refit_images=0,
                recalibrate_batches=19,
                seed=seed,
            )
            found = _run(_dense(root, data, seed), data, config, root / "runs" / record.stem)
            write_json(record, {"name": name, **found})
            out.info(f"{name}, seed {seed}: {found}")
            _report(root, options)
    _report(root, options)


def variants(epochs: int, lr: float) -> Iterator[tuple[str, SparseConfig]]:
    """Every variant by name: what pulls, how strongly, and at what."""

    def pulled(name: Penalty, *, focus: bool = True, **how: Any) -> SparseConfig:
        own = RegularizerConfig(name, balance=1.0, **how)
        return SparseConfig(epochs, lr, focus=focus, regularizer=own)

    yield "nothing", pulled("group_lasso", strength=0.0)
    yield "fading", SparseConfig(epochs, lr)
    for ratio in (1, 3, 10, 30, 100, 300):
        yield f"group_lasso {ratio}", pulled("group_lasso", ratio=ratio)
    for name in get_args(Penalty)[1:]:
        yield f"{name} 100", pulled(name, ratio=100.0)
    for ratio in (1, 2, 3, 5, 10):
        yield f"group_lasso {ratio} everywhere", pulled("group_lasso", ratio=ratio, focus=False)
    for floor in (0.2, 0.01, 0.001):
        own = pulled("hierarchical_squared_group_l12", ratio=100.0, floor=floor)
        yield f"hierarchical_squared_group_l12 100 floor {floor}", own
    yield "group_lasso 100 neuron", pulled("group_lasso", ratio=100.0, axis="neuron")


def _dense(root: Path, data: Data, seed: int) -> Network:
    """The trained network of a seed; made once."""
    file = root / f"dense-{seed}.safetensors"
    if not file.exists():
        torch.manual_seed(seed)
        size = (2, 1, *data.preprocess.size)
        network = trace_network(CifarResNet(14, in_channels=1), torch.zeros(size))
        network.preprocess = data.preprocess
        images = Loader(
            data.train,
            data.preprocess,
            BATCH,
            sampling=Sampling(shuffle=True, seed=seed),
            augment=data.augment,
        )
        training = TrainConfig(epochs=30, lr=0.1, compile=False, seed=seed)
        fit(network, images, training, device=torch.device("cpu"))
        file.parent.mkdir(parents=True, exist_ok=True)
        save_network(network, file)
    return load_network(file)


def _run(dense: Network, data: Data, config: PruneConfig, place: Path) -> dict[str, Any]:
    result = prune_network(copy.deepcopy(dense), data, config, RunContext(checkpoints=place))
    top1 = {stage: own.top1_pct for stage, own in (result.accuracies or {}).items()}
    # What fades or is pulled at is what a plan says before the training; it is planned again after.
    unpulled = replace(config, sparse=SparseConfig())
    channels, planned = plan_pruning(dense, data, unpulled)
    going = removed_channels(planned.plan.edit, channels)
    trained = load_network(place / "sparse.safetensors")
    left = _norm(trained, channels, going) / _norm(dense, channels, going)
    return {"top1": top1, "left": left}


def _norm(network: Network, channels: ChannelMap, going: dict[str, np.ndarray]) -> float:
    """Sum over the channels of the norm of all weights that read one."""
    config = RegularizerConfig("group_lasso", balance=1.0)
    penalty = HierarchicalSparsity(network, channels, config, lambda *_: going)
    penalty.start_epoch(network, 0, 1)
    return penalty.penalty_value(network)["hierarchical"]


def _report(root: Path, options: argparse.Namespace) -> None:
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(root.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(record["name"], []).append(record)
    dense = [own["top1"]["dense"] for records in found.values() for own in records]
    lines = [_HEAD.format(**vars(options), dense=mean(dense), share=100 * options.macs)]
    lines.append("| what pulls | left | before | right after | new statistics | runs |")
    lines.append("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, _ in variants(options.epochs, options.lr):
        if records := found.get(name):
            cells = [f"{mean(own['left'] for own in records):.2g}"]
            cells += [f"{mean(own['top1'][stage] for own in records):.1f}" for stage in STAGES]
            lines.append(f"| {name} | {' | '.join(cells)} | {len(records)} |")
    write_page(Path(options.report), "\n".join(lines) + "\n", overwrite=True)


_HEAD = """# How far sparse training goes in a short run

Written by `python -m tests.benchmarks.strength`; do not edit. A ResNet-14 on the 8 x 8 digits of
scikit-learn ({dense:.1f} % of 360 test images), {epochs} epochs of sparse training at a learning
rate of {lr:g}, then {share:g} % of the MACs kept, by the change of the logits per cost. The penalty
alone (`balance=1`), its ratio rising to the number beside its name (`growth=1`); *everywhere*: at
all channels, not only at those that the plan would remove; *neuron*: at what makes the channels;
*floor*: below it, as a share of a tensor's root mean square, the pull fades (0.05 elsewhere).
*Left*: the norms of the weights that read those channels, over what they were. Means over the runs;
top-1 in percent before the removal, right after it and with new batch norm statistics.
"""


if __name__ == "__main__":
    main()
