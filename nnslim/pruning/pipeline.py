"""Pruning from end to end: plan it, or run it; without images, cut and nothing more."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from nnslim.channels import channel_groups
from nnslim.errors import ConfigError
from nnslim.pruning.course import PruneCourse
from nnslim.pruning.drop import DropCourse
from nnslim.pruning.picture import picture_json
from nnslim.pruning.plans.planner import Planned, Planner
from nnslim.pruning.result import PruneResult
from nnslim.pruning.rounds import overall_plan, remove_and_verify
from nnslim.run.context import RunContext
from nnslim.run.stages import Stages
from nnslim.run.trainer import Trainer
from nnslim.settings.prune import PruneConfig
from nnslim.settings.resolve import resolved
from nnslim.train.checks import require_finite
from nnslim.train.runtime import check_precision
from nnslim.version import __version__

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.data import Data
    from nnslim.network.network import Network
    from nnslim.pruning.plans.plan import Plan

__all__ = ["plan_pruning", "prune_network"]


def plan_pruning(
    network: Network, data: Data | None, config: PruneConfig, context: RunContext | None = None
) -> tuple[ChannelMap, Planned]:
    """Score the channels and plan their removal in one step, without changing anything.

    Raises:
        ConfigError: The budget cannot be reached, a layer to keep does not exist, or the saliency
            needs data and there is none.
        InputError: Data and network do not fit.
    """
    context, config = context or RunContext(), resolved(config, data is not None)
    if config.max_drop is not None:
        raise ConfigError(
            "[[max_drop]] is judged on trained networks, so there is no plan to show beforehand",
            hint="give [[params]] or [[macs]] with [[dry_run]]",
        )
    channels = channel_groups(network, shrink=config.shrink)
    planner = Planner(network, channels, data, config, context)
    return channels, planner.plan(network.to(context.device), channels, config.limits)


def prune_network(
    network: Network,
    data: Data | None = None,
    config: PruneConfig | None = None,
    context: RunContext | None = None,
) -> PruneResult:
    """Prune a network to a budget.

    Args:
        network: The dense network, which is only moved to the device; its ``preprocess`` is used
            where it has one, else the data's default.
        data: Labelled images; without them the network is cut by weight magnitude, in one round,
            and neither measured nor trained.
        config: Budgets, saliency, sparse training, rounds and fine-tuning.
        context: Device, messages, checkpoints.

    Raises:
        ConfigError: A setting cannot be used; see ``plan_pruning``.
        InputError: Data and network do not fit, or no image can measure accuracy.
        VerificationError: The cut network is not the masked one; nothing was trained.

    Example:
        >>> import torch; from torch import nn; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> result = prune_network(trace_network(model, torch.zeros(2, 3, 8, 8)))
        >>> result.plan.before.params, result.plan.after.params
        (516, 196)
    """
    config = resolved(config or PruneConfig(), data is not None)
    context = context or RunContext()
    if data is None:
        return _without_data(network, config, context)
    return _on_images(network, data, config, context)


def _on_images(
    network: Network, data: Data, config: PruneConfig, context: RunContext
) -> PruneResult:
    split = data.measured
    channels = channel_groups(network, shrink=config.shrink)
    trainer = Trainer(network.to(context.device), data, config, context)
    stages = Stages(context.checkpoints, _identity(trainer), network.graph.custom)
    planner = Planner(network, channels, data, config, context)
    planner.check_limits()
    require_finite(network, "the network")
    check_precision(context.device, config.training.precision)
    stages.begin()
    course_type = PruneCourse if config.max_drop is None else DropCourse
    course = course_type(trainer, planner, stages)
    course.run()
    if split != "test":
        course.warnings.append("no test images: accuracy is that of the validation images")
    for warning in course.warnings:
        context.sink.warn(warning)
    accuracies = {name: trainer.accuracy(seen, split) for name, seen in course.seen.items()}
    plan = overall_plan(planner, course.cuts)
    return PruneResult(
        _with_history(course.current, network, plan, config),
        config,
        plan,
        tuple(picture_json(channels, plan)),
        tuple(cut.check for cut in course.cuts),
        split,
        accuracies,
        tuple(course.stages),
        tuple(course.training),
        tuple(course.warnings),
        course.planned,
    )


def _identity(trainer: Trainer[PruneConfig]) -> dict[str, object]:
    """What the stages before the fine-tuning depend on; its length and rate are in its name."""
    config = trainer.config
    training = {**asdict(config.training), "epochs": None, "lr": None}
    return {**asdict(config), "training": training, **trainer.identity()}


def _without_data(network: Network, config: PruneConfig, context: RunContext) -> PruneResult:
    channels, planned = plan_pruning(network, None, config, context)
    plan = planned.plan
    cut = remove_and_verify(network, channels, plan, config.seed)
    context.sink.info(f"cut: {plan.after.params:,} parameters, {plan.after.macs:,} MACs")
    warnings = (*planned.warnings, "no data: accuracy was neither measured nor recovered")
    for warning in warnings:
        context.sink.warn(warning)
    return PruneResult(
        _with_history(cut.network, network, plan, config),
        config,
        plan,
        tuple(picture_json(channels, plan)),
        (cut.check,),
        warnings=warnings,
        planned=planned.to_json(),
    )


def _with_history(cut: Network, network: Network, plan: Plan, config: PruneConfig) -> Network:
    entry: dict[str, object] = {
        "step": "prune",
        "nnslim": __version__,
        "saliency": config.saliency.kind,
        "seed": config.seed,
        "sparse_epochs": config.sparse.epochs,
        "refit_images": config.refit_images,
        "rounds": config.rounds.count,
        "epochs": config.training.epochs,
        "params": [plan.before.params, plan.after.params],
        "macs": [plan.before.macs, plan.after.macs],
        "widths": {
            row.group.name: [row.before, row.after] for row in plan.rows if row.after < row.before
        },
    }
    cut.history = (*network.history, entry)
    return cut.cpu().eval()
