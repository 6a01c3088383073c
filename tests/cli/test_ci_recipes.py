"""The recipes of docs/how-to/ci.md run as they stand, with GitHub's variables set."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import torch
from torch import nn

from nnslim.cli import main as program
from nnslim.data.preprocess import Preprocess
from nnslim.network import trace_network
from nnslim.onnx import export_onnx

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "ci.md").read_text(encoding="utf-8")
RECIPES = re.findall(
    r"^\s*(?:- )?(?:exec )?(nnslim eval new\.onnx .*--data digits.*)$", PAGE, re.MULTILINE
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two files of one network: the pull request's and the main branch's."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
    network = trace_network(model, torch.zeros(2, 1, 8, 8))
    network.preprocess = Preprocess(size=(8, 8), mean=(0.5,), std=(0.25,))
    place = tmp_path_factory.mktemp("ci")
    for name in ("new.onnx", "main.onnx"):
        export_onnx(network, place / name)
    return place


# What latency is, is not judged here: it is measured for as short as can be.
SHORT = {
    "NNSLIM_PAIRED_BUDGET_S": "1",
    **dict.fromkeys(("NNSLIM_LATENCY_MIN_S", "NNSLIM_LATENCY_WARMUP_S"), "0"),
    **dict.fromkeys(("NNSLIM_LATENCY_ROUNDS", "NNSLIM_LATENCY_CALLS_PER_ROUND"), "1"),
}


@dataclass
class Done:
    returncode: int
    stderr: str


def environment(folder: Path) -> dict[str, str]:
    for name in ("summary.md", "outputs.txt"):
        (folder / name).write_text("")
    (folder / "eval.xml").unlink(missing_ok=True)
    return SHORT | {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        "GITHUB_OUTPUT": str(folder / "outputs.txt"),
    }


@pytest.fixture
def run(folder, monkeypatch, capsys):
    """Run a line in this process: starting one for each took most of these tests' time."""

    def run_line(line: str) -> Done:
        for name, value in environment(folder).items():
            monkeypatch.setenv(name, value)
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", shlex.split(line))
        try:
            code = program._run()
        except SystemExit as end:
            code = end.code
        return Done(code, capsys.readouterr().err)

    return run_line


def test_the_page_has_its_recipes():
    assert len(RECIPES) == 4


@pytest.mark.parametrize("line", [line for line in RECIPES if "--require-gpu" not in line])
def test_a_recipe_passes_for_an_unchanged_model(line, folder, run):
    done = run(line)
    assert done.returncode == 0, done.stderr
    outputs = dict(own.split("=") for own in (folder / "outputs.txt").read_text().split())
    assert outputs["verdict"] == "passed"
    assert float(outputs["top1_drop"]) == 0
    assert "| new.onnx | max-drop |" in (folder / "summary.md").read_text()
    if "eval.xml" in line:
        suite = ET.parse(folder / "eval.xml").getroot()
        assert (suite.get("failures"), suite.get("tests")) in {("0", "1"), ("0", "2")}


def test_a_failed_gate_is_an_annotation_and_exit_code_1(folder, run):
    line = "nnslim eval new.onnx --baseline main.onnx --data digits --device cpu --max-params 10"
    command = [sys.executable, "-m", *shlex.split(line)]  # a process, as CI starts it
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "::error title=nnslim%3A max-params::" in done.stderr
    assert "verdict=failed" in (folder / "outputs.txt").read_text()
    again = run(f"{line} -q")
    assert again.returncode == 1
    assert "::error title=nnslim%3A max-params::" in again.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_gpu_recipe_says_that_it_could_not_run(folder, run):
    (line,) = [line for line in RECIPES if "--require-gpu" in line]
    done = run(line)
    assert done.returncode == 3
    assert "verdict" not in (folder / "outputs.txt").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--max-drop 1", "needs images to measure on"),
        ("--max-latency-ratio 1.1", "needs something to compare with"),
        ("--report eval.pdf", "the kind is told by the suffix"),
        ("--report none/eval.md", "there is no folder"),
        ("--report new.onnx.md --report main.html", ""),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_measured(
    arguments, message, folder, run
):
    (folder / "main.html").write_text("mine")
    done = run(f"nnslim eval new.onnx {arguments}")
    assert done.returncode == 2
    assert message in done.stderr
    assert (folder / "main.html").read_text() == "mine"
    assert not (folder / "new.onnx.md").exists()
