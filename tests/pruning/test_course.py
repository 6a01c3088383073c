"""A run with every stage: sparse training, rounds, recovery; resumed from any of them."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from nnslim.channels import channel_groups, residual_streams
from nnslim.errors import ConfigError, NotFiniteError
from nnslim.measure.cost_model import CostModel
from nnslim.measure.macs import Costs, count_costs
from nnslim.models.cifar import CifarResNet
from nnslim.network import trace_network
from nnslim.pruning import (
    Limit,
    PruneConfig,
    RegularizerConfig,
    RoundConfig,
    RunContext,
    SaliencyConfig,
    SparseConfig,
    prune_network,
)
from nnslim.pruning.plans.planner import Planner
from nnslim.pruning.rounds import round_limits
from nnslim.run.stages import Stages
from nnslim.settings.option import AUTO
from nnslim.settings.resolve import resolved
from nnslim.sink import SILENT
from nnslim.surgery import apply_edit
from nnslim.train import TrainConfig
from tests.pruning.test_pipeline import Residual, digits

__all__ = ["digits"]


@pytest.fixture
def network():
    torch.manual_seed(0)
    return trace_network(Residual(), torch.zeros(2, 1, 8, 8))


def settings(**changes):
    half = AUTO if "max_drop" in changes else {"params": Limit(0.5, relative=True)}
    return replace(
        PruneConfig(
            limits=half,
            saliency=SaliencyConfig("logits", samples=32),
            sparse=SparseConfig(epochs=2, lr=0.02, regularizer=RegularizerConfig(ratio=2.0)),
            rounds=RoundConfig(AUTO if "max_drop" in changes else 3, epochs=1, lr=0.02),
            training=TrainConfig(epochs=2, lr=0.05, distill_weight=0.0),
            batch_size=50,
            refit_images=64,
        ),
        **changes,
    )


STAGES = [
    ("dense", 0),
    ("sparse", 0),
    *(pair for n in (1, 2) for pair in (("cut", n), ("refitted", n), ("recovered", n))),
    ("cut", 3),
    ("refitted", 3),
    ("tuned", 3),
]


def test_every_stage_runs_once_and_rounds_approach_the_budget(network, digits):
    result = prune_network(network, digits, settings())
    assert [(point.stage, point.round) for point in result.stages] == STAGES
    assert len(result.checks) == 3
    sizes = [point.params for point in result.stages if point.stage == "cut"]
    assert sizes[0] > sizes[1] > sizes[2] == result.network.n_parameters
    assert sizes[2] <= 0.5 * network.n_parameters
    assert [own.stage for own in result.training] == [
        "sparse",
        "recovered 1",
        "recovered 2",
        "tuned",
    ]
    assert list(result.accuracies) == ["dense", "sparse", "cut", "refitted", "recovered", "tuned"]
    assert result.network.history[-1]["rounds"] == 3
    assert result.network.history[-1]["refit_images"] == 64


def test_without_a_fit_batch_norms_are_calibrated(network, digits):
    config = settings(
        sparse=SparseConfig(), rounds=RoundConfig(), training=TrainConfig(epochs=0), refit_images=0
    )
    calibrated = prune_network(network, digits, replace(config, recalibrate_batches=2))
    assert [point.stage for point in calibrated.stages] == ["dense", "cut", "calibrated"]
    left = prune_network(network, digits, replace(config, recalibrate_batches=0))
    assert [point.stage for point in left.stages] == ["dense", "cut"]


def test_a_fit_is_the_default_only_where_no_training_follows():
    cut_only = PruneConfig(training=TrainConfig(epochs=0))
    assert resolved(cut_only).refit_images == 512
    assert resolved(PruneConfig()).refit_images == 0
    assert resolved(replace(cut_only, rounds=RoundConfig(count=3, epochs=1))).refit_images == 0
    assert resolved(replace(cut_only, rounds=RoundConfig(count=3, epochs=0))).refit_images == 512
    assert resolved(replace(cut_only, max_drop=1.0)).refit_images == 0
    assert resolved(PruneConfig(refit_images=64)).refit_images == 64


def test_the_plan_of_all_rounds_cuts_the_dense_network_to_the_same_shapes(network, digits):
    result = prune_network(network, digits, settings())
    once = apply_edit(network, result.plan.edit, channel_groups(network))
    shapes = {name: t.shape for name, t in once.tensors().items()}
    assert shapes == {name: t.shape for name, t in result.network.tensors().items()}
    assert result.plan.after == count_costs(result.network)


class Stopping:
    """A sink that is interrupted when the run says something for the n-th time."""

    def __init__(self, after: int) -> None:
        self.left = after

    def __getattr__(self, name):
        return getattr(SILENT, name)

    def info(self, message):
        del message
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt


class Listening:
    """A sink that keeps the warnings."""

    def __init__(self) -> None:
        self.warned = []

    def __getattr__(self, name):
        return getattr(SILENT, name)

    def warn(self, message):
        self.warned.append(message)


@pytest.mark.slow
def test_interrupted_anywhere_a_run_resumes_to_the_same(network, digits, tmp_path):
    config = settings()
    whole = prune_network(network, digits, config, RunContext(checkpoints=tmp_path / "whole"))
    plain = prune_network(network, digits, config)
    for first in (0, 3, 7):
        found, allowed = None, first
        while found is None:
            context = RunContext(sink=Stopping(allowed), checkpoints=tmp_path / f"stop{first}")
            try:
                found = prune_network(network, digits, config, context)
            except KeyboardInterrupt:
                allowed += 5  # a resumed run repeats what it has to say about finished stages
        for name, tensor in whole.network.tensors().items():
            assert torch.equal(found.network.tensor(name), tensor), (first, name)
            assert torch.equal(plain.network.tensor(name), tensor), name


def test_a_layer_kept_on_request_says_so_in_the_report_of_a_run(network, digits):
    limits = {"params": Limit(0.9, relative=True)}
    config = settings(
        keep=("stem",), limits=limits, sparse=SparseConfig(), training=TrainConfig(epochs=0)
    )
    rows = {row.group.name: row for row in prune_network(network, digits, config).plan.rows}
    assert rows["stem"].reason == "kept on request"
    assert rows["stem"].before == rows["stem"].after
    assert rows["inner"].reason is None


def test_streams_kept_on_request_stay_through_all_rounds(network, digits):
    config = settings(
        keep_streams=True,
        limits={"params": Limit(0.7, relative=True)},
        sparse=SparseConfig(),
        training=TrainConfig(epochs=0),
    )
    rows = {row.group.name: row for row in prune_network(network, digits, config).plan.rows}
    streams = residual_streams(channel_groups(network))
    assert streams
    for name in streams:
        assert rows[name].reason == "residual stream, kept on request"
        assert rows[name].before == rows[name].after
    assert rows["inner"].before > rows["inner"].after


def test_stages_of_another_run_are_refused(network, digits, tmp_path):
    context = RunContext(checkpoints=tmp_path / "run")
    config = settings(sparse=SparseConfig(), rounds=RoundConfig(), training=TrainConfig(epochs=0))
    prune_network(network, digits, config, context)
    other = replace(config, limits={"params": Limit(0.7, relative=True)})
    with pytest.raises(ConfigError, match="belongs to another run, which differs in limits"):
        prune_network(network, digits, other, context)


def test_even_allocation_ends_at_the_same_widths_in_any_number_of_rounds():
    torch.manual_seed(0)
    network = trace_network(CifarResNet(32).eval(), torch.zeros(2, 3, 32, 32))
    widths = {}
    for rounds in (1, 3):
        config = PruneConfig(
            limits={"params": Limit(0.6, relative=True)},
            saliency=SaliencyConfig("magnitude"),
            allocation="even",
            keep_streams=True,
        )
        planner = Planner(network, channel_groups(network), None, config, RunContext())
        current, channels = network, planner.channels
        for number in range(1, rounds + 1):
            limits = round_limits(
                replace(config, rounds=RoundConfig(rounds)), count_costs(network), number
            )
            plan = planner.plan(current, channels, limits).plan
            current = apply_edit(current, plan.edit, channels)
            channels = channel_groups(current, earlier=channels)
        widths[rounds] = {g.name: g.width for g in channels.groups}
    for stage, full in ((1, 16), (2, 32), (3, 64)):
        own = [widths[1][f"layer{stage}.{block}.conv1"] for block in range(5)]
        assert own == pytest.approx([0.6 * full] * 5, abs=1)
    assert widths[3] == widths[1]


def test_fine_tuning_alone_may_change_and_begins_anew(network, digits, tmp_path):
    """After a NaN the sparse training stays; the result is that of a run with the new rate."""
    config = settings(training=TrainConfig(epochs=1, lr=0.05, compile=False))
    spoilt = replace(config, training=replace(config.training, epochs=2, lr=1e5))
    context = RunContext(checkpoints=tmp_path / "run")
    with pytest.raises(
        NotFiniteError, match=r"with resume and a lower training.lr the stages before"
    ):
        prune_network(network, digits, spoilt, context)
    left = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("*.safetensors")}
    assert {"sparse.safetensors", "cut-1.safetensors"} <= set(left)
    found = prune_network(network, digits, config, context)
    after = {name: (tmp_path / "run" / name).read_bytes() for name in left}
    assert after == left
    fresh = prune_network(network, digits, config)
    for name, tensor in fresh.network.state_dict().items():
        assert torch.equal(tensor, found.network.state_dict()[name]), name
    sink = Listening()
    again = replace(config, training=replace(config.training, lr=0.01))
    prune_network(network, digits, again, replace(context, sink=sink))
    assert "fine-tuning begins anew, now with 1 epochs at learning rate 0.01" in sink.warned
    sink.warned.clear()
    prune_network(network, digits, config, replace(context, sink=sink))
    assert not sink.warned, "it had finished, so nothing begins"


def test_stages_of_other_images_are_refused_before_any_work(network, digits, tmp_path):
    """Even where no stage is finished yet."""
    context = RunContext(checkpoints=tmp_path / "run", sink=Stopping(0))
    config = settings(sparse=SparseConfig(), rounds=RoundConfig(), training=TrainConfig(epochs=0))
    with pytest.raises(KeyboardInterrupt):
        prune_network(network, digits, config, context)
    train, val = digits.train, digits.val
    others = {
        "training images": {"train": train.subset(np.arange(len(train))[::-1])},
        "validation images": {"val": val.subset(np.arange(len(val) - 1))},
    }
    for what, splits in others.items():
        data = replace(digits, splits={**digits.splits, **splits})
        with pytest.raises(ConfigError, match=f"another run, which differs in {what};"):
            prune_network(network, data, config, context)
    gray = replace(digits.preprocess, mean=(0.1,))
    network.preprocess = gray
    with pytest.raises(ConfigError, match="which differs in preprocessing;"):
        prune_network(network, digits, config, context)


@pytest.mark.parametrize("name", ["params", "macs"])
def test_an_impossible_budget_is_refused_before_any_work(network, digits, name, tmp_path):
    """The share is that of the whole network, and no stage has begun."""
    limit = {name: Limit(0.01, relative=True)}
    config = settings(limits=limit, min_width=Limit(0.5, relative=True))
    context = RunContext(checkpoints=tmp_path / "run", sink=Stopping(0))
    full = getattr(count_costs(network), name)
    with pytest.raises(ConfigError, match=f"the smallest reachable is .* of {full:,}"):
        prune_network(network, digits, config, context)
    floors = replace(config, limits={"params": Limit(1, relative=False)})
    with pytest.raises(ConfigError, match=r"smallest reachable is ([\d,]+)") as caught:
        prune_network(network, digits, floors)
    told = re.search(r"smallest reachable is ([\d,]+)", str(caught.value))
    least = int(told[1].replace(",", ""))
    found = prune_network(
        network, digits, replace(floors, limits={"params": Limit(least, relative=False)})
    )
    assert found.plan.after.params == least
    assert not (tmp_path / "run").exists()


def test_a_stage_without_its_record_runs_again(network, tmp_path):
    stages = Stages(tmp_path, {"seed": 0})
    calls = []

    def compute(place):
        calls.append(place)
        return network, {"top1": 1.5}

    for _ in range(2):
        _, record = stages.run("cut", compute)
    assert record == {"top1": 1.5}
    assert len(calls) == 1
    (tmp_path / "cut.json").unlink()
    stages.run("cut", compute)
    assert len(calls) == 2


def test_removal_after_fading_costs_nothing_and_says_when_it_cannot_fade(network, digits):
    config = settings(
        sparse=SparseConfig(3, 0.02),
        rounds=RoundConfig(),
        training=TrainConfig(epochs=0, distill_weight=0.0),
    )
    found = prune_network(network, digits, config).accuracies
    assert found["cut"].top1_pct >= found["sparse"].top1_pct - 2
    with pytest.raises(ConfigError, match="fading needs to know which channels will go"):
        SparseConfig(3, focus=False)
    with pytest.raises(ConfigError, match="so none can fade"):
        replace(config, max_drop=1.0)


def test_max_drop_stops_before_the_accuracy_does(network, digits):
    train = TrainConfig(epochs=12, lr=0.1, distill_weight=0.0)
    calibrated = {"refit_images": 0, "recalibrate_batches": 2}
    dense = prune_network(
        network,
        digits,
        settings(limits={"params": Limit(0.95, relative=True)}, training=train, **calibrated),
    ).network
    config = settings(
        max_drop=3.0,
        sparse=SparseConfig(),
        rounds=RoundConfig(epochs=2, lr=0.05),
        training=train,
        **calibrated,
    )
    result = prune_network(dense, digits, config)
    assert result.network.n_parameters < dense.n_parameters
    kept = [p for p in result.stages if p.stage == "recovered"]
    first = result.stages[0].val_top1_pct
    inside = [p for p in kept if first - p.val_top1_pct <= 3.0]
    assert result.network.n_parameters == min(p.params for p in inside)
    stayed = [p for p in result.stages if not p.taken_back]
    assert stayed[-1].params == result.network.n_parameters
    assert [p for p in kept if p.taken_back] == [p for p in kept if p not in inside]
    strict = replace(config, max_drop=0.0, rounds=RoundConfig(epochs=0))
    with pytest.raises(ConfigError, match=r"max_drop=0\.0: taking 5% of the parameters"):
        prune_network(dense, digits, replace(strict, recalibrate_batches=0, seed=1))
    # The largest bite meets the floors and smaller ones do not: accuracy is to blame all the same.
    near = replace(strict, recalibrate_batches=0, seed=1, min_width=Limit(0.9, relative=True))
    near = replace(near, keep_streams=True)
    large = replace(near, max_drop=None, limits={"params": Limit(0.8, relative=True)})
    with pytest.raises(ConfigError, match="cannot be reached"):
        prune_network(dense, digits, large)
    with pytest.raises(ConfigError, match=r"max_drop=0\.0: taking 5% of the parameters"):
        prune_network(dense, digits, near)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min_width": Limit(1.0, relative=True)}, r"the smallest reachable is .*\(100\.0% of"),
        ({"keep": ("stemm",)}, "keep=stemm: no such layer"),
    ],
)
def test_max_drop_blames_what_keeps_it_from_the_first_bite(network, digits, changes, said):
    config = settings(max_drop=100.0, sparse=SparseConfig(), rounds=RoundConfig(), **changes)
    with pytest.raises(ConfigError, match=said):
        prune_network(network, digits, config)


def test_max_drop_takes_smaller_bites_where_the_floors_are_near(network, digits):
    config = settings(
        max_drop=100.0,
        min_width=Limit(0.75, relative=True),
        sparse=SparseConfig(),
        rounds=RoundConfig(epochs=0),
        training=TrainConfig(epochs=0),
    )
    channels = channel_groups(network)
    floors = {group.name: group.width * 3 // 4 for group in channels.prunable}
    least = CostModel(network, channels).costs(floors).params
    assert least > 0.8**3 * network.n_parameters  # three large bites are too many
    assert prune_network(network, digits, config).network.n_parameters * 0.95 < least


@pytest.mark.parametrize("rounds", [1, 2, 5])
def test_round_limits_end_at_the_budget_by_equal_factors(rounds):
    full = Costs(params=1000, macs=5000, bytes=4000)
    limits = {"params": Limit(0.3, relative=True), "macs": Limit(2000, relative=False)}
    config = PruneConfig(limits=limits, rounds=RoundConfig(count=rounds))
    seen = [round_limits(config, full, number) for number in range(1, rounds + 1)]
    assert {m: limit.of(10**9) for m, limit in seen[-1].items()} == {"params": 300, "macs": 2000}
    amounts = [1000.0, *(own["params"].amount for own in seen)]
    np.testing.assert_allclose(np.divide(amounts[1:], amounts[:-1]), 0.3 ** (1 / rounds))


def test_records_are_plain_json(network, digits, tmp_path):
    prune_network(network, digits, settings(), RunContext(checkpoints=tmp_path))
    for path in tmp_path.glob("*.json"):
        json.loads(path.read_text())
    assert len(list(tmp_path.glob("*.json"))) == len(STAGES) + 1  # goal, identity, no dense
