"""Growing from end to end: budgets, choices, what is refused, and resuming in mid-round."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nnslim.artifact import load_network, save_network
from nnslim.channels import channel_groups
from nnslim.data import Augment, Data, Loader, Sampling, load_data
from nnslim.distill import classification_loss
from nnslim.errors import ConfigError, InputError, NotFiniteError
from nnslim.growing import GrowConfig, GrowResult, SeedConfig, grow_network, latency, rounds
from nnslim.growing.candidates import propose
from nnslim.growing.donor import largest_first
from nnslim.growing.judging import Judge, Judged
from nnslim.growing.latency import added_microseconds, latency_share
from nnslim.growing.pipeline import prepare
from nnslim.growing.seed import narrowed
from nnslim.growing.training import PlantedEntries
from nnslim.measure.cost_model import CostModel
from nnslim.measure.macs import count_costs
from nnslim.network import Network, trace_network
from nnslim.pruning import LatencyBudget, PruneConfig, SaliencyConfig, prune_network
from nnslim.run.context import RunContext
from nnslim.run.events import read_events
from nnslim.run.trainer import EVENTS, Trainer
from nnslim.settings.budget import Limit
from nnslim.settings.resolve import resolved
from nnslim.train import FitResult, TrainConfig, fit
from nnslim.train.teaching import RememberingTeacher
from tests.benchmarks.grow import RandomPlanter, UnfrozenPlanter

CPU = torch.device("cpu")


def share(amount: float) -> Limit:
    return Limit(amount, relative=True)


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data("digits")


@pytest.fixture(scope="module")
def teacher(data: Data) -> Network:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for inner, outer in ((1, 16), (16, 32)):
        layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10))
    network = trace_network(model, torch.zeros(2, 1, 8, 8))
    network.preprocess = data.preprocess
    loader = Loader(data.train, data.preprocess, 64, sampling=Sampling(shuffle=True))
    fit(network, loader, TrainConfig(epochs=6, lr=0.1), device=CPU)
    return network


QUICK = GrowConfig(
    limits={"params": share(0.3)},
    where="group",
    seed_network=SeedConfig(share(0.15), epochs=3),
    training=TrainConfig(epochs=1, lr=0.03, optimizer="adamw", compile=False),
    batch_size=64,
    recalibrate_batches=5,
)


def grow_by(planter: type[rounds.Planter], *given: Any) -> GrowResult:
    return replace(prepare(*given), planter=planter).run()


def test_it_grows_to_the_budget_and_gets_better(teacher, data):
    result = grow_network(teacher, data, QUICK)
    found = {name: own.top1_pct for name, own in result.accuracies.items()}
    assert found["grown"] > found["seed"] + 2, found
    full, own = count_costs(teacher), count_costs(result.network)
    assert own.params <= 0.3 * full.params
    assert result.stopped == "the budget is used up"
    cheapest = min(entry["params"] for entry in result.rounds[-1].candidates)
    assert cheapest <= result.limits["params"]
    assert own.params > result.limits["params"] - full.params // 10  # no room was left over
    losses = [round.judged.loss for round in result.rounds]
    assert losses[-1] < result.seed_judged.loss
    entry = result.network.history[-1]
    assert entry["step"] == "grow"
    assert [tuple(p) for p in entry["planted"]] == [(r.group, r.count) for r in result.rounds]


def test_every_candidate_is_in_the_journal_and_the_best_is_kept(teacher, data):
    result = grow_network(teacher, data, replace(QUICK, rounds=2))
    assert [r.number for r in result.rounds] == [1, 2]
    for own in result.rounds:
        assert {entry["group"] for entry in own.candidates} == {"0", "3"}
        gaining = [entry for entry in own.candidates if entry["gain"] > 0]
        best = max(
            gaining or own.candidates, key=lambda e: e["gain_per_cost" if gaining else "gain"]
        )
        assert own.group == best["group"]
        assert own.judged.loss == best["judged"]["loss"]


def test_planting_everywhere_fills_the_budget_and_gets_better(teacher, data):
    result = grow_network(teacher, data, replace(QUICK, where="everywhere"))
    found = {name: own.top1_pct for name, own in result.accuracies.items()}
    assert found["grown"] > found["seed"] + 2, found
    first = result.rounds[0]
    assert (first.group, set(first.planted)) == ("2 groups", {"0", "3"})
    assert first.count == sum(first.planted.values())
    assert [len(own.candidates) for own in result.rounds[:-1]] == [1] * (len(result.rounds) - 1)
    full, own = count_costs(teacher), count_costs(result.network)
    assert result.limits["params"] - full.params // 10 < own.params <= result.limits["params"]
    planted = [tuple(pair) for pair in result.network.history[-1]["planted"]]
    assert planted == [pair for own in result.rounds for pair in own.planted.items()]


def test_a_seed_uses_its_share_of_the_budget(teacher, data):
    config = replace(QUICK, seed_network=SeedConfig(share=0.5, epochs=0), rounds=0)
    result = grow_network(teacher, data, config)
    params = count_costs(result.seed).params
    assert 0.4 * result.limits["params"] < params <= 0.5 * result.limits["params"]
    uncounted = replace(config, limits={}, latency=LatencyBudget(0.9, relative=True))
    assert grow_network(teacher, data, uncounted).seed.tensor("3.weight").shape == (4, 2, 3, 3)
    with pytest.raises(ConfigError, match="share=100%: must be above 0% and below 100%"):
        SeedConfig(share=1.0)


def test_an_untrained_seed_has_the_statistics_of_the_images(teacher, data):
    still = replace(data, augment=Augment(pad=0, flip=False))
    config = replace(
        QUICK, seed_network=SeedConfig(share(0.25), epochs=0), rounds=0, recalibrate_batches=99
    )
    seed = grow_network(teacher, still, config).seed
    images = torch.cat([own for own, _ in Loader(data.train, data.preprocess, 64)])
    before = nn.functional.conv2d(images, seed.tensor("0.weight"), seed.tensor("0.bias"), padding=1)
    mean, spread = before.mean((0, 2, 3)), before.std((0, 2, 3))
    # The last images fill no batch, and which these are depends on the order.
    assert torch.allclose(seed.tensor("1.running_mean"), mean, atol=0.02 * spread.max().item())
    assert torch.allclose(seed.tensor("1.running_var").sqrt(), spread, rtol=0.05)


@pytest.mark.parametrize("where", ["group", "everywhere"])
def test_the_seed_is_wide_for_single_groups_and_narrow_for_all_at_once(teacher, data, where):
    config = replace(QUICK, where=where, seed_network=SeedConfig(epochs=0), rounds=0)
    result = grow_network(teacher, data, config)
    params, most = count_costs(result.seed).params, result.limits["params"]
    if where == "group":
        assert 0.5 * most < params <= 0.6 * most
    else:
        assert result.seed.tensor("3.weight").shape == (2, 2, 3, 3)
        # Small steps, or a budget of time alone, would take rounds and rounds from there.
        slow = grow_network(teacher, data, replace(config, growth=share(0.25)))
        assert 0.5 * most < count_costs(slow.seed).params <= 0.6 * most
        timed = replace(config, limits={}, latency=LatencyBudget(0.9, relative=True))
        assert grow_network(teacher, data, timed).seed.tensor("3.weight").shape == (4, 2, 3, 3)
    shared = replace(config, seed_network=SeedConfig(share=0.3, epochs=0))
    assert 0.2 * most < count_costs(grow_network(teacher, data, shared).seed).params <= 0.3 * most


def test_planting_everywhere_ends_once_most_groups_would_get_nothing(teacher):
    network = narrowed(teacher, Limit(4, relative=False))
    channels, own = channel_groups(network), count_costs(network)
    config = resolved(replace(QUICK, where="everywhere", growth=Limit(4, relative=False)))
    (whole,) = propose(network, channels, {"params": 10 * own.params}, config)
    assert dict(whole.counts) == {"0": 4, "3": 4}
    (less,) = propose(network, channels, {"params": whole.costs.params - 1}, config)
    assert own.params < less.costs.params < whole.costs.params
    unlimited = resolved(replace(QUICK, where="everywhere"))
    (filled,) = propose(network, channels, {"params": 5 * own.params}, unlimited)
    assert 4.5 * own.params < filled.costs.params <= 5 * own.params
    assert propose(network, channels, {"params": own.params}, config) == []


@given(st.integers(300, 4000))
def test_planting_everywhere_leaves_no_room_for_one_channel_more_in_a_narrower_group(most):
    convolutions = nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3), nn.Conv2d(2, 2, 3)
    layers = (layer for conv in convolutions for layer in (conv, nn.ReLU()))
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 10))
    network = trace_network(model, torch.zeros(2, 1, 8, 8))
    channels = channel_groups(network)
    limits = {"params": Limit(most, relative=False)}
    config = resolved(replace(QUICK, where="everywhere", limits=limits))
    (found,) = propose(network, channels, {"params": most}, config)
    assert found.costs.params <= most
    few, many = min(found.counts.values()), max(found.counts.values())
    assert many - few <= 1
    for name in (name for name, count in found.counts.items() if count == few < 20):
        more = {n: 2 + count + (n == name) for n, count in found.counts.items()}
        assert CostModel(network, channels).costs(more).params > most


def test_networks_are_judged_by_the_loss_that_is_trained(teacher, data):
    network, config = narrowed(teacher, share(0.2)), resolved(QUICK).training
    judged = Judge(Trainer(teacher, data, resolved(QUICK), RunContext()))(network)
    images, labels = next(iter(Loader(data.val, teacher.preprocess, len(data.val))))
    with torch.no_grad():
        logits, taught = network.eval()(images), teacher.eval()(images)
    wanted = classification_loss(logits, labels, taught, config.loss).item()
    assert judged.loss == pytest.approx(wanted, rel=1e-5)
    right = int((logits.argmax(1) == labels).sum())
    assert judged.top1_pct == 100 * right / len(labels)
    alone = replace(QUICK, training=replace(config, distill_weight=0.0))
    judged = Judge(Trainer(teacher, data, resolved(alone), RunContext()))(network)
    hard = torch.nn.functional.cross_entropy(logits, labels).item()
    assert judged.loss == pytest.approx(hard, rel=1e-5)
    with torch.no_grad():
        network.tensor("0.weight").fill_(float("nan"))
    broken = Judge(Trainer(teacher, data, resolved(QUICK), RunContext()))(network)
    assert (broken.loss, broken.top1_pct) == (float("inf"), 0.0)


@pytest.mark.parametrize(
    ("where", "order"), [("group", "largest"), ("everywhere", "largest"), ("everywhere", "given")]
)
def test_a_narrowed_teacher_starts_with_its_weights_and_so_do_planted_channels(
    teacher, data, where, order, monkeypatch
):
    """Where no step moves anything, all that is not zero is the teacher's."""
    monkeypatch.setattr(Trainer, "train", lambda *_, **__: None)
    own = SeedConfig(share(0.25), epochs=0)
    config = replace(QUICK, where=where, seed_network=own, teacher_order=order)
    result = grow_network(teacher, data, config)
    assert result.network.history[-1]["init"] == "teacher"
    ordered = largest_first(teacher) if order == "largest" else teacher
    weight, full = result.network.tensor("3.weight"), ordered.tensor("3.weight")
    outer, inner = weight.shape[:2]
    assert outer > 8 or inner > 4
    there = weight != 0
    assert torch.equal(weight[there], full[:outer, :inner][there])
    assert bool(there[:8, :4].all())
    assert torch.equal(result.network.tensor("1.weight"), ordered.tensor("1.weight")[:inner])


def test_nothing_grows_beyond_the_teacher_whose_channels_are_planted(teacher, data):
    config = replace(QUICK, limits={"params": Limit(10**6, relative=False)}, candidates=1)
    config = replace(config, growth=share(4.0), seed_network=SeedConfig(share(0.25), epochs=0))
    result = grow_network(teacher, data, config)
    assert count_costs(result.network) == count_costs(teacher)


def test_a_seed_of_ones_own_does_not_go_on_with_the_teachers_channels(teacher, data):
    seed = narrowed(teacher, share(0.25))
    config = replace(QUICK, rounds=1)
    result = grow_network(teacher, data, config, seed=seed)
    assert result.network.history[-1]["init"] == "random"
    with pytest.raises(ConfigError, match="a seed is given, and only a narrowed teacher"):
        grow_network(teacher, data, replace(config, init="teacher"), seed=seed)


def test_a_teacher_that_narrowing_regroups_gives_no_weights_and_says_so(data):
    first, wide = nn.Conv2d(8, 12, 3, groups=4), nn.Conv2d(12, 9, 1, groups=3)
    layers = [nn.Conv2d(1, 8, 3), first, nn.Conv2d(12, 12, 1), wide, nn.Conv2d(9, 6, 1)]
    between = [module for layer in layers for module in (layer, nn.ReLU())]
    model = nn.Sequential(*between, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    teacher = trace_network(model, torch.zeros(2, 1, 8, 8))
    config = replace(QUICK, limits={"params": share(0.99)}, rounds=0)
    config = replace(config, seed_network=SeedConfig(share(0.5), epochs=0))
    result = grow_network(teacher, data, config)
    assert result.network.history[-1]["init"] == "random"
    assert any("other channel groups" in warning for warning in result.warnings)


def test_random_weights(teacher, data):
    result = grow_network(teacher, data, replace(QUICK, init="random", rounds=1))
    assert len(result.rounds) == 1
    assert result.network.history[-1]["init"] == "random"
    assert result.rounds[0].judged.loss < result.seed_judged.loss * 1.2


def test_ways_to_stop(teacher, data):
    none = grow_network(teacher, data, replace(QUICK, rounds=0))
    assert none.stopped == "0 rounds were asked for"
    reached = grow_network(teacher, data, replace(QUICK, target_accuracy=1.0))
    assert reached.stopped == "the target of 1.0 % was reached"
    assert not reached.rounds
    missed = grow_network(teacher, data, replace(QUICK, rounds=0, target_accuracy=100.0))
    assert "the target of 100 % on the validation images was not reached" in missed.warnings[0]


@pytest.mark.parametrize("patience", [1, 2])
def test_patience_ends_with_the_best_network(teacher, data, tmp_path, patience, monkeypatch):
    """The third round is the last that gains; those after it are taken back."""
    losses = iter((5.0, 9.0, 8.0, 8.5, 7.0, 7.0, 7.5))  # teacher, seed, rounds
    monkeypatch.setattr(Judge, "__call__", lambda *_: Judged(50.0, next(losses)))
    config = replace(QUICK, patience=patience, growth=Limit(1, False))
    context = RunContext(checkpoints=tmp_path)
    config = replace(config, limits={"params": share(1)})
    result = grow_by(RandomPlanter, teacher, data, config, context)
    kept = {1: 1, 2: 3}[patience]
    assert [own.number for own in result.rounds] == list(range(1, kept + 1))
    assert count_costs(result.network) == result.rounds[-1].costs
    assert result.stopped == f"{patience} rounds without a gain, which are taken back"
    told = [e["stage"] for e in read_events(tmp_path / EVENTS) if e["kind"] == "taken back"]
    assert told == [f"round {kept + own}" for own in range(1, patience + 1)]


def test_the_log_of_events_has_every_round_once(teacher, data, tmp_path):
    context = RunContext(checkpoints=tmp_path)
    for _ in range(2):
        result = grow_network(teacher, data, replace(QUICK, rounds=2), context)
    found = [entry for entry in read_events(tmp_path / EVENTS) if entry["kind"] == "round"]
    assert [entry["stage"] for entry in found] == ["round 1", "round 2"]
    for entry, own in zip(found, result.rounds, strict=True):
        assert (entry["group"], entry["count"]) == (own.group, own.count)
        assert [c["gain"] for c in entry["candidates"]] == [c["gain"] for c in own.candidates]


def test_a_seed_slower_than_the_latency_budget_is_refused_before_any_work(
    teacher, data, tmp_path, monkeypatch
):
    monkeypatch.setattr(latency, "latency_share", lambda *_: (0.4, 2.0))
    context = RunContext(checkpoints=tmp_path / "run")
    for budget, most in ((LatencyBudget(0.8, False), "40.0%"), (LatencyBudget(0.3, True), "30.0%")):
        message = f"the seed takes 40.0% of the teacher's 2 ms, latency={budget} is {most}"
        with pytest.raises(ConfigError, match=message):
            grow_network(teacher, data, replace(QUICK, latency=budget), context)
    assert not (tmp_path / "run").exists()


def test_the_round_that_breaks_the_latency_budget_is_taken_back(teacher, data, monkeypatch):
    shares = iter((0.3, 0.45, 0.6))
    monkeypatch.setattr(rounds, "latency_share", lambda *_: (next(shares), 2.0))
    monkeypatch.setattr(latency, "latency_share", lambda *_: (0.1, 2.0))
    config = replace(QUICK, latency=LatencyBudget(1.0, relative=False))
    result = grow_network(teacher, data, config)
    assert [own.latency_share for own in result.rounds] == [0.3, 0.45]
    assert result.stopped.endswith(
        "would take 60.0 % of the teacher's latency, the budget is 50.0 %"
    )
    assert count_costs(result.network).params == result.rounds[-1].costs.params


def test_latency_is_that_of_onnxruntime(teacher):
    share, teacher_ms = latency_share(teacher, teacher, CPU)
    assert 0.5 < share < 2.0
    assert 0 < teacher_ms < 100


def test_fewer_candidates_a_random_one_and_no_freezing(teacher, data):
    one = grow_network(teacher, data, replace(QUICK, candidates=1, rounds=1))
    assert len(one.rounds[0].candidates) == 1
    chance = grow_by(RandomPlanter, teacher, data, replace(QUICK, rounds=1), RunContext())
    assert len(chance.rounds[0].candidates) == 1
    free = grow_by(UnfrozenPlanter, teacher, data, replace(QUICK, rounds=1), RunContext())
    seed, own = free.seed.tensor("3.weight"), free.network.tensor("3.weight")
    assert not torch.equal(seed, own[: seed.shape[0], : seed.shape[1]])


def test_polishing_is_reported_apart(teacher, data):
    result = grow_network(teacher, data, replace(QUICK, rounds=1, polish_epochs=1))
    assert result.polished is not None
    assert set(result.accuracies) == {"teacher", "seed", "grown", "polished"}


def test_what_does_not_fit_is_refused_with_both_numbers(teacher, data):
    five = trace_network(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)), torch.zeros(2, 1, 8, 8))
    with pytest.raises(InputError, match="seed has 5 classes, the teacher 10"):
        grow_network(teacher, data, QUICK, seed=five)
    with pytest.raises(InputError, match="5 outputs"):
        grow_network(five, data, QUICK)
    large = trace_network(
        nn.Sequential(nn.Flatten(), nn.Linear(256, 10)), torch.zeros(2, 1, 16, 16)
    )
    with pytest.raises(InputError, match="1x16x16, the teacher of 1x8x8"):
        grow_network(teacher, data, QUICK, seed=large)
    with pytest.raises(InputError, match="images of digits are 8x8 pixels, the teacher takes 16x1"):
        grow_network(large, data, QUICK)
    broken = copy.deepcopy(teacher)
    with torch.no_grad():
        broken.tensor("3.weight")[0, 0, 0, 0] = float("nan")
    with pytest.raises(InputError, match=r"the teacher has a value in 3\.weight that is not"):
        grow_network(broken, data, QUICK)
    bare = copy.deepcopy(teacher)
    bare.preprocess = None
    with pytest.raises(InputError, match="it is not known how the teacher's are"):
        grow_network(bare, data, QUICK, seed=narrowed(teacher, share(0.25)))
    with pytest.raises(ConfigError, match=r"the seed has 6,\d+ params, the budget is"):
        grow_network(teacher, data, QUICK, seed=teacher)


def test_a_candidate_that_is_not_finite_stays_as_planted(teacher, data, monkeypatch):
    calls: list[int] = []
    real = Trainer.train

    def failing(self: Trainer, network: nn.Module, *args: Any, **kwargs: Any) -> FitResult:
        if isinstance(network, PlantedEntries):
            calls.append(1)
            if len(calls) == 1:
                with torch.no_grad():
                    for parameter in network.parameters():
                        parameter.fill_(float("nan"))
                raise NotFiniteError("the loss is nan at step 1")
        return real(self, network, *args, **kwargs)

    monkeypatch.setattr(Trainer, "train", failing)
    longer = replace(QUICK.training, epochs=3)  # the seed is good: one epoch of a channel may lose
    result = grow_network(teacher, data, replace(QUICK, rounds=1, training=longer))
    first, *others = result.rounds[0].candidates
    assert first["failed"] == "the loss is nan at step 1"
    assert result.warnings == (f"round 1: {first['group']} stays as planted: {first['failed']}",)
    assert abs(first["gain"]) < 1e-4  # planting changes nothing
    assert all(entry["failed"] is None for entry in others)
    assert max(entry["gain"] for entry in others) > 0
    assert result.rounds[0].group != first["group"]


def test_gain_per_microsecond(teacher, data, monkeypatch):
    """The cost is what the real measurement says, whatever the parameters are."""
    said = iter([100.0, 1.0, 50.0])
    monkeypatch.setattr(
        rounds, "added_microseconds", lambda _, candidates, __: [next(said) for _ in candidates]
    )
    result = grow_network(teacher, data, replace(QUICK, rounds=1, per_cost="latency"))
    costs = [entry["cost"] for entry in result.rounds[0].candidates]
    assert costs == [100.0, 1.0, 50.0][: len(costs)]
    monkeypatch.undo()
    seed, grown = result.seed, result.network
    (measured,) = added_microseconds(seed, [grown], CPU)
    assert measured > 0


def test_a_teacher_worse_than_the_seed_is_a_warning(teacher, data):
    dull = trace_network(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), torch.zeros(2, 1, 8, 8))
    dull.preprocess = data.preprocess
    limits = {"params": Limit(10**6, relative=False)}
    result = grow_network(dull, data, replace(QUICK, limits=limits, rounds=0), seed=teacher)
    assert "the teacher is worse than the seed" in result.warnings[0]


def test_grow_prune_grow(teacher, data, tmp_path):
    grown = grow_network(teacher, data, replace(QUICK, rounds=2)).network
    config = PruneConfig(
        {"params": share(0.8)},
        saliency=SaliencyConfig("magnitude"),
        training=TrainConfig(epochs=1, compile=False),
    )
    pruned = prune_network(grown, data, config).network
    save_network(pruned, tmp_path / "pruned.safetensors")
    seed = load_network(tmp_path / "pruned.safetensors")
    again = grow_network(teacher, data, replace(QUICK, rounds=1), seed=seed).network
    assert [entry["step"] for entry in again.history] == ["grow", "prune", "grow"]


class KilledError(Exception):
    pass


def test_with_views_the_teacher_is_asked_once_for_each(teacher, data, monkeypatch):
    asked: list[int] = []
    real = RememberingTeacher.forward

    def counting(self: RememberingTeacher, images: torch.Tensor) -> torch.Tensor:
        before = self.answered
        logits = real(self, images)
        asked.append((self.answered - before) * len(images))
        return logits

    monkeypatch.setattr(RememberingTeacher, "forward", counting)
    varied = replace(data, augment=Augment(pad=1, flip=True, views=3))
    grow_network(teacher, varied, replace(QUICK, rounds=2))
    assert sum(asked) == 3 * len(data.train)


@pytest.mark.parametrize("after", [1, 3, 5])
@pytest.mark.parametrize("views", [None, 2])
def test_resumed_equals_uninterrupted(teacher, data, tmp_path, after, views, monkeypatch):
    """Law 7, in the middle of a round: candidates that were done are not trained again."""
    config = replace(QUICK, rounds=2)
    data = replace(data, augment=Augment(pad=1, flip=False, views=views))
    whole = grow_network(teacher, data, config, RunContext(checkpoints=tmp_path / "whole"))
    calls: list[int] = []

    class Failing(PlantedEntries):
        def __init__(self, planted, **how):
            calls.append(1)
            if len(calls) == after:
                raise KilledError
            super().__init__(planted, **how)

    context = RunContext(checkpoints=tmp_path / "cut")
    monkeypatch.setattr(rounds, "PlantedEntries", Failing)
    if after <= 4:
        with pytest.raises(KilledError):
            grow_network(teacher, data, config, context)
    resumed = grow_network(teacher, data, config, context)
    assert len(calls) <= 5
    for name, tensor in whole.network.state_dict().items():
        assert torch.equal(resumed.network.state_dict()[name], tensor), name
    assert [r.group for r in resumed.rounds] == [r.group for r in whole.rounds]


def test_another_run_is_not_resumed(teacher, data, tmp_path: Path):
    context = RunContext(checkpoints=tmp_path)
    few = replace(data, splits={**data.splits, "val": data.val.subset(range(10))})
    grow_network(teacher, data, replace(QUICK, rounds=1), context)
    with pytest.raises(ConfigError, match="belongs to another run, which differs in"):
        grow_network(teacher, data, replace(QUICK, rounds=1, seed=3), context)
    with pytest.raises(ConfigError, match="which differs in validation images;"):
        grow_network(teacher, few, replace(QUICK, rounds=1), context)
