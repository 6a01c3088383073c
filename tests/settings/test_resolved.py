"""After ``resolved`` nothing is left for later, and what was said stands."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nnslim.errors import ConfigError
from nnslim.settings.budget import LatencyBudget, Limit
from nnslim.settings.grow import GrowConfig
from nnslim.settings.option import AUTO
from nnslim.settings.prune import PruneConfig
from nnslim.settings.resolve import PROFILES, decisions, resolved
from nnslim.settings.train import TrainConfig
from nnslim.settings.tree import settings_of, value_at, with_values

# Values that decide others, or that others decide; each is said or not.
PRUNE = {
    "profile": st.sampled_from(sorted(PROFILES)),
    "params": st.just(Limit(0.3, relative=True)),
    "latency.budget": st.just(LatencyBudget(0.6, relative=True)),
    "max_drop": st.just(1.0),
    "align": st.sampled_from([8, "auto"]),
    "saliency.kind": st.sampled_from(["magnitude", "loss"]),
    "sparse.epochs": st.integers(0, 2),
    "sparse.focus": st.just(False),
    "sparse.regularizer.name": st.just("group_lasso"),
    "rounds.count": st.integers(1, 3),
    "rounds.epochs": st.integers(0, 2),
    "training.epochs": st.integers(0, 3),
    "training.compile": st.booleans(),
    "per_cost": st.booleans(),
    "refit_images": st.integers(0, 9),
    "seed": st.integers(0, 9),
}
GROW = {
    "params": st.just(Limit(0.3, relative=True)),
    "latency": st.just(LatencyBudget(0.6, relative=True)),
    "where": st.sampled_from(["group", "everywhere"]),
    "growth": st.just(Limit(0.5, relative=True)),
    "init": st.sampled_from(["teacher", "random"]),
    "rounds": st.integers(0, 3),
    "seed_network.width": st.sampled_from([None, Limit(4, relative=False)]),
    "seed_network.share": st.just(0.4),
    "seed_network.epochs": st.integers(0, 2),
    "training.optimizer": st.sampled_from(["sgd", "adamw"]),
    "training.epochs": st.integers(0, 3),
    "seed": st.integers(0, 9),
}


def said(values):
    """Some of the values, by path."""
    return st.fixed_dictionaries({}, optional=values)


def undecided(value, path=""):
    """Paths at which something is still to be decided, in fields and mappings."""
    if isinstance(value, Enum):
        return [path]
    inner = {}
    if is_dataclass(value):
        inner = {own.name: getattr(value, own.name) for own in fields(value)}
    elif isinstance(value, dict):
        inner = value
    elif isinstance(value, tuple):
        inner = dict(enumerate(value))
    return [left for name, own in inner.items() for left in undecided(own, f"{path}.{name}")]


def decided(config, values, *has):
    """The settings with the values, as they were said and as they are decided."""
    try:
        settings = with_values(config, values)
        return settings, resolved(settings, *has)
    except ConfigError:
        assume(False)


def check(settings, result, *has):
    assert undecided(result) == []
    assert resolved(result, *has) == result
    for setting in settings_of(type(settings)):
        said = value_at(settings, setting.path)
        if said is not AUTO and setting.path not in {"params", "macs", "size"}:
            assert value_at(result, setting.path) == said
    if settings.limits is not AUTO:
        assert result.limits == settings.limits
    assert result.training.seed == settings.seed


@given(said(PRUNE), st.booleans())
def test_prune_is_decided_once_and_for_all(values, has_images):
    settings, result = decided(PruneConfig(), values, has_images)
    check(settings, result, has_images)
    if not has_images:
        trained = (result.training.epochs, result.sparse.epochs, result.rounds.epochs)
        assert trained == (0, 0, 0)


@given(said(GROW))
def test_grow_is_decided_once_and_for_all(values):
    settings, result = decided(GrowConfig(), values)
    check(settings, result)
    width, share = result.seed_network.width, result.seed_network.share
    assert (width is None) != (share is None) or values.get("seed_network.width", 0) is None


@given(st.booleans(), st.integers(1, 9))
def test_a_training_is_decided_too(has_images, epochs):
    result = resolved(TrainConfig(epochs=epochs), has_images)
    assert undecided(result) == []
    assert resolved(result) == result
    assert result.epochs == epochs


@pytest.mark.parametrize("config", [PruneConfig(), GrowConfig(), TrainConfig()])
def test_every_decision_has_a_reason_and_decides_what_is_open(config):
    found = decisions(config, has_images=True)
    open_ = {own.path for own in settings_of(type(config)) if value_at(config, own.path) is AUTO}
    budgets = {"params", "macs", "size"} & open_
    assert set(found) - {"limits"} == open_ - budgets
    assert ("limits" in found) == bool(budgets)
    assert all(reason for _, reason in found.values())
