"""``nnslim grow`` under ``torchrun``: shared candidates, and the result of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from nnslim.artifact import load_network, save_network
from nnslim.data.preprocess import Preprocess
from nnslim.network import trace_network
from nnslim.run.events import read_events

pytestmark = pytest.mark.slow


def launch(folder, out, processes):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [
        *(sys.executable, *(launcher if processes > 1 else []), "-m", "nnslim", "grow"),
        *("--teacher", "teacher.safetensors", "--data", "digits", "--params", "40%"),
        *("--set", "data.subset=400", "--set", "seed_network.epochs=2", "--epochs", "1"),
        *("--rounds", "2", "--where", "group", "--set", "seed_network.width=4"),
        *("--batch-size", "50", "-o", out, "--no-progress"),
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count(f"wrote {out}") == 1


def test_two_processes_give_the_result_of_one_bit_for_bit(tmp_path):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU()]
    layers += [nn.Conv2d(12, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))
    network = trace_network(model, torch.zeros(2, 1, 8, 8))
    network.preprocess = Preprocess(size=(8, 8), mean=(0.5,), std=(0.25,))
    save_network(network, tmp_path / "teacher.safetensors")
    for processes in (1, 2):
        launch(tmp_path, f"out{processes}", processes)
    one, two = (load_network(tmp_path / f"out{n}" / "model.safetensors") for n in (1, 2))
    tensors = two.tensors()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in one.tensors().items())
    reports = [json.loads((tmp_path / f"out{n}" / "report.json").read_text()) for n in (1, 2)]
    judged = [
        [[c["group"], c["judged"], c["gain"]] for r in own["rounds"] for c in r["candidates"]]
        for own in reports
    ]
    assert judged[0] == judged[1]
    stages = [
        {entry["stage"] for entry in read_events(tmp_path / f"out{n}/events.jsonl")} for n in (1, 2)
    ]
    assert stages[0] == stages[1]
    assert len(stages[0]) > 2
