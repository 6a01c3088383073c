"""Pruning from end to end: score, plan, cut, check, recalibrate, fine-tune.

scores ──► plan ──► cut network (checked) ──► recalibrated ──► fine-tuned
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnslim.channels import channel_groups
from nnslim.data import Loader, stratified_indices
from nnslim.errors import ConfigError
from nnslim.prune.budget import CostModel
from nnslim.prune.config import PruneConfig, SaliencyConfig
from nnslim.prune.picture import picture_json
from nnslim.prune.plan import Plan, make_plan
from nnslim.prune.recovery import Accuracies, Recovery, Surroundings
from nnslim.prune.saliency import magnitude, measured, taylor
from nnslim.surgery import CutCheck, apply_edit, verify_cut
from nnslim.version import __version__

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.data import Data, Preprocess
    from nnslim.network.network import Network
    from nnslim.prune.saliency import Scores
    from nnslim.train import FitResult, Recalibration

__all__ = ["PruneResult", "plan_pruning", "prune_network"]


@dataclass(frozen=True)
class PruneResult:
    """What a run made.

    Attributes:
        network: The pruned network, in eval mode.
        plan: What was removed.
        layers: The layers of the dense network with their widths before and after.
        check: The proof that the cut network equals the masked one.
        accuracies: Along the way; None without data.
        recalibration: What was re-estimated after the removal, or None.
        training: Fine-tuning; None when there was none.
        warnings: What the user should know.
    """

    network: Network
    plan: Plan
    layers: tuple[dict[str, object], ...]
    check: CutCheck
    accuracies: Accuracies | None
    recalibration: Recalibration | None
    training: FitResult | None
    warnings: tuple[str, ...]


def plan_pruning(
    network: Network, data: Data | None, config: PruneConfig, around: Surroundings | None = None
) -> tuple[ChannelMap, Plan]:
    """Score the channels and plan their removal, without changing anything.

    Raises:
        ConfigError: The budget cannot be reached, a layer to keep does not exist, or the saliency
            needs data and there is none.
        InputError: Data and network do not fit.
    """
    around = around or Surroundings()
    channels = channel_groups(network, shrink=config.shrink)
    scores = _scores(network.to(around.device), channels, data, config, around)
    return channels, make_plan(channels, CostModel(network, channels), scores, config.rules)


def prune_network(
    network: Network,
    data: Data | None = None,
    config: PruneConfig | None = None,
    around: Surroundings | None = None,
) -> PruneResult:
    """Prune a network to a budget.

    Args:
        network: The dense network, which is only moved to the device; its ``preprocess`` is used
            where it has one, else the data's default.
        data: Labelled images; without them the network is cut by weight magnitude and neither
            measured nor fine-tuned.
        config: Budgets, saliency and fine-tuning.
        around: Device, messages, checkpoints.

    Raises:
        ConfigError: A setting cannot be used; see ``plan_pruning``.
        InputError: Data and network do not fit.
        VerificationError: The cut network is not the masked one; nothing was trained.

    Example:
        >>> import torch; from torch import nn; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> config = PruneConfig(saliency=SaliencyConfig("magnitude"))
        >>> result = prune_network(trace_network(model, torch.zeros(2, 3, 8, 8)), config=config)
        >>> result.plan.before.params, result.plan.after.params
        (516, 196)
    """
    config, around = config or PruneConfig(), around or Surroundings()
    sink = around.sink
    channels, plan = plan_pruning(network, data, config, around)
    sink.info(_summary(plan))
    cut = apply_edit(network, plan.edit, channels)
    check = verify_cut(network, cut, channels, plan.edit, config.seed)
    sink.info(f"cut network = masked network: largest difference {check.error:.1e} in float64")
    warnings: list[str] = []
    if data is None:
        warnings.append("no data: accuracy was neither measured nor recovered")
        sink.warn(warnings[0])
        accuracies = recalibration = training = None
    else:
        found = Recovery(network, cut, data, config, around).run()
        accuracies, recalibration, training = found
        if accuracies.split != "test":
            warnings.append("no test images: accuracy is that of the validation images")
            sink.warn(warnings[-1])
    final = _with_history(cut, network, plan, config)
    layers = tuple(picture_json(network, channels, plan))
    return PruneResult(
        final, plan, layers, check, accuracies, recalibration, training, tuple(warnings)
    )


def _scores(
    network: Network,
    channels: ChannelMap,
    data: Data | None,
    config: PruneConfig,
    around: Surroundings,
) -> Scores:
    saliency = config.saliency
    if saliency.kind == "magnitude":
        return magnitude(network, channels)
    if data is None:
        raise ConfigError(
            f"--saliency {saliency.kind} measures on images and there are none",
            hint="give --data, or take --saliency magnitude",
        )
    preprocess = network.preprocess or data.preprocess
    batches = list(_sample(data, preprocess, saliency, config.seed))
    if saliency.kind == "taylor":
        return taylor(network, channels, batches)
    total = sum(group.width for group in channels.prunable)
    label = f"measuring {total} channels on {min(saliency.samples, len(data.train))} images"
    with around.sink.progress(label, total * len(batches)) as progress:
        done = 0

        def advance(now: int, _: int) -> None:
            nonlocal done
            progress.advance(now - done)
            done = now

        return measured(network, channels, batches, saliency.kind, advance)


def _sample(data: Data, preprocess: Preprocess, saliency: SaliencyConfig, seed: int) -> Loader:
    """Random training images, every class with its share."""
    chosen = stratified_indices(
        data.train.labels, min(saliency.samples, len(data.train)), seed=seed
    )
    augment = data.augment if saliency.augment else None
    split = data.train.subset(chosen)
    return Loader(split, preprocess, saliency.batch_size, augment=augment, shuffle=True, seed=seed)


def _summary(plan: Plan) -> str:
    cut = sum(1 for row in plan.rows if row.after < row.before)
    params, macs = (
        plan.after.params / plan.before.params,
        plan.after.macs / max(plan.before.macs, 1),
    )
    return (
        f"{cut} of {len(plan.rows)} channel groups cut:"
        f" {plan.before.params:,} -> {plan.after.params:,} parameters ({100 * params:.1f}%),"
        f" {plan.before.macs:,} -> {plan.after.macs:,} MACs ({100 * macs:.1f}%)"
    )


def _with_history(cut: Network, network: Network, plan: Plan, config: PruneConfig) -> Network:
    entry: dict[str, object] = {
        "step": "prune",
        "nnslim": __version__,
        "saliency": config.saliency.kind,
        "seed": config.seed,
        "epochs": config.train.epochs,
        "params": [plan.before.params, plan.after.params],
        "macs": [plan.before.macs, plan.after.macs],
        "widths": {
            row.group.name: [row.before, row.after] for row in plan.rows if row.after < row.before
        },
    }
    cut.history = (*network.history, entry)
    return cut.cpu().eval()
