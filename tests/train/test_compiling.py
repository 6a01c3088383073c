from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from nnslim.errors import ConfigError
from nnslim.network import trace_network
from nnslim.settings.resolve import resolved
from nnslim.train import Callbacks, Checkpoints, TrainConfig, fit
from nnslim.train.compiling import Forward, choose
from nnslim.train.records import Task
from tests.train.toys import (
    CPU,
    Batches,
    Ridge,
    assert_same_bits,
    separable_batches,
    state_of,
    toy_net,
)

LONG = TrainConfig(epochs=5_000, lr=0.05)
SHORT = TrainConfig(epochs=2, lr=0.05)


def task(config, network=None, loader=None, teacher=None, device=CPU):
    loader = separable_batches(size=128) if loader is None else loader
    network = network or toy_net()
    return Task(network, loader, resolved(config), device, teacher, Callbacks(), None)


def wide():
    """A network whose multiply-adds can be counted by hand: 9 * 64 * 256 a pixel of 36."""
    return nn.Sequential(nn.Conv2d(2, 64, 1), nn.Conv2d(64, 256, 3, padding=1), nn.Flatten())


@pytest.fixture
def compiler(monkeypatch):
    """Pretends to have one, and counts how often it was tried."""
    tried = []
    monkeypatch.setattr("nnslim.train.compiling._broken", tried.append)
    return tried


def test_auto_compiles_when_the_work_saved_is_twice_the_cost(compiler):
    macs = 3 * 128 * 36 * (2 * 64 + 9 * 64 * 256)
    break_even = round(2 * 4 * 0.7 * 250e9 / macs)  # steps; four parameter tensors
    loader = separable_batches(n_batches=1, size=128)
    for steps, expected in ((break_even - 1, False), (break_even + 1, True)):
        assert choose(task(replace(LONG, epochs=steps), wide(), loader)).compiled is expected
    assert compiler == [CPU]


def test_a_teacher_costs_and_saves(compiler):
    loader = separable_batches(n_batches=1, size=128)
    macs = 4 * 128 * 36 * (2 * 64 + 9 * 64 * 256)
    break_even = round(2 * 4 * 0.9 * 250e9 / macs)
    for steps, expected in ((break_even - 1, False), (break_even + 1, True)):
        found = choose(task(replace(LONG, epochs=steps), wide(), loader, wide()))
        assert found.compiled is expected


def test_auto_leaves_short_runs_small_networks_and_gpus_alone(compiler):
    assert not choose(task(SHORT, wide())).compiled
    assert not choose(task(LONG)).compiled
    assert not choose(task(LONG, wide(), device=torch.device("cuda"))).compiled
    assert not choose(task(replace(LONG, compile=False), wide())).compiled
    assert compiler == []
    assert choose(task(replace(SHORT, compile=True))).compiled


def test_choosing_leaves_the_network_alone(compiler):
    network = wide()
    network[1].eval()
    choose(task(LONG, network))
    assert [part.training for part in network] == [True, False, True]


def test_a_missing_compiler_is_a_warning_or_an_error(monkeypatch):
    monkeypatch.setattr("nnslim.train.compiling._broken", lambda device: "no g++")
    found = choose(task(LONG, wide()))
    assert (found.compiled, found.warning) == (False, "the training step is not compiled: no g++")
    with pytest.raises(ConfigError, match=r"torch\.compile does not work here: no g\+\+"):
        choose(task(replace(LONG, compile=True), wide()))


class Stubborn(nn.Module):
    """Breaks the graph, which a compiled step does not allow."""

    def __init__(self):
        super().__init__()
        self.inner = toy_net()

    def __getitem__(self, index):
        return self.inner[index]

    def forward(self, images):
        torch._dynamo.graph_break()
        return self.inner(images)


def test_a_network_that_cannot_be_compiled_runs_as_it_is_unless_it_must():
    images = torch.randn(4, 2, 6, 6)
    network = Stubborn().eval()
    forward = Forward(network, compiled=True)
    forward.expect(images.shape)
    assert torch.equal(forward(images), network(images))
    assert forward.problem.startswith("the network cannot be compiled: ")
    strict = Forward(network, compiled=True, required=True)
    strict.expect(images.shape)
    with pytest.raises(ConfigError, match="the network cannot be compiled"):
        strict(images)


def test_the_fallback_is_told_once_and_noted(compiler, monkeypatch):
    monkeypatch.setattr("nnslim.train.compiling._pays", lambda task: True)
    events = []
    result = fit(
        Stubborn(),
        separable_batches(),
        SHORT,
        device=CPU,
        callbacks=Callbacks(on_event=events.append),
    )
    warnings = [event.note for event in events if event.kind == "warning"]
    assert len(warnings) == 1
    assert warnings[0] in result.notes
    assert not result.compiled


def train(directory=None, *, compiled=True, dropout=0.3, on_event=None):
    network = toy_net(dropout=dropout)
    torch.set_num_threads(1)
    odd = [(images[:8], labels[:8]) for images, labels in separable_batches(n_batches=1, seed=3)]
    result = fit(
        network,
        Batches([*separable_batches(n_batches=3), *odd]),
        replace(SHORT, compile=compiled, ema=0.9),
        device=CPU,
        teacher=toy_net(seed=5),
        callbacks=Callbacks(on_event=on_event),
        checkpoints=Checkpoints(directory, minutes=0),
        gradient_penalty=Ridge(0.1, memory=0.2),
    )
    return network, result


CHILD = """
import os, signal, sys
from pathlib import Path
from tests.train.test_compiling import train

def on_event(event):
    if event.kind == "step" and (event.epoch, event.step) == (2, 2):
        os.kill(os.getpid(), signal.SIGKILL)

train(Path(sys.argv[1]), on_event=on_event)
"""


@pytest.mark.slow
def test_a_compiled_run_trains_the_same_and_resumes_to_the_same_bits(tmp_path):
    """Killed in another process within an epoch; one batch has another shape and stays eager."""
    eager, _ = train(compiled=False, dropout=0.0)
    other, result = train(dropout=0.0)
    assert result.compiled
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)
    whole, _ = train()
    child = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], check=False, timeout=250)
    assert child.returncode == -9
    resumed, result = train(tmp_path)
    assert result.resumed_from == 1
    assert_same_bits(state_of(whole), state_of(resumed))
    with pytest.raises(ConfigError, match=r"differs in compiled \(True there, False now\)"):
        train(tmp_path, compiled=False)


@pytest.mark.slow
def test_traced_networks_compile_in_one_graph_one_after_the_other(compiler, monkeypatch):
    """All share one ``forward``, of which torch keeps 8 versions: forgetting makes room."""
    compile_ = torch.compile
    monkeypatch.setattr(torch, "compile", lambda *a, **k: compile_(*a, **k, backend="eager"))
    config = replace(SHORT, epochs=1, compile=True)
    loader = separable_batches(n_batches=1)
    for width in range(4, 9):
        layers = nn.Conv2d(2, width, 3), nn.BatchNorm2d(width), nn.Flatten()
        network = trace_network(
            nn.Sequential(*layers, nn.Linear(16 * width, 3)), torch.zeros(2, 2, 6, 6)
        )
        result = fit(network, loader, config, device=CPU, teacher=copy.deepcopy(network))
        assert result.compiled
