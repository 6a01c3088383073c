"""Law 7 by force: training that is killed again and again ends as if nothing had happened."""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nnslim.data import Augment, Loader, Preprocess, Sampling, Split
from nnslim.run.events import EventLog, read_events
from nnslim.train import Callbacks, Checkpoints, TrainConfig, fit
from tests.train.toys import CPU, Ridge, assert_same_bits, toy_net

DIGITS = Path(__file__).parents[2] / "docs/demo/digits_resnet.safetensors"
COMMANDS = {
    "prune": "prune {net} --sparse-epochs 1 --set rounds.count=2 --set rounds.epochs=1 --epochs 2"
    " --set training.compile=false",
    "grow": "grow --teacher {net} --params 8% --where group --set seed_network.epochs=2 --epochs 1"
    " --rounds 2 --candidates 2",
}
CONFIG = TrainConfig(epochs=4, lr=0.1, ema=0.9, grad_clip=1.0)
KILLS = 5


def loader():
    """Random images whose order and augmentation differ from epoch to epoch."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 8, 8, 2), dtype=np.uint8)
    split = Split(rng.integers(0, 3, 64), images)
    preprocess = Preprocess(size=(8, 8), mean=(0.5, 0.5), std=(0.25, 0.25))
    return Loader(
        split,
        preprocess,
        8,
        sampling=Sampling(shuffle=True, seed=3),
        augment=Augment(pad=1, flip=True),
    )


def train(directory, result):
    """Save every step, so that a kill can come between any two."""
    torch.set_num_threads(1)
    network = toy_net(dropout=0.3)
    directory.mkdir(exist_ok=True)
    log = EventLog(directory / "events.jsonl", every=1)
    fit(
        network,
        loader(),
        CONFIG,
        device=CPU,
        teacher=toy_net(seed=4),
        callbacks=Callbacks(lambda network: network[0].weight.sum().item(), log.stage("tuning")),
        checkpoints=Checkpoints(directory / "checkpoint", minutes=0),
        gradient_penalty=Ridge(0.1, memory=0.2),
    )
    part = Path(f"{result}.part")
    save_file({name: t.contiguous() for name, t in network.state_dict().items()}, part)
    part.rename(result)


def what_happened(directory):
    """The log without its times and starts."""
    kinds = {"step": ("epoch", "step", "loss", "lr"), "epoch": ("epoch", "loss", "val_top1")}
    entries = [e for e in read_events(directory / "events.jsonl") if e["kind"] in kinds]
    return [tuple(entry[key] for key in kinds[entry["kind"]]) for entry in entries]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_training_killed_at_random_moments_ends_with_the_same_bits(tmp_path, seed):
    # Workers are copies of a process that has imported torch and run nothing: they start at once.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.pruning.test_kill_resume"])
    chance, killed = random.Random(seed), 0

    def start(name):
        worker = context.Process(target=train, args=(tmp_path / name, tmp_path / f"{name}.st"))
        worker.start()
        return worker

    whole = start("whole")
    whole.join(120)
    began = time.monotonic()
    again = start("again")
    again.join(120)
    seconds = time.monotonic() - began
    assert (whole.exitcode, again.exitcode) == (0, 0)
    expected = load_file(tmp_path / "whole.st")
    assert_same_bits(expected, load_file(tmp_path / "again.st"))

    for _ in range(KILLS):
        worker = start("killed")
        worker.join(chance.uniform(0.2, 0.7) * seconds)
        worker.kill()
        worker.join(30)
        killed += worker.exitcode == -9
    last = start("killed")
    last.join(120)
    assert last.exitcode == 0
    assert killed >= 2
    assert_same_bits(expected, load_file(tmp_path / "killed.st"))
    assert what_happened(tmp_path / "killed")[-1] == what_happened(tmp_path / "whole")[-1]
    epochs = [event for event in what_happened(tmp_path / "killed") if len(event) == 3]
    assert epochs == [event for event in what_happened(tmp_path / "whole") if len(event) == 3]


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_killed_at_random_moments_writes_the_same_file(tmp_path, name):
    words = COMMANDS[name].format(net=DIGITS).split()
    command = [
        sys.executable,
        "-m",
        "nnslim",
        *words,
        "--data",
        "digits",
        "--set",
        "data.subset=600",
    ]

    def start(place, *more):
        return subprocess.Popen([*command, "-q", "-o", str(tmp_path / place), *more])

    began = time.monotonic()
    assert start("whole").wait(300) == 0
    seconds = time.monotonic() - began
    chance, killed = random.Random(0), 0
    for _ in range(3):
        process = start("killed", "--resume")
        try:
            process.wait(chance.uniform(0.4, 0.9) * seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += process.wait(30) == -9
        if (tmp_path / "killed" / "run.json").exists():
            break
    else:
        assert start("killed", "--resume").wait(300) == 0
    assert killed >= 1
    files = [tmp_path / place / "model.safetensors" for place in ("whole", "killed")]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]
