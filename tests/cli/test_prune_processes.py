"""``nnslim prune`` under ``torchrun``: one result, and the plan of one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch import nn

from nnslim.artifact import load_network, save_network
from nnslim.data.preprocess import Preprocess
from nnslim.network import trace_network

pytestmark = pytest.mark.slow


class Net(nn.Module):
    """No batch norm, which would look at the other images of a process's share."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Conv2d(1, 12, 3, padding=1), nn.Conv2d(12, 16, 3, padding=1)
        self.head = nn.Linear(16, 10)

    def forward(self, x):
        return self.head(self.two(self.one(x).relu()).relu().mean((2, 3)))


def launch(folder, out, processes):
    launcher = [
        *("-m", "torch.distributed.run", "--standalone"),
        *("--nproc-per-node", str(processes), "-m"),
    ]
    command = [
        *(sys.executable, *(launcher if processes > 1 else ["-m"]), "nnslim", "prune"),
        *("dense.safetensors", "--data", "digits", "--params", "60%", "--sparse-epochs", "1"),
        *("--epochs", "2", "--batch-size", "50", "-o", out, "--no-progress"),
        *("--set", "data.subset=400", "--set", "rounds.count=2", "--set", "rounds.epochs=1"),
        *("--set", "saliency.samples=64", "--set", "training.distill_weight=0"),
    ]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done


def test_two_processes_give_one_result_equal_to_that_of_one(tmp_path):
    torch.manual_seed(0)
    network = trace_network(Net(), torch.zeros(2, 1, 8, 8))
    network.preprocess = Preprocess(size=(8, 8), mean=(0.5,), std=(0.25,))
    save_network(network, tmp_path / "dense.safetensors")
    one, two = (launch(tmp_path, f"out{n}", n) for n in (1, 2))
    assert two.stdout.count("wrote out2") == one.stdout.count("wrote out1") == 1
    found = [json.loads((tmp_path / f"out{n}" / "report.json").read_text()) for n in (1, 2)]
    kept = [[group["kept"] for group in report["groups"]] for report in found]
    assert kept[0] == kept[1]
    files = [sorted(p.name for p in (tmp_path / f"out{n}").iterdir()) for n in (1, 2)]
    assert files[0] == files[1]
    weights = [load_network(tmp_path / f"out{n}" / "model.safetensors").tensors() for n in (1, 2)]
    for name, tensor in weights[0].items():
        other = weights[1][name]
        np.testing.assert_allclose(other.detach(), tensor.detach(), rtol=1e-2, atol=1e-3)
