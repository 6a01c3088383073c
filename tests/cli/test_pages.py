"""The commands of pages run as they stand, where all they need is a network and the digits."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from nnslim.artifact import save_network
from nnslim.data import load_data
from nnslim.network import trace_network
from nnslim.onnx import export_onnx

DOCS = Path(__file__).parents[2] / "docs" / "reference"
COMMAND = re.compile(r"^(nnslim (?:export net\.safetensors|eval net\.onnx) .*)$", re.MULTILINE)
LINES = [
    line
    for page in ("export.md", "eval.md")
    for line in COMMAND.findall((DOCS / page).read_text(encoding="utf-8"))
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)]
    network = trace_network(nn.Sequential(*layers), torch.zeros(2, 1, 8, 8))
    network.preprocess = load_data("digits").preprocess
    place = tmp_path_factory.mktemp("pages")
    save_network(network, place / "net.safetensors")
    export_onnx(network, place / "net.onnx")
    return place


def test_the_pages_have_such_commands():
    assert len(LINES) >= 4


@pytest.mark.parametrize("line", LINES)
def test_a_command_does_what_its_page_says(line, folder):
    command = [sys.executable, "-m", "nnslim", *shlex.split(line)[1:]]
    if "--int8" in line or "--half" in line:
        command += ["--max-drop", "100"]  # this network has learned nothing
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    wanted = 0
    if "cuda" in line and not torch.cuda.is_available() and "--latency-device" not in line:
        wanted = 3
    assert done.returncode == wanted, done.stderr
    for name in re.findall(r"-o (\S+)", line):
        assert (folder / name).is_file()
