"""What the flags of ``nnslim prune`` come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from nnslim.errors import ConfigError
from nnslim.pruning import (
    LatencyConfig,
    Limit,
    PruneConfig,
    RegularizerConfig,
    RoundConfig,
    SaliencyConfig,
    SparseConfig,
)
from nnslim.settings.parse import parse_align, parse_counts, parse_latency, parse_limit
from nnslim.settings.profiles import Profile, profile_named
from nnslim.train import TrainConfig

if TYPE_CHECKING:
    from nnslim.settings.budget import Metric

__all__ = ["prune_settings"]

# Epochs of sparse training where a penalty is named and nothing says for how long.
_PENALTY_EPOCHS = 2


def prune_settings(flags: Mapping[str, Any]) -> PruneConfig:
    """Turn the flags of ``nnslim prune``, by parameter name, into the configuration of a run.

    Raises:
        ConfigError: Flags that contradict each other, or a value outside its range.
    """
    _check_effect(flags)
    effort = _effort(flags, profile_named(flags["profile"]))
    metrics: dict[str, Metric] = {"params": "params", "macs": "macs", "size": "bytes"}
    limits: dict[Metric, Limit] = {
        metric: parse_limit(flags[flag], f"--{flag}")
        for flag, metric in metrics.items()
        if flags[flag]
    }
    return PruneConfig(
        limits=limits if limits or flags["latency"] else {"params": Limit(0.5, relative=True)},
        min_width=parse_limit(flags["min_width"], "--min-width"),
        keep=tuple(flags["keep"] or ()),
        keep_streams=effort.keep_streams,
        allocation=effort.allocation,
        per_cost=flags["per_cost"],
        align=parse_align(flags["align"], "--align"),
        latency=LatencyConfig(
            parse_latency(flags["latency"], "--latency") if flags["latency"] else None,
            parse_counts(flags["latency_batch"], "--latency-batch"),
        ),
        approximate=flags["approximate"],
        shrink=flags["shrink"],
        max_drop=_max_drop(flags),
        saliency=SaliencyConfig(effort.saliency, effort.samples, flags["augment_samples"]),
        sparse=_sparse(flags, effort),
        rounds=RoundConfig(effort.rounds, effort.recovery_epochs),
        train=_training(flags, effort),
        batch_size=flags["batch_size"],
        refit_images=flags["refit"],
        recalibrate_batches=flags["recalibrate"],
        seed=flags["seed"],
    )


def _check_effect(flags: Mapping[str, Any]) -> None:
    """Refuse what would be passed over."""
    if flags["strength"] != "auto" and flags["regularizer"] == "fading":
        raise ConfigError(
            f"--strength {flags['strength']}: fading has none",
            hint="name a penalty with --regularizer",
        )
    if flags["rounds"] is not None and flags["max_drop"] is not None:
        raise ConfigError(
            f"--rounds {flags['rounds']}: --max-drop takes as many rounds as it needs",
            hint="give one",
        )


def _effort(flags: Mapping[str, Any], profile: Profile) -> Profile:
    """The profile, where flags do not say otherwise; without images nothing is trained."""
    names = [own.name for own in fields(Profile)]
    given = {name: flags[name] for name in names if flags[name] is not None}
    if flags["data"]:
        if flags["regularizer"] != "fading":  # who names a penalty wants it used
            given.setdefault("sparse_epochs", max(profile.sparse_epochs, _PENALTY_EPOCHS))
        if flags["latency"] or flags["align"] == "auto":
            given.setdefault("rounds", 1)  # plans are measured once
        if flags["max_drop"] is not None:
            given.setdefault("recovery_epochs", max(profile.recovery_epochs, 1))
            given.setdefault("sparse_epochs", 0)  # which channels will go is not known yet
        return replace(profile, **given)
    for name in ("sparse_epochs", "recovery_epochs", "epochs"):
        if given.get(name):
            flag = f"--{name.replace('_', '-')} {given[name]}"
            raise ConfigError(f"{flag}: there are no images to train on", hint="give --data")
    if given.get("rounds", 1) > 1:
        raise ConfigError(
            f"--rounds {given['rounds']}: without images there is nothing to recover with",
            hint="give --data",
        )
    idle = {
        "saliency": "magnitude",
        "allocation": "global",
        "keep_streams": False,
        "sparse_epochs": 0,
        "rounds": 1,
        "recovery_epochs": 0,
    }
    return replace(profile, **{**idle, "epochs": 0, **given})


def _max_drop(flags: Mapping[str, Any]) -> float | None:
    budgets = [f"--{name}" for name in ("params", "macs", "size", "latency") if flags[name]]
    if flags["max_drop"] is not None and budgets:
        raise ConfigError(
            f"--max-drop prunes as far as it allows, {budgets[0]} says how far", hint="give one"
        )
    if flags["max_drop"] is not None and not flags["data"]:
        raise ConfigError("--max-drop is judged on validation images", hint="give --data")
    return flags["max_drop"]


def _sparse(flags: Mapping[str, Any], effort: Profile) -> SparseConfig:
    regularizer = None if flags["regularizer"] == "fading" else _regularizer(flags)
    return SparseConfig(
        effort.sparse_epochs, flags["sparse_lr"], flags["focus"], regularizer=regularizer
    )


def _regularizer(flags: Mapping[str, Any]) -> RegularizerConfig:
    strength: str = flags["strength"]
    try:
        factor = "auto" if strength == "auto" else float(strength)
    except ValueError as error:
        raise ConfigError(f"--strength {strength}: give auto or a number") from error
    return RegularizerConfig(
        flags["regularizer"],
        flags["regularizer_axis"],
        strength=factor,
        ratio=flags["strength_ratio"],
    )


def _training(flags: Mapping[str, Any], effort: Profile) -> TrainConfig:
    return TrainConfig(
        epochs=effort.epochs,
        lr=flags["lr"],
        schedule=flags["schedule"],
        label_smoothing=flags["label_smoothing"],
        distill_weight=effort.alpha if flags["distill"] else 0.0,
        temperature=flags["temperature"],
        grad_clip=flags["grad_clip"],
        precision=flags["precision"],
        ema=flags["ema"],
        compile="auto" if flags["compile"] is None else flags["compile"],
        seed=flags["seed"],
    )
