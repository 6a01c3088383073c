"""Plans: the budget is met, by no more than it takes, and what is protected stays."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnslim.channels import ChannelMap, channel_groups, residual_streams
from nnslim.errors import ConfigError, InputError
from nnslim.measure.cost_model import CostModel
from nnslim.measure.macs import count_costs
from nnslim.pruning.plans.plan import Constraints, Plan, make_plan
from nnslim.settings.budget import Limit
from nnslim.surgery import apply_edit
from tests.network.nets import NETS, traced


@cache
def facts(name: str) -> tuple[ChannelMap, CostModel]:
    network = traced(name)
    channels = channel_groups(network)
    return channels, CostModel(network, channels)


def random_scores(name: str, seed: int) -> dict[str, np.ndarray]:
    """Different scores over three orders of magnitude, some of them negative."""
    generator = np.random.default_rng(seed)
    channels, _ = facts(name)
    return {
        g.name: generator.normal(size=g.width) * 10 ** generator.uniform(-2, 1)
        for g in channels.prunable
    }


def share(amount: float) -> Limit:
    return Limit(amount, relative=True)


@st.composite
def cases(draw):
    """A network, scores, and rules that can be met."""
    name = draw(st.sampled_from(sorted(NETS)))
    metrics = draw(st.sampled_from([("params",), ("macs",), ("size",), ("params", "macs", "size")]))
    amounts = st.floats(0.55, 1.0)
    constraints = Constraints(
        {metric: share(draw(amounts)) for metric in metrics},
        min_width=draw(st.sampled_from([share(0.0), share(0.25), Limit(2, relative=False)])),
        approximate=True,
        per_cost=draw(st.booleans()),
    )
    return name, random_scores(name, draw(st.integers(0, 9999))), constraints


def plan_of(name: str, scores: dict[str, np.ndarray], constraints: Constraints) -> Plan:
    return make_plan(*facts(name), scores, constraints)


def cost_weights(costs: CostModel, constraints: Constraints) -> dict[str, float]:
    """What a channel of each group costs, as a share of the whole, from the definition."""
    if not constraints.per_cost:
        return dict.fromkeys(costs.names, 1.0)
    full, weights = costs.costs({}), {}
    for name, width in zip(costs.names, costs.widths.tolist(), strict=True):
        less = costs.costs({name: width - 1})
        weights[name] = sum(1 - getattr(less, m) / getattr(full, m) for m in constraints.limits)
    return weights


def removals(
    name: str, plan: Plan, scores: dict[str, np.ndarray], constraints: Constraints
) -> list[tuple[float, str]]:
    """Rank and group of every removed channel, in the order of removal."""
    weights = cost_weights(facts(name)[1], constraints)
    return sorted(
        (scores[group][channel] / weights[group], group)
        for group, keep in plan.edit.keep.items()
        for channel in set(range(len(scores[group]))) - set(keep.tolist())
    )


def meets(costs: CostModel, constraints: Constraints, widths: dict[str, int]) -> bool:
    full, found = costs.costs({}), costs.costs(widths)
    return all(
        getattr(found, m) <= limit.of(getattr(full, m)) for m, limit in constraints.limits.items()
    )


@given(cases())
def test_the_really_cut_network_meets_the_budget(case):
    name, scores, constraints = case
    plan = plan_of(name, scores, constraints)
    counted = count_costs(apply_edit(traced(name), plan.edit))
    assert counted == plan.after
    for metric, limit in constraints.limits.items():
        assert getattr(counted, metric) <= limit.of(getattr(plan.before, metric))


@given(cases())
def test_putting_back_the_last_removed_channel_breaks_a_budget(case):
    name, scores, constraints = case
    plan = plan_of(name, scores, constraints)
    removed = removals(name, plan, scores, constraints)
    if removed:
        widths = {group: len(keep) for group, keep in plan.edit.keep.items()}
        assert meets(facts(name)[1], constraints, widths)
        widths[removed[-1][1]] += 1
        assert not meets(facts(name)[1], constraints, widths)


@given(cases())
def test_what_stays_ranks_above_what_goes_unless_a_floor_keeps_it(case):
    name, scores, constraints = case
    plan = plan_of(name, scores, constraints)
    removed = removals(name, plan, scores, constraints)
    weights = cost_weights(facts(name)[1], constraints)
    last = max((rank for rank, _ in removed), default=-np.inf)
    for row in plan.rows:
        if row.reason is not None:
            continue
        floor = max(1, min(constraints.min_width.of(row.before), row.before))
        own = scores[row.group.name]
        kept = plan.edit.keep.get(row.group.name, np.arange(row.before))
        assert len(kept) == row.after >= floor
        assert set(np.argsort(own)[-len(kept) :]) == set(kept.tolist())
        if len(kept) > floor:
            assert own[kept].min() / weights[row.group.name] >= last


@given(cases(), st.sampled_from(["global", "even"]))
def test_a_tighter_budget_removes_the_same_and_more(case, allocation):
    name, scores, constraints = case
    constraints = replace(constraints, allocation=allocation)
    more = {m: share(min(1.0, limit.amount + 0.2)) for m, limit in constraints.limits.items()}
    looser = replace(constraints, limits=more)
    tight, loose = (
        plan_of(name, scores, constraints).edit.keep,
        plan_of(name, scores, looser).edit.keep,
    )
    for group, keep in loose.items():
        assert set(tight[group].tolist()) <= set(keep.tolist())


@given(cases())
def test_plans_are_deterministic(case):
    name, scores, constraints = case
    first, second = (
        plan_of(name, scores, constraints).edit.keep,
        plan_of(name, dict(reversed(scores.items())), constraints),
    )
    assert {k: v.tolist() for k, v in first.items()} == {
        k: v.tolist() for k, v in second.edit.keep.items()
    }


@pytest.mark.parametrize("name", NETS)
def test_a_full_budget_removes_nothing(name):
    for limits in ({}, {"params": share(1.0)}, {"params": share(1.0), "macs": share(1.0)}):
        plan = plan_of(name, random_scores(name, 0), Constraints(limits))
        assert not plan.edit.keep
        assert plan.before == plan.after
        assert [row.group for row in plan.rows] == list(facts(name)[0].groups)


@pytest.mark.parametrize(
    ("loose", "tight"),
    [
        (("params", 0.8), ("macs", 0.6)),
        (("macs", 0.9), ("params", 0.5)),
        (("macs", 0.9), ("size", 0.5)),
    ],
)
def test_both_budgets_hold_where_one_alone_is_not_enough(loose, tight):
    scores, full = random_scores("Plain", 3), facts("Plain")[1].costs({})
    alone = plan_of("Plain", scores, Constraints({loose[0]: share(loose[1])})).after
    assert getattr(alone, tight[0]) > tight[1] * getattr(full, tight[0])
    both = plan_of(
        "Plain", scores, Constraints({m: share(amount) for m, amount in (loose, tight)})
    ).after
    for metric, amount in (loose, tight):
        assert getattr(both, metric) <= amount * getattr(full, metric)


def test_an_absolute_budget():
    plan = plan_of(
        "Plain", random_scores("Plain", 0), Constraints({"params": Limit(300, relative=False)})
    )
    assert plan.after.params <= 300 < plan.before.params


@pytest.mark.parametrize(
    ("keep", "groups"),
    [
        ("a1", {"stem", "a1"}),
        ("stem_bn", {"stem"}),
        ("b2", {"stem", "b1", "b2"}),
        ("head", {"stem", "b2"}),
    ],
)
def test_a_kept_layer_protects_every_group_that_would_change_it(keep, groups):
    scores, constraints = (
        random_scores("Residual", 0),
        Constraints({"params": share(0.9)}, keep=(keep,)),
    )
    plan = plan_of("Residual", scores, constraints)
    assert {row.group.name for row in plan.rows if row.reason == "kept on request"} == groups
    assert plan.edit.keep
    assert not groups & set(plan.edit.keep)


def test_a_kept_stream_stays_and_what_the_blocks_have_of_their_own_goes():
    scores, constraints = (
        random_scores("Residual", 0),
        Constraints({"params": share(0.8)}, allocation="even"),
    )
    channels, _ = facts("Residual")
    streams = residual_streams(channels)
    assert streams == {"stem", "b2"}
    plan = plan_of("Residual", scores, replace(constraints, streams=streams))
    kept = {row.group.name for row in plan.rows if row.reason == "residual stream, kept on request"}
    assert kept == streams
    assert set(plan.edit.keep) == {g.name for g in channels.prunable} - streams
    assert "stem" in plan_of("Residual", scores, constraints).edit.keep
    with pytest.raises(ConfigError) as caught:
        plan_of(
            "Residual", scores, replace(constraints, limits={"params": share(0.1)}, streams=streams)
        )
    assert "keep_streams=false" in str(caught.value.hint)


def test_keeping_an_unknown_layer_is_an_error_that_shows_names():
    with pytest.raises(ConfigError, match=r"keep=layer9: no such layer") as caught:
        plan_of("Residual", random_scores("Residual", 0), Constraints({}, keep=("layer9",)))
    assert "stem, a1, b1, b2" in str(caught.value.hint)


def test_a_prefix_of_a_name_is_no_layer():
    with pytest.raises(ConfigError, match="keep=ste"):
        plan_of("Residual", random_scores("Residual", 0), Constraints({}, keep=("ste",)))


def test_frozen_groups_stay_and_say_why():
    for row in plan_of(
        "Normed", random_scores("Normed", 0), Constraints({"params": share(0.9)})
    ).rows:
        if row.group.status != "free":
            assert row.after == row.before
            assert row.reason == row.group.reason


def test_approximate_groups_are_cut_only_on_request():
    scores = random_scores("Normed", 0) | {"stem": -np.arange(1.0, 7.0)}
    limits = {"params": share(0.9)}
    assert "stem" not in plan_of("Normed", scores, Constraints(limits)).edit.keep
    assert "stem" in plan_of("Normed", scores, Constraints(limits, approximate=True)).edit.keep


@pytest.mark.parametrize("metric", ["params", "macs", "size"])
def test_an_impossible_budget_says_the_smallest_reachable(metric):
    channels, costs = facts("Residual")
    floors = {g.name: max(1, g.width // 2) for g in channels.prunable}
    smallest = getattr(costs.costs(floors), metric)
    total = getattr(costs.costs({}), metric)
    constraints = Constraints({metric: share(0.01)}, min_width=share(0.5))
    with pytest.raises(ConfigError) as caught:
        plan_of("Residual", random_scores("Residual", 0), constraints)
    message = caught.value.message
    assert message.startswith(f"{metric} {int(0.01 * total):,} cannot be reached")
    assert (
        f"smallest reachable is {smallest:,} ({100 * smallest / total:.1f}% of {total:,})"
        in message
    )
    exact = Constraints({metric: Limit(smallest, relative=False)}, min_width=share(0.5))
    assert (
        getattr(plan_of("Residual", random_scores("Residual", 0), exact).after, metric) == smallest
    )


def test_nothing_left_to_cut_is_impossible_too():
    keep = tuple(g.name for g in facts("Residual")[0].prunable)
    with pytest.raises(ConfigError, match=re.escape("100.0% of")):
        plan_of(
            "Residual", random_scores("Residual", 0), Constraints({"params": share(0.5)}, keep=keep)
        )


def test_equal_scores_go_in_the_order_of_groups_and_channels():
    scores = {g.name: np.zeros(g.width) for g in facts("Plain")[0].prunable}
    plan = plan_of("Plain", scores, Constraints({"params": share(0.95)}, per_cost=False))
    assert {name: keep.tolist() for name, keep in plan.edit.keep.items()} == {
        "conv1": [1, 2, 3, 4, 5]
    }


def test_costly_channels_go_first_when_scores_are_equal():
    """One channel of conv2 costs 92 of the 644 parameters, one of conv1 75."""
    channels, _ = facts("Plain")
    scores = {g.name: np.ones(g.width) for g in channels.prunable}
    plan = plan_of("Plain", scores, Constraints({"params": share(0.95)}))
    assert list(plan.edit.keep) == ["conv2"]


def test_a_channel_whose_score_is_no_number_is_refused():
    scores = random_scores("Plain", 0)
    scores["conv1"][2] = np.nan
    with pytest.raises(InputError, match="conv1"):
        plan_of("Plain", scores, Constraints({"params": share(0.5)}))


@given(cases(), st.integers(0, 9999))
def test_even_allocation_leaves_every_group_the_same_share_of_its_dense_width(case, seed):
    """To within half a step of one level for all, unless a floor or the whole width is reached."""
    name, scores, constraints = case
    generator = np.random.default_rng(seed)
    dense = {g.name: int(g.width * generator.uniform(1, 3)) for g in facts(name)[0].prunable}
    constraints = replace(constraints, allocation="even", dense_widths=dense)
    lowest, highest = 0.0, np.inf
    for row in plan_of(name, scores, constraints).rows:
        if row.reason is not None:
            continue
        parts = 1 if row.group.parts is None else len(row.group.parts)
        floor = max(parts, min(constraints.min_width.of(row.before), row.before))
        if row.after < row.before:  # it gave its last step before the level fell below this
            highest = min(highest, (row.after + parts / 2) / dense[row.group.name])
        if row.after - parts >= floor:
            lowest = max(lowest, (row.after - parts / 2) / dense[row.group.name])
    assert lowest <= highest * (1 + 1e-9)


@pytest.mark.parametrize("name", sorted(NETS))
def test_even_allocation_takes_the_same_share_of_every_group(name: str) -> None:
    scores = random_scores(name, 1)
    constraints = Constraints(
        {"params": share(0.6)}, min_width=share(0.0), allocation="even", approximate=True
    )
    plan = plan_of(name, scores, constraints)
    cut = [row for row in plan.rows if row.reason is None]
    gone = [(row.before - row.after) / row.before for row in cut]
    parts = {r.group.name: 1 if r.group.parts is None else len(r.group.parts) for r in cut}
    step = max(parts[row.group.name] / row.before for row in cut)
    assert max(gone) - min(gone) <= step + 1e-9
    for row in cut:
        if row.after < row.before and row.group.parts is None:
            kept, own = plan.edit.keep[row.group.name], scores[row.group.name]
            assert own[kept].min() >= np.delete(own, kept).max()
