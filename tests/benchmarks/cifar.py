"""``make bench-cifar``: our recipe against three others, on published ResNets, at equal compute.

python -m tests.benchmarks.cifar cifar10.npz resnet56.th [resnet20.th ...]
    --sparse-epochs 1 --epochs 3 --seeds 0 1   (hours on two cores; what is done is not done again)

Every arm starts from one file, sees the same images in the same order, is cut to at most half
of the parameters and half of the MACs (Torch-Pruning only of the MACs), gets
new batch norm statistics and is fine-tuned with the same settings, the dense network teaching. Arms
without sparse training are fine-tuned longer, until they have spent as many multiply-adds of
training. The last epoch counts; test images are read once.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch

from nnslim.artifact import save_network
from nnslim.channels import ChannelMap, channel_groups, residual_streams
from nnslim.cli.output import Output
from nnslim.data import Preprocess, load_data
from nnslim.measure.macs import count_costs
from nnslim.models import load_model
from nnslim.network import Network
from nnslim.pruning import (
    Constraints,
    CostModel,
    Limit,
    PruneConfig,
    RegularizerConfig,
    RoundConfig,
    RunContext,
    SaliencyConfig,
    SparseConfig,
    make_plan,
    prune_network,
)
from nnslim.pruning.scores.score import score_channels
from nnslim.run.trainer import Trainer
from nnslim.settings.commands import TalkSettings
from nnslim.settings.prune import Allocation, Penalty
from nnslim.settings.train import Precision
from nnslim.surgery import apply_edit
from nnslim.train import TrainConfig
from tests.benchmarks.cifar_peer import group_norm_network
from tests.benchmarks.cifar_report import read_records, write_record, write_report

HALF = Limit(0.5, relative=True)
ARMS = ("ours", "l1", "taylor", "torch-pruning")


def main() -> None:
    options = _options()
    out, results = Output(TalkSettings(no_progress=True)), Path(options.results)
    data = load_data(options.data, validation=0 if options.no_validation else None)
    if options.subset:
        data = data.with_subset(options.subset, seed=0)
    for seed in options.seeds:
        for file in options.models:
            for arm in options.arms:
                kind = f"{len(data.train)}-{options.sparse_epochs}+{options.epochs}-{options.lr:g}"
                for said in ([_recipe(options)] if arm == "ours" else []) + [
                    _training(arm, options)
                ]:
                    kind += f"-{said.replace(', ', '-').replace(' ', '_')}" if said else ""
                name = f"{Path(file).name.partition('-')[0]}-{arm}-{kind}-{seed}"
                if name in read_records(results):
                    continue
                place = Path(options.build) / name
                place.mkdir(parents=True, exist_ok=True)
                out.info(f"== {name}")
                config = _config(options, seed, data)
                dense = dense_network(file)
                context = RunContext(
                    torch.device(options.device), sink=out, checkpoints=place / "checkpoints"
                )
                found = run_arm(arm, dense, data, config, context)
                save_network(found.pop("network"), place / "model.safetensors")
                recipe = _recipe(options) if arm == "ours" else None
                results.parent.mkdir(parents=True, exist_ok=True)
                told = {"arm": arm, "recipe": recipe, "training": _training(arm, options)}
                write_record(results, name, {**told, "seed": seed, **found})
                write_report(results)
    write_report(results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.cifar")
    parser.add_argument("data")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--sparse-epochs", type=int, default=1)
    parser.add_argument("--sparse-lr", type=float, default=0.02)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=0.02)
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument("--distill-weight", type=float, default=0.5)
    parser.add_argument("--temperature", type=float, default=4.0)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--macs-only", action="store_true", help="no budget in parameters")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--samples", type=int, default=256)
    parser.add_argument("--saliency", default="logits")
    parser.add_argument("--regularizer", choices=get_args(Penalty), help="not fading")
    parser.add_argument("--allocation", choices=get_args(Allocation), default="global")
    parser.add_argument("--keep", nargs="+", default=[], help="layers that stay; ours and L1")
    parser.add_argument("--keep-streams", action="store_true", help="streams stay whole; likewise")
    parser.add_argument("--min-width", type=float, default=0.1, help="share of each width")
    parser.add_argument("--no-per-cost", action="store_true", help="rank by score alone")
    parser.add_argument("--refit", type=int, default=0, help="images to fit our weights on")
    parser.add_argument("--rounds", type=int, default=1, help="1 epoch of recovery in between")
    parser.add_argument("--subset", type=int, help="training images to use")
    parser.add_argument("--no-validation", action="store_true", help="train on all images")
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--build", default="build/bench-cifar")
    parser.add_argument("--results", default="docs/results/cifar.jsonl", help="beside it FILE.md")
    return parser.parse_args()


def _config(options: argparse.Namespace, seed: int, data: Any) -> PruneConfig:
    return PruneConfig(
        limits={"macs": HALF} if options.macs_only else {"params": HALF, "macs": HALF},
        min_width=Limit(options.min_width, relative=True),
        keep=tuple(options.keep),
        keep_streams=options.keep_streams,
        allocation=options.allocation,
        per_cost=not options.no_per_cost,
        saliency=SaliencyConfig(options.saliency, options.samples),
        sparse=SparseConfig(
            options.sparse_epochs,
            options.sparse_lr,
            regularizer=options.regularizer and RegularizerConfig(options.regularizer),
        ),
        rounds=RoundConfig(options.rounds, 1, options.lr),
        refit_images=options.refit,
        training=TrainConfig(
            epochs=options.epochs,
            lr=options.lr,
            weight_decay=options.weight_decay,
            distill_weight=options.distill_weight,
            temperature=options.temperature,
            precision=options.precision,
            seed=seed,
        ),
        seed=seed,
    )


def _training(arm: str, options: argparse.Namespace) -> str:
    """What differs from the usual fine-tuning, and from the usual cut of L1."""
    parts = [options.precision] if options.precision != "fp32" else []
    if options.distill_weight != 0.5:
        parts.append(f"{options.distill_weight:g} of the loss from the teacher")
    if options.temperature != 4.0:
        parts.append(f"temperature {options.temperature:g}")
    if options.weight_decay != 5e-4:
        parts.append(f"weight decay {options.weight_decay:g}")
    if options.macs_only:
        parts.append("MACs alone")
    if arm == "l1":
        parts += _whole(options)
    return ", ".join(parts)


def _whole(options: argparse.Namespace) -> list[str]:
    """What stays whole, in the words of the page."""
    parts = ["streams whole"] if options.keep_streams else []
    if options.keep:
        streams = sorted(options.keep) == ["conv1", "layer2.0.conv2", "layer3.0.conv2"]
        parts.append("inner filters" if streams else f"{' '.join(options.keep)} kept")
    return parts


def _recipe(options: argparse.Namespace) -> str:
    """What the options say of our arm."""
    parts = [options.saliency]
    if options.sparse_epochs:
        parts.append(options.regularizer or "fading")
    if options.allocation != "global":
        parts.append(options.allocation)
    parts += _whole(options)
    if options.min_width != 0.1:
        parts.append(f"at least {options.min_width:.0%} of a width")
    if options.no_per_cost:
        parts.append("by score alone")
    if options.refit:
        parts.append("refitted" if options.refit == 512 else f"refitted on {options.refit}")
    if options.rounds > 1:
        parts.append(f"{options.rounds} rounds")
    return ", ".join(parts)


def dense_network(file: str) -> Network:
    """Load a published CIFAR ResNet with the preprocessing it was trained with."""
    network = load_model(Path(file)).network
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    network.preprocess = Preprocess(size=(32, 32), mean=mean, std=std)
    return network


def run_arm(
    arm: str,
    dense: Network,
    data: Any,
    config: PruneConfig,
    context: RunContext,
) -> dict[str, Any]:
    """Cut and train one network; returns it with what was measured."""
    start = time.perf_counter()
    if arm == "ours":
        result = prune_network(dense, data, config, context)
        found = {stage: own.top1_pct for stage, own in (result.accuracies or {}).items()}
        network = result.network
        epochs = config.training.epochs + config.rounds.count - 1
    else:
        trainer = Trainer(dense, data, config, context)
        cut = _cut_by(arm, trainer)
        epochs = config.training.epochs
        if arm != "torch-pruning":  # it had its sparse training
            epochs += _equal_epochs(dense, cut, config.sparse.epochs)
        seen = {"dense": dense, "cut": copy.deepcopy(cut)}
        trainer.calibrate(cut)
        seen["calibrated"] = copy.deepcopy(cut)
        trainer.train(
            cut,
            replace(config.training, epochs=epochs),
            arm,
            stage=0,
            checkpoints=context.checkpoints and context.checkpoints / "tuned",
        )
        seen["tuned"] = network = cut
        found = {stage: trainer.accuracy(own, "test").top1_pct for stage, own in seen.items()}
    costs, full = count_costs(network), count_costs(dense)
    return {
        "network": network.cpu(),
        "top1_pct": found,
        "params": costs.params,
        "macs": costs.macs,
        "params_share": costs.params / full.params,
        "macs_share": costs.macs / full.macs,
        "images": len(data.train),
        "lr": config.training.lr,
        "epochs": epochs,
        "sparse_epochs": config.sparse.epochs if arm in ("ours", "torch-pruning") else 0,
        "seconds": time.perf_counter() - start,
    }


def _equal_epochs(dense: Network, cut: Network, sparse_epochs: int) -> int:
    """Epochs on the cut network that cost what so many cost on the dense one; in their favour.

    A step costs three passes of the network and one of the teacher, which is the dense one.
    """
    full, own = count_costs(dense).macs, count_costs(cut).macs
    return math.ceil(sparse_epochs * (3 * full + full) / (3 * own + full))


def _cut_by(arm: str, trainer: Trainer[PruneConfig]) -> Network:
    dense, config = trainer.teacher, trainer.config
    if arm == "torch-pruning":
        return group_norm_network(trainer)
    channels = channel_groups(dense)
    if arm == "taylor":
        scores = score_channels(
            dense,
            channels,
            trainer.data,
            replace(config, saliency=replace(config.saliency, kind="taylor")),
            trainer.context.sink,
        )
        constraints = Constraints(config.limits)
    else:
        scores = _l1_norms(dense, channels)
        streams = residual_streams(channels) if config.keep_streams else frozenset()
        constraints = Constraints(
            config.limits, keep=config.keep, allocation="even", streams=streams
        )
    plan = make_plan(channels, CostModel(dense, channels), scores, constraints)
    return apply_edit(dense, plan.edit, channels)


def _l1_norms(network: Network, channels: ChannelMap) -> dict[str, np.ndarray]:
    """L1 norm of each filter, of the layer that makes the channel."""
    norms: dict[str, np.ndarray] = {}
    for group in channels.prunable:
        producer = next(m for m in group.members if m.dim == 0)
        weight = network.tensor(producer.tensor).detach()
        own = weight.abs().flatten(1).sum(1)[torch.from_numpy(producer.positions[:, 0])]
        norms[group.name] = own.numpy()
    return norms


if __name__ == "__main__":
    main()
