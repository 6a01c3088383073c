"""The whole run on real images: what it measures, writes, and does after an interruption."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from nnslim.artifact import load_network, save_network
from nnslim.data import load_data
from nnslim.errors import ConfigError, InputError
from nnslim.models import load_model
from nnslim.network import trace_network
from nnslim.onnx import open_session
from nnslim.pruning import (
    Limit,
    PruneConfig,
    RunContext,
    SaliencyConfig,
    prune_network,
)
from nnslim.pruning.run import Subject, dry_run, run_prune
from nnslim.run.output import Destination
from nnslim.settings.session import SessionSettings
from nnslim.sink import SILENT
from nnslim.train import TrainConfig

FILES = [
    "README.md",
    "SHA256SUMS",
    "events.jsonl",
    "model.onnx",
    "model.safetensors",
    "report.html",
    "report.json",
]


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.inner, self.outer = nn.Conv2d(8, 12, 3, padding=1), nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        y = self.norm(self.stem(x)).relu()
        y = (y + self.outer(self.inner(y).relu())).relu()
        return self.head(y.mean((2, 3)))


@pytest.fixture(scope="module")
def digits():
    return load_data("digits").with_subset(300, seed=0)


@pytest.fixture
def model(tmp_path):
    torch.manual_seed(0)
    network = trace_network(Residual(), torch.zeros(2, 1, 8, 8))
    save_network(network, tmp_path / "dense.safetensors")
    return load_model(tmp_path / "dense.safetensors")


def settings(epochs=2, **changes):
    return replace(
        PruneConfig(
            limits={"params": Limit(0.6, relative=True)},
            saliency=SaliencyConfig("logits", samples=32),
            training=TrainConfig(epochs=epochs, lr=0.05),
            batch_size=50,
            recalibrate_batches=2,
        ),
        **changes,
    )


def test_run_directory_is_complete_and_consistent(model, digits, tmp_path):
    out = tmp_path / "out"
    before = {name: t.clone() for name, t in model.network.tensors().items()}
    report = run_prune(Subject(model, digits), settings(), Destination(out), RunContext())
    assert sorted(p.name for p in out.iterdir() if p.name != "run.json") == FILES
    assert json.loads((out / "report.json").read_text()) == json.loads(json.dumps(report))
    for line in (out / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((out / name).read_bytes()).hexdigest() == digest
    pruned = load_network(out / "model.safetensors")
    assert pruned.n_parameters == report["after"]["params"] <= 0.6 * report["before"]["params"]
    assert [entry["step"] for entry in pruned.history] == ["prune"]
    assert pruned.classes == digits.classes
    x = torch.randn(3, 1, 8, 8)
    session = open_session(out / "model.onnx", SessionSettings(device="cpu"))
    with torch.no_grad():
        np.testing.assert_allclose(session.run(x.numpy()), pruned(x).numpy(), atol=1e-4)
    assert all(torch.equal(before[name], t) for name, t in model.network.tensors().items())


def test_report_says_enough_to_check_the_cut_without_our_code(model, digits, tmp_path):
    """Slicing the dense tensors as the report says gives the pruned tensors before training."""
    config = settings(epochs=0, recalibrate_batches=0, refit_images=0)
    run_prune(Subject(model, digits), config, Destination(tmp_path / "out"), RunContext())
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    tensors = {name: t.detach().numpy() for name, t in model.network.tensors().items()}
    alive = {}
    for group in report["groups"]:
        for member in group["tensors"]:
            key = (member["name"], member["dim"])
            for channel in range(group["width_before"]):
                k = member.get("positions_per_channel", 1)
                rows = (
                    member["positions"][channel]
                    if "positions" in member
                    else range(member["start"] + channel * k, member["start"] + (channel + 1) * k)
                )
                alive.setdefault(key, {}).update(dict.fromkeys(rows, channel in group["kept"]))
    for (name, dim), flags in alive.items():
        keep = [index for index in sorted(flags) if flags[index]]
        tensors[name] = np.take(tensors[name], keep, axis=dim)
    for name, tensor in load_network(tmp_path / "out" / "model.safetensors").tensors().items():
        np.testing.assert_array_equal(tensor.detach().numpy(), tensors[name])


def test_two_runs_are_equal_and_an_interrupted_one_resumes_to_the_same(model, digits, tmp_path):
    class Interrupting:
        """A sink that is interrupted after the first epoch."""

        def __getattr__(self, name):
            return getattr(SILENT, name)

        def info(self, message):
            if "epoch 1/" in message:
                raise KeyboardInterrupt

    subject, config = Subject(model, digits), settings()
    for name in ("a", "b"):
        run_prune(subject, config, Destination(tmp_path / name), RunContext())
    context = RunContext(sink=Interrupting())
    with pytest.raises(KeyboardInterrupt):
        run_prune(subject, config, Destination(tmp_path / "c"), context)
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["checkpoint"]
    run_prune(subject, config, Destination(tmp_path / "c", resume=True), RunContext())
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] == weights[2]
    assert not (tmp_path / "c" / "checkpoint").exists()


def test_without_data_the_magnitude_cut_says_what_was_not_done(model):
    result = prune_network(model.network, config=PruneConfig())
    assert result.warnings == ("no data: accuracy was neither measured nor recovered",)
    assert result.accuracies is None
    assert result.plan.after.params <= 0.6 * result.plan.before.params
    with pytest.raises(ConfigError, match=r"saliency\.kind=loss measures on images"):
        prune_network(model.network, config=PruneConfig(saliency=SaliencyConfig("loss")))
    with pytest.raises(ConfigError, match=r"training\.epochs=2: there are no images"):
        prune_network(model.network, config=settings(saliency=SaliencyConfig("magnitude")))


def test_dry_run_predicts_what_the_run_does(model, digits, tmp_path):
    subject, config = Subject(model, digits), settings(epochs=0)
    planned = dry_run(subject, config, RunContext())
    done = run_prune(subject, config, Destination(tmp_path / "out"), RunContext())
    for key in ("params", "macs", "bytes"):
        assert planned["after"][key] == done["after"][key]
    assert [g["kept"] for g in planned["groups"]] == [g["kept"] for g in done["groups"]]


@pytest.mark.parametrize(
    ("epochs", "kind", "images", "per_cost"),
    [
        (0, "jacobian", 512, True),
        (2, "magnitude", 0, False),
    ],
)
def test_a_report_says_what_held_where_a_default_decided(
    model, digits, epochs, kind, images, per_cost
):
    config = settings(epochs=epochs, saliency=SaliencyConfig(kind, samples=32))
    said = dry_run(Subject(model, digits), config, RunContext())["settings"]
    assert said["refit_images"] == images
    assert said["per_cost"] is per_cost


def test_without_images_a_report_says_that_nothing_was_trained_or_fitted(model, tmp_path):
    config, subject = PruneConfig(), Subject(model, None)
    done = run_prune(subject, config, Destination(tmp_path / "out"), RunContext())
    entry = load_network(tmp_path / "out" / "model.safetensors").history[-1]
    for said in (done["settings"], dry_run(subject, config, RunContext())["settings"]):
        assert said["refit_images"] == entry["refit_images"] == 0
        assert said["training"]["epochs"] == entry["epochs"] == 0
        assert said["rounds"]["count"] == entry["rounds"] == 1


def test_a_pruned_network_can_be_pruned_again(model, digits):
    config = settings(epochs=0)
    once = prune_network(model.network, digits, config).network
    twice = prune_network(once, digits, config).network
    assert twice.n_parameters <= 0.6 * once.n_parameters
    assert len(twice.history) == 2


def test_training_recovers_accuracy(model, digits):
    # The dense network is untrained, so it would teach noise.
    train = TrainConfig(epochs=12, lr=0.1, distill_weight=0.0)
    found = prune_network(model.network, digits, settings(training=train)).accuracies
    assert found["tuned"].top1_pct > found["cut"].top1_pct + 10


def test_validation_images_in_place_of_test_images_are_said(model, digits):
    splits = {name: split for name, split in digits.splits.items() if name != "test"}
    result = prune_network(model.network, replace(digits, splits=splits), settings(epochs=0))
    assert result.warnings == ("no test images: accuracy is that of the validation images",)
    assert result.split == "val"
    assert result.accuracies["refitted"].n == len(digits.val)


def test_other_classes_than_the_data_are_refused(digits, tmp_path):
    network = trace_network(nn.Sequential(nn.Flatten(), nn.Linear(64, 7)), torch.zeros(2, 1, 8, 8))
    save_network(network, tmp_path / "seven.safetensors")
    with pytest.raises(InputError, match="10 classes but the network has 7"):
        Subject(load_model(tmp_path / "seven.safetensors"), digits)
