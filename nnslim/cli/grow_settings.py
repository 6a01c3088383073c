"""What the flags of ``nnslim grow`` come to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnslim.errors import ConfigError
from nnslim.growing import GrowConfig, SeedConfig
from nnslim.settings.budget import Limit
from nnslim.settings.parse import parse_count, parse_latency, parse_limit
from nnslim.train import TrainConfig

if TYPE_CHECKING:
    from nnslim.settings.budget import Metric

__all__ = ["grow_settings"]


def grow_settings(flags: Mapping[str, Any]) -> GrowConfig:
    """Turn the flags of ``nnslim grow``, by parameter name, into the configuration of a run.

    Raises:
        ConfigError: A value outside its range.
    """
    metrics: dict[str, Metric] = {"params": "params", "macs": "macs", "size": "bytes"}
    limits: dict[Metric, Limit] = {
        metric: parse_limit(flags[flag], f"--{flag}")
        for flag, metric in metrics.items()
        if flags[flag]
    }
    few, width = flags["candidates"], flags["seed_width"]
    share = parse_limit(flags["seed_share"], "--seed-share") if flags["seed_share"] else None
    if share and not share.relative:
        raise ConfigError(
            f"--seed-share {flags['seed_share']}: not a share", hint="write one such as 60%"
        )
    if share and width:
        raise ConfigError(
            f"--seed-width {width} and --seed-share {flags['seed_share']} say the same",
            hint="give one",
        )
    return GrowConfig(
        limits=limits if limits or flags["latency"] else {"params": Limit(0.2, relative=True)},
        latency=parse_latency(flags["latency"], "--latency") if flags["latency"] else None,
        seed_network=SeedConfig(
            parse_limit(width, "--seed-width") if width else None,
            share.amount if share else None,
            flags["seed_epochs"],
            flags["seed_lr"],
        ),
        growth=parse_limit(flags["growth"], "--growth") if flags["growth"] else None,
        where=flags["where"],
        wiring=flags["wiring"],
        candidates=None if few == "all" else parse_count(few, "--candidates"),
        rounds=flags["rounds"],
        patience=flags["patience"],
        target_top1=flags["target_accuracy"],
        initialisation=flags["init"],
        teacher_order=flags["teacher_order"],
        gain=flags["gain"],
        per_cost=flags["per_cost"],
        train=_training(flags),
        polish_epochs=flags["polish_epochs"],
        polish_lr=flags["polish_lr"],
        batch_size=flags["batch_size"],
        recalibrate_batches=flags["recalibrate"],
        seed=flags["seed"],
    )


def _training(flags: Mapping[str, Any]) -> TrainConfig:
    """Training of candidates; one for all groups can be longer, and SGD does it best."""
    everywhere = flags["where"] == "everywhere"
    optimizer = flags["optimizer"] or ("sgd" if everywhere else "adamw")
    rate = {"sgd": 0.1, "adamw": 0.03}[optimizer]
    return TrainConfig(
        epochs=flags["epochs"] or (15 if everywhere else 2),
        lr=rate if flags["lr"] is None else flags["lr"],
        optimizer=optimizer,
        distill_weight=flags["alpha"],
        temperature=flags["temperature"],
        precision=flags["precision"],
        compile=False,
        seed=flags["seed"],
    )
