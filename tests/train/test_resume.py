from __future__ import annotations

import copy
import math
import signal
import subprocess
import sys
from dataclasses import replace
from functools import cache

import pytest
import torch

from nnslim.errors import ConfigError, InputError, NnslimError
from nnslim.network import trace_network
from nnslim.train import Callbacks, Checkpoints, TrainConfig, fit
from nnslim.train.checkpoint import CheckpointStore
from tests.train.toys import (
    CPU,
    Batches,
    Ridge,
    assert_same_bits,
    separable_batches,
    state_of,
    toy_net,
)

CONFIG = TrainConfig(epochs=4, lr=0.1, schedule="one-cycle", label_smoothing=0.1)


class StopHereError(Exception):
    """Raised by a test in place of a crash."""


def stop_at(kind, epoch, step=None):
    def on_event(event):
        if event.kind == kind and event.epoch == epoch and step in (None, event.step):
            raise StopHereError

    return on_event


def plain():
    return toy_net(dropout=0.3)


@cache
def traced_once():
    return trace_network(plain().eval(), torch.zeros(2, 2, 6, 6))


def traced():
    return copy.deepcopy(traced_once())


def comparable(history):
    return [(r.epoch, r.loss, r.train_top1, r.val_top1, r.lr) for r in history]


def accuracy(network):
    images, labels = separable_batches()[0]
    return 100 * (network(images).argmax(1) == labels).float().mean().item()


def run(directory, network, teacher=None, on_event=None, config=CONFIG, penalty=None, minutes=5):
    return fit(
        network,
        separable_batches(),
        config,
        device=CPU,
        teacher=teacher,
        callbacks=Callbacks(accuracy, on_event),
        checkpoints=Checkpoints(directory, minutes=minutes),
        gradient_penalty=penalty,
    )


@pytest.mark.parametrize("make", [plain, traced])
@pytest.mark.parametrize("stops", [[("epoch", 1)], [("epoch", 2), ("step", 4)], [("step", 1)]])
def test_resumed_equals_uninterrupted(tmp_path, make, stops):
    teacher = toy_net(seed=5)
    whole = make()
    expected = run(None, whole, teacher)
    for kind, epoch in stops:
        with pytest.raises(StopHereError):
            run(tmp_path, make(), teacher, stop_at(kind, epoch))
    network = make()
    torch.manual_seed(99)
    result = run(tmp_path, network, teacher)
    assert_same_bits(state_of(whole), state_of(network))
    assert comparable(result.history) == comparable(expected.history)
    done = max((epoch if kind == "epoch" else epoch - 1) for kind, epoch in stops)
    assert result.resumed_from == (done or None)


@pytest.mark.parametrize("stop", [("epoch", 2), ("step", 3)])
def test_a_gradient_penalty_resumes_with_its_state(tmp_path, stop):
    whole, without_state, network = plain(), plain(), plain()
    run(None, whole, penalty=Ridge(0.1, memory=0.2))
    with pytest.raises(StopHereError):
        run(tmp_path, plain(), penalty=Ridge(0.1, memory=0.2), on_event=stop_at(*stop))

    class Forgetful(Ridge):
        def restore(self, state):
            assert state["average"] > 0

    run(tmp_path, network, penalty=Ridge(0.1, memory=0.2))
    assert_same_bits(state_of(whole), state_of(network))
    with pytest.raises(ConfigError, match="differs in gradient penalty"):
        run(tmp_path, plain(), penalty=Ridge(0.2, memory=0.2))
    for newest in sorted(tmp_path.iterdir())[1:]:
        newest.unlink()
    run(tmp_path, without_state, penalty=Forgetful(0.1, memory=0.2))
    assert not torch.equal(whole[0].weight, without_state[0].weight)


def test_the_run_is_sensitive_to_what_a_checkpoint_must_carry(tmp_path):
    """Dropout, momentum and statistics all matter here, or the law above says nothing."""
    results = []
    for changes in ({}, {"momentum": 0.5}, {"seed": 1}):
        network = plain()
        run(None, network, config=TrainConfig(**(CONFIG.to_json() | changes)))
        results.append(network[0].weight.detach())
    assert not torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


def test_a_finished_run_is_loaded_not_trained(tmp_path):
    first, again = plain(), plain()
    expected = run(tmp_path, first)
    events = []
    result = run(tmp_path, again, on_event=events.append)
    assert_same_bits(state_of(first), state_of(again))
    assert result.history == expected.history
    told = [(event.kind, event.note) for event in events]
    assert told == [("start", None), ("note", "resumed after epoch 4")]


def test_the_last_two_epochs_are_kept_and_nothing_else(tmp_path):
    run(tmp_path, plain())
    names = ["checkpoint-00003.safetensors", "checkpoint-00004.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.2}, r"differs in lr \(0.1 there, 0.2 now\)"),
        ({"epochs": 5, "seed": 3}, r"epochs \(4 there, 5 now\), seed \(0 there, 3 now\)"),
    ],
)
def test_another_config_is_refused_by_name(tmp_path, changes, message):
    run(tmp_path, plain())
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, plain(), config=TrainConfig(**(CONFIG.to_json() | changes)))


def test_another_network_teacher_or_loader_is_refused_by_name(tmp_path):
    run(tmp_path, plain())
    network = toy_net(seed=3)
    before = state_of(network)
    with pytest.raises(ConfigError, match="differs in starting weights"):
        run(tmp_path, network)
    assert_same_bits(before, state_of(network))
    with pytest.raises(ConfigError, match=r"differs in teacher \(None there, [0-9a-f]{12} now\)"):
        run(tmp_path, plain(), teacher=toy_net(seed=5))
    with pytest.raises(ConfigError, match=r"steps per epoch \(4 there, 3 now\), gradient pen"):
        fit(
            plain(),
            separable_batches(n_batches=3),
            CONFIG,
            device=CPU,
            checkpoints=Checkpoints(tmp_path),
            gradient_penalty=Ridge(1.0),
        )


@pytest.mark.parametrize(
    "damage", [lambda data: data[:100], lambda data: b"", lambda data: data[:-4]]
)
def test_a_damaged_newest_checkpoint_is_passed_over_and_said(tmp_path, damage):
    whole, network = plain(), plain()
    run(None, whole)
    with pytest.raises(StopHereError):
        run(tmp_path, plain(), on_event=stop_at("epoch", 3))
    newest = tmp_path / "checkpoint-00003.safetensors"
    newest.write_bytes(damage(newest.read_bytes()))
    result = run(tmp_path, network)
    assert result.resumed_from == 2
    assert result.notes[0].startswith("checkpoint-00003.safetensors is damaged")
    assert_same_bits(state_of(whole), state_of(network))


def test_only_damaged_checkpoints_are_an_error(tmp_path):
    (tmp_path / "checkpoint-00001.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="none of 1 checkpoints can be read"):
        run(tmp_path, plain())


def test_an_interrupted_write_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    def interrupted(tensors, path, metadata):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(StopHereError):
        run(tmp_path, plain(), on_event=stop_at("epoch", 1))
    with monkeypatch.context() as patch:
        patch.setattr("nnslim.train.checkpoint.save_file", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path, plain())
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00001.safetensors"]
    whole, network = plain(), plain()
    run(None, whole)
    assert run(tmp_path, network).resumed_from == 1
    assert_same_bits(state_of(whole), state_of(network))


CHILD = """
import sys
from pathlib import Path
from tests.train.test_resume import plain, run
import time

def on_event(event):
    if event.kind == "epoch":
        print(event.epoch, flush=True)
    if event.kind == "step" and event.epoch == 3:
        time.sleep(60)

run(Path(sys.argv[1]), plain(), on_event=on_event)
"""


def test_a_killed_process_resumes_to_the_same_bits(tmp_path):
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert [child.stdout.readline(), child.stdout.readline()] == ["1\n", "2\n"]
    finally:
        child.kill()
        child.wait(30)
        child.stdout.close()
    whole, network = plain(), plain()
    run(None, whole)
    assert run(tmp_path, network).resumed_from == 2
    assert_same_bits(state_of(whole), state_of(network))


def test_sigint_passes_through_with_the_finished_epochs_on_disk(tmp_path):
    def on_event(event):
        if event.kind == "step" and event.epoch == 3:
            signal.raise_signal(signal.SIGINT)

    network = plain()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, network, on_event=on_event)
    assert network[0].weight.is_contiguous()
    names = ["checkpoint-00001.safetensors", "checkpoint-00002.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("make", [plain, traced])
@pytest.mark.parametrize("place", [(1, 1), (2, 3), (4, 4)])
def test_an_epoch_goes_on_where_it_was_interrupted(tmp_path, make, place):
    """Dropout, momentum, average, penalty, losses and batches all continue within the epoch."""
    config, penalty = replace(CONFIG, ema=0.9), (None if make is traced else Ridge(0.1, 0.2))
    whole, network, events = make(), make(), []
    expected = run(None, whole, config=config, penalty=penalty)
    penalty = penalty and Ridge(0.1, 0.2)
    with pytest.raises(StopHereError):
        run(tmp_path, make(), None, stop_at("step", *place), config, penalty, minutes=0)
    penalty = penalty and Ridge(0.1, 0.2)
    result = run(tmp_path, network, None, events.append, config, penalty, minutes=0)
    assert_same_bits(state_of(whole), state_of(network))
    assert comparable(result.history) == comparable(expected.history)
    epoch, step = place
    assert (events[0].kind, events[0].epoch, events[0].step) == ("start", epoch - 1, step)
    assert f"resumed after epoch {epoch}, step {step} of 4" in result.notes
    steps = [(event.epoch, event.step) for event in events if event.kind == "step"]
    assert steps == [(e, s) for e in range(1, 5) for s in range(1, 5) if (e, s) > place]


def test_checkpoints_within_an_epoch_come_by_the_clock(tmp_path, monkeypatch):
    now = iter(range(0, 10_000, 25))
    monkeypatch.setattr("nnslim.train.epochs.time.monotonic", lambda: float(next(now)))
    saved = []
    save = CheckpointStore.save

    def watched(store, checkpoint):
        saved.append((checkpoint.epoch, checkpoint.step))
        return save(store, checkpoint)

    monkeypatch.setattr(CheckpointStore, "save", watched)
    run(tmp_path, plain(), minutes=1, config=replace(CONFIG, epochs=2))
    assert saved == [(0, 3), (1, 0), (1, 3), (2, 0)]
    names = ["checkpoint-00001-00000003.safetensors", "checkpoint-00002.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_an_average_is_kept_evaluated_and_returned(tmp_path):
    config = replace(CONFIG, ema=0.5, epochs=2)
    seen, states = [], []

    def evaluate(network):
        seen.append(state_of(network))
        return 0.0

    network, loader = plain(), separable_batches()
    start = state_of(network)
    fit(
        network,
        loader,
        config,
        device=CPU,
        callbacks=Callbacks(evaluate, lambda event: states.append(state_of(network))),
    )
    steps = [state for number, state in enumerate(states) if number not in (0, 5, 10)]
    for name, value in start.items():
        average = value
        for step, state in enumerate(steps):
            decay = min(0.5, (1 + step) / (10 + step))
            if value.is_floating_point():
                average = decay * average + (1 - decay) * state[name]
            else:
                average = state[name]
        torch.testing.assert_close(seen[1][name], average, rtol=1e-4, atol=1e-6, msg=name)
    assert_same_bits(state_of(network), seen[1])
    assert not torch.equal(steps[-1]["0.weight"], seen[1]["0.weight"])
    torch.testing.assert_close(states[5], steps[3])


def test_the_error_names_the_last_good_checkpoint(tmp_path):
    with pytest.raises(StopHereError):
        run(tmp_path, plain(), on_event=stop_at("epoch", 2))

    class Spoil(Batches):
        def set_epoch(self, epoch):
            self[1] = (self[1][0] * math.nan, self[1][1])

    newest = tmp_path / "checkpoint-00002.safetensors"
    with pytest.raises(NnslimError) as caught:
        fit(
            plain(),
            Spoil(separable_batches()),
            CONFIG,
            device=CPU,
            checkpoints=Checkpoints(tmp_path),
        )
    assert str(caught.value).endswith(f"the last good checkpoint is {newest}")
    assert "nan at epoch 3, step 2 of 4" in caught.value.message
    assert newest.exists()
