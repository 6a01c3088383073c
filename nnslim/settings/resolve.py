"""From what was said to what holds: after ``resolved`` nothing is left for later to decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from nnslim.errors import ConfigError
from nnslim.settings.budget import Limit
from nnslim.settings.grow import GrowConfig
from nnslim.settings.option import AUTO
from nnslim.settings.prune import PruneConfig
from nnslim.settings.train import TrainConfig
from nnslim.settings.tree import value_at, with_values

__all__ = ["PROFILES", "decisions", "resolved"]

Settings = TypeVar("Settings", PruneConfig, GrowConfig, TrainConfig)
Decisions = dict[str, tuple[object, str]]

_BALANCED: Mapping[str, object] = {
    "saliency.kind": "jacobian",
    "saliency.samples": 512,
    "allocation": "global",
    "keep_streams": False,
    "sparse.epochs": 0,
    "rounds.count": 1,
    "rounds.epochs": 1,
    "training.epochs": 13,
    "training.distill_weight": 0.5,
}
# What each profile does where nothing else is said; docs/results has the figures.
PROFILES: Mapping[str, Mapping[str, object]] = {
    "fast": {**_BALANCED, "rounds.epochs": 0, "training.epochs": 3},
    "balanced": _BALANCED,
    "best": {
        **_BALANCED,
        "saliency.kind": "magnitude",
        "allocation": "even",
        "keep_streams": True,
        "training.epochs": 30,
        "training.distill_weight": 0.9,
    },
}
_WITHOUT_IMAGES: Mapping[str, object] = {
    "saliency.kind": "magnitude",
    "allocation": "global",
    "keep_streams": False,
    "sparse.epochs": 0,
    "rounds.count": 1,
    "rounds.epochs": 0,
    "training.epochs": 0,
    "refit_images": 0,
    "recalibrate_batches": 0,
}
# Epochs of sparse training where a penalty is named and nothing says for how long.
_PENALTY_EPOCHS = 2
# Images that weights are fitted on where no training follows, which ends better without.
_FITTED_ON = 512


def resolved(settings: Settings, has_images: bool = True, *, has_seed: bool = False) -> Settings:
    """Return settings in which every ``AUTO`` is decided, and every number stands.

    Args:
        settings: Of a run, as somebody wrote them.
        has_images: Whether there are images to score and train on.
        has_seed: Of a growing run: whether the network to plant into is given.

    Raises:
        ConfigError: Training is asked for and there are no images.

    Example:
        >>> resolved(PruneConfig()).training.epochs, resolved(PruneConfig(), False).training.epochs
        (13, 0)
    """
    values = {path: v for path, (v, _) in decisions(settings, has_images, has_seed).items()}
    result = with_values(settings, values)
    if not isinstance(settings, TrainConfig):
        result = replace(result, training=replace(result.training, seed=result.seed))
    return result


def decisions(settings: object, has_images: bool, has_seed: bool = False) -> Decisions:
    """Return value and reason of every ``AUTO`` setting, by path."""
    match settings:
        case PruneConfig():
            decided = _pruning(settings, has_images=has_images)
        case GrowConfig():
            decided = _growing(settings, has_seed=has_seed)
        case TrainConfig():
            decided = {path.removeprefix("training."): pair for path, pair in _TRAINING.items()}
        case _:
            decided = {}
    return {path: pair for path, pair in decided.items() if value_at(settings, path) is AUTO}


_TRAINING: Decisions = {
    "training.epochs": (_BALANCED["training.epochs"], "default"),
    "training.distill_weight": (0.5, "default"),
    "training.lr": (0.05, "default"),
    "training.optimizer": ("sgd", "default"),
    "training.compile": ("auto", "default"),
}


def _pruning(config: PruneConfig, *, has_images: bool) -> Decisions:
    decided = dict(_TRAINING)
    profile = PROFILES[config.profile]
    decided |= {path: (value, f"profile {config.profile}") for path, value in profile.items()}
    measured = config.latency.budget is not None or config.max_drop is not None
    half = {} if measured else {"params": Limit(0.5, relative=True)}
    decided["limits"] = (half, "default")
    if has_images:
        decided |= _with_images(config, profile)
    else:
        _refuse_training(config)
        decided |= {path: (value, "no images") for path, value in _WITHOUT_IMAGES.items()}

    def final(path: str) -> object:
        given = value_at(config, path)
        return decided[path][0] if given is AUTO else given

    from_data = final("saliency.kind") != "magnitude"
    decided["per_cost"] = (from_data, f"saliency {final('saliency.kind')}")
    if has_images:
        recovers = final("rounds.epochs") and (
            final("rounds.count") != 1 or config.max_drop is not None
        )
        trains = bool(final("training.epochs") or recovers)
        why = "training follows" if trains else "no training follows"
        decided["refit_images"] = (0 if trains else _FITTED_ON, why)
        decided["recalibrate_batches"] = (50, "default")
    return decided


def _with_images(config: PruneConfig, profile: Mapping[str, object]) -> Decisions:
    """What follows from a penalty, a measured plan or a largest drop."""
    decided: Decisions = {}
    if not config.sparse.fades:  # who names a penalty wants it used
        epochs = max(int(str(profile["sparse.epochs"])), _PENALTY_EPOCHS)
        decided["sparse.epochs"] = (epochs, f"penalty {config.sparse.regularizer.name}")
    if config.measures_plans:
        decided["rounds.count"] = (1, "plans are measured once")
    if config.max_drop is not None:
        epochs = max(int(str(profile["rounds.epochs"])), 1)
        decided["rounds.epochs"] = (epochs, "max_drop judges recovered networks")
        # Which channels will go is not known beforehand.
        decided["sparse.epochs"] = decided.get("sparse.epochs", (0, "max_drop"))
    return decided


def _refuse_training(config: PruneConfig) -> None:
    for path in ("sparse.epochs", "rounds.epochs", "training.epochs"):
        if (epochs := value_at(config, path)) not in {0, AUTO}:
            raise ConfigError(
                f"[[{path}={epochs}]]: there are no images to train on", hint="give [[data]]"
            )
    if config.rounds.count is not AUTO and config.rounds.count > 1:
        raise ConfigError(
            f"[[rounds.count={config.rounds.count}]]: without images there is nothing to recover"
            " with",
            hint="give [[data]]",
        )
    if config.max_drop is not None:
        raise ConfigError("[[max_drop]] is judged on validation images", hint="give [[data]]")


def _growing(config: GrowConfig, *, has_seed: bool) -> Decisions:
    everywhere, seed = config.where == "everywhere", config.seed_network
    given = [value for value in (seed.width, seed.share) if value is not AUTO and value is not None]
    if len(given) > 1:
        raise ConfigError(
            "[[seed_network.width]] and [[seed_network.share]] say the same", hint="give one"
        )
    fifth = {} if config.latency is not None else {"params": Limit(0.2, relative=True)}
    limits = fifth if config.limits is AUTO else config.limits
    one_round = everywhere and config.growth is AUTO and bool(limits)
    two = Limit(2, relative=False) if one_round and seed.share is AUTO else None
    two = two if seed.width is AUTO else seed.width
    init = "random" if has_seed else "teacher"
    starts = init if config.init is AUTO else config.init
    optimizer = "sgd" if everywhere else "adamw"
    if config.training.optimizer is not AUTO:
        optimizer = config.training.optimizer
    where = f"where {config.where}"
    return {
        "limits": (fifth, "default"),
        "growth": (Limit(10.0 if one_round else 0.25, relative=True), where),
        "init": (init, "a seed is given" if has_seed else "default"),
        "seed_network.width": (two, where),
        "seed_network.share": (None if two else 0.6, "default"),
        "seed_network.epochs": (0 if one_round and starts == "teacher" else 10, where),
        "training.optimizer": (optimizer, where),
        "training.epochs": (15 if everywhere else 2, where),
        "training.lr": ({"sgd": 0.1, "adamw": 0.03}[optimizer], f"optimizer {optimizer}"),
        "training.distill_weight": (0.5, "default"),
        "training.compile": (False, "growing"),
    }
