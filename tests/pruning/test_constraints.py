"""Plans with constraints: equal numbers of each part, multiples, budgets and floors at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnslim.channels import channel_groups
from nnslim.channels.magnitude import magnitude
from nnslim.errors import ConfigError
from nnslim.pruning import Constraints, CostModel, Limit, PruneConfig, make_plan
from nnslim.pruning.plans.line import rank_channels
from nnslim.pruning.scores.measured import measured
from nnslim.pruning.scores.taylor import taylor
from nnslim.surgery import Edit, apply_edit, verify_cut
from tests.laws.reference import check_law_1
from tests.laws.zoo import NETS, network_of

GROUPED = ["WithinConvolutionGroups", "WithinNormGroups", "CrossingGroups", "Grouped"]


@given(
    st.sampled_from(GROUPED),
    st.sampled_from([1, 2, 3, 4]),
    st.sampled_from([0.4, 0.6, 0.8]),
    st.integers(0, 99),
)
def test_a_plan_keeps_every_constraint_at_once(name, align, amount, seed):
    network = network_of(name)
    channels, generator = channel_groups(network, shrink="within"), np.random.default_rng(seed)
    costs = CostModel(network, channels)
    scores = {g.name: generator.random(g.width) for g in channels.prunable}
    constraints = Constraints(
        {"params": Limit(amount, relative=True)}, approximate=True, align=align
    )
    try:
        plan = make_plan(channels, costs, scores, constraints)
    except ConfigError as error:
        assert "smallest reachable" in error.message  # noqa: PT017
        return
    cut = apply_edit(network, plan.edit, channels)
    assert cut.n_parameters == plan.after.params <= amount * network.n_parameters
    for group_name, kept in plan.edit.keep.items():
        group = channels[group_name]
        assert len(kept) % align == 0
        if group.parts is not None:
            counts = np.isin(group.parts, kept).sum(axis=1)
            assert len(set(counts.tolist())) == 1
    check_law_1(network, cut, channels, plan.edit.keep)


@given(st.sampled_from(["Plain", *GROUPED]), st.sampled_from([2, 3, 4]), st.integers(0, 99))
def test_steps_go_by_the_mean_score_of_what_they_take(name, align, seed):
    """Steps take different numbers of channels: a large one is not dearer for its size."""
    network = network_of(name)
    channels, generator = channel_groups(network, shrink="within"), np.random.default_rng(seed)
    scores = {g.name: generator.random(g.width) for g in channels.prunable}
    constraints = Constraints({}, approximate=True, per_cost=False, align=align)
    line = rank_channels(channels, CostModel(network, channels), scores, constraints)
    means, left, lost = [], {g.name: set(range(g.width)) for g in channels.groups}, 0.0
    for n in range(1, len(line) + 1):
        now = {g: set(line.edit(n).keep.get(g, sorted(own))) for g, own in left.items()}
        taken = [scores[g][c] for g in scores for c in left[g] - now[g]]
        assert len(taken) == line.counts[n - 1]
        lost += sum(taken)
        assert line.lost(n) == pytest.approx(lost)
        means.append(np.mean(taken))
        left = now
    assert means == pytest.approx(sorted(means))


def test_the_worst_of_each_part_go():
    network = network_of("WithinConvolutionGroups")
    channels = channel_groups(network)
    group = channels["stem.0"]
    assert group.parts.tolist() == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    scores = {g.name: np.full(g.width, 9.0) for g in channels.prunable}
    scores["stem.0"] = np.array([5, 1, 6, 7, 8, 9, 6, 7, 2, 8, 9, 5.0])
    full = CostModel(network, channels)
    less = full.costs({"stem.0": 10}).params
    constraints = Constraints({"params": Limit(less, relative=False)}, per_cost=False)
    plan = make_plan(channels, full, scores, constraints)
    assert plan.edit.keep["stem.0"].tolist() == [0, 2, 3, 4, 5, 6, 7, 9, 10, 11]


def test_an_edit_that_empties_one_part_more_is_refused():
    network = network_of("WithinConvolutionGroups")
    with pytest.raises(ConfigError, match="same number of channels in each of its 2 parts"):
        apply_edit(network, Edit({"stem.0": np.arange(10)}))


def test_a_group_without_a_multiple_stays_and_says_so():
    network = network_of("Plain")
    channels = channel_groups(network)
    constraints = Constraints({"params": Limit(0.9, relative=True)}, align=4)
    plan = make_plan(
        channels, CostModel(network, channels), magnitude(network, channels), constraints
    )
    rows = {row.group.name: row for row in plan.rows}
    assert rows["a.0"].after in (4, 8)
    assert rows["b.0"].after in (4, 6)
    constraints = Constraints({"params": Limit(1.0, relative=True)}, align=16)
    plan = make_plan(
        channels, CostModel(network, channels), magnitude(network, channels), constraints
    )
    assert plan.rows[0].reason == "no multiple of 16 between its floor and its width"


def test_alignment_below_one_is_refused():
    with pytest.raises(ConfigError, match="align=0: must be at least 1"):
        PruneConfig(align=0)


@pytest.mark.parametrize("name", [n for n, case in NETS.items() if len(case.shapes) == 1])
def test_every_prunable_group_gets_a_finite_score(name):
    """Also where no weight reads a channel: products, attention, blocks, transposed layers."""
    network = network_of(name)
    channels = channel_groups(network)
    shape = NETS[name].shapes[0]
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, *shape, generator=generator)
    output = network(images)
    found = [magnitude(network, channels)]
    if isinstance(output, torch.Tensor) and output.dim() == 2:
        batches = [(images, torch.tensor([0, 1, 2, 0]))]
        found += [taylor(network, channels, batches)]
        found += [measured(network, channels, batches, "logits")]
    for scores in found:
        for group in channels.prunable:
            assert scores[group.name].shape == (group.width,)
            assert np.isfinite(scores[group.name]).all()
    if len(found) == 3 and name not in UNREAD:
        assert all(found[2][g.name].max() > 0 for g in channels.prunable), name


# Nets with a piece that nothing reads: its removal changes nothing.
UNREAD = {"ChunkFour", "Im2Col"}


@pytest.mark.parametrize("name", ["SeparateAttention", "Einsum", "Transposed", "FusedAttention"])
def test_measuring_is_removing_where_no_weight_reads(name):
    """The measured score equals that of a network from which the channel is really cut."""
    network = network_of(name)
    channels = channel_groups(network)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    scores = measured(network, channels, [(images, torch.tensor([0, 1, 2, 0]))], "logits")
    dense = network(images).detach()
    for group in channels.prunable:
        if group.status != "free" or group.parts is not None:
            continue
        keep = np.arange(1, group.width)
        cut = apply_edit(network, Edit({group.name: keep}), channels)
        verify_cut(network, cut, channels, Edit({group.name: keep}))
        expected = float((cut(images).detach() - dense).square().mean())
        assert scores[group.name][0] == pytest.approx(expected, rel=1e-3, abs=1e-9)
