"""The tutorials and how-to pages, followed from top to bottom on small images."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from typer.testing import CliRunner

import nnslim
from nnslim.cli.main import app
from nnslim.data import load_data
from nnslim.errors import NnslimError
from nnslim.models.cifar import CifarResNet
from nnslim.network import trace_network
from tests.cli.pages import DOCS, blocks, commands

QUICK = {
    "prune": ["--epochs", "1", "--no-progress"],
    "grow": ["--epochs", "1", "--no-progress"],
    "eval": ["--set", "paired.budget_s=1", "--no-progress"],
    "export": ["--no-progress"],
}
FAILS = {"--max-params 50k": 1}  # the page says so


def run(line, *more):
    """Run a command of a page, quickly; return its exit code and what it said."""
    name, *arguments = shlex.split(line, comments=True)
    done = CliRunner().invoke(app, [name, *arguments, *QUICK[name], *more])
    error = done.exception
    if isinstance(error, NnslimError):
        return error.exit_code, str(error)
    if error is not None and not isinstance(error, SystemExit):
        raise error
    return done.exit_code, done.output


def photos(place, side=(16, 16)):
    """Write JPEG files of two classes that their colour tells apart."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 16), ("test", 4)):
        for name, colour in (("cats", (200, 80, 40)), ("dogs", (40, 80, 200))):
            folder = place / "photos" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = draw.normal(colour, 40, (*side, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number:04}.jpg")


def python(page, old="", new=""):
    """Run the Python of a page, with one text in place of another; return its names."""
    names: dict[str, object] = {}
    for block in blocks(DOCS / page, "python"):
        exec(compile(block.replace(old, new) if old else block, page, "exec"), names)
    return names


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder, as if it stood in the repository."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(DOCS)
    return tmp_path


def follow(page, *more, but=()):
    """Run every command of a page in its order; those with a word of ``but`` are left out."""
    lines = list(commands(DOCS / page, "sh"))
    followed = [line for line in lines if not any(word in line for word in but)]
    for line in followed:
        expected = next((code for text, code in FAILS.items() if text in line), 0)
        code, said = run(line, *more)
        assert code == expected, f"{line}: {said}"
    return followed


@pytest.mark.slow
@pytest.mark.parametrize("page", ["first-cut", "gate-in-ci"])
def test_a_tutorial_on_digits_can_be_followed(page, place):
    # One epoch of training loses more than the gate allows for ten.
    assert follow(f"tutorial/{page}.md", but=["--max-drop 3"])
    assert (place / "slim" / "report.html").is_file()
    python(f"tutorial/{page}.md")


@pytest.mark.slow
def test_the_tutorial_of_growing_can_be_followed(place):
    assert len(follow("tutorial/growing.md")) == 4
    for name in ("grown", "larger", "enough", "by-layer"):
        assert (place / name / "report.html").is_file()


@pytest.mark.slow
def test_the_tutorial_of_photos_can_be_followed(place):
    photos(place, (80, 96))
    python("tutorial/your-photos.md", '"DEFAULT"', "None")  # nothing to download here
    done = follow("tutorial/your-photos.md", "--input-size", "64", "--workers", "0")
    assert [line.split()[0] for line in done] == ["prune", "prune", "eval"]
    assert (place / "plan.html").is_file()


def test_the_python_of_the_page_of_data_makes_data(place):
    names = python("how-to/custom-data.md")
    assert len(load_data("images.npz").classes) == 4
    np.save("scans.npy", np.zeros((10, 8, 8), np.uint8))
    np.save("labels.npy", np.arange(10) % 2)
    assert len(names["scans"]()["test_labels"]) == 2
    (_, factory) = blocks(DOCS / "how-to" / "custom-data.md", "python")
    (place / "mydata.py").write_text(factory)
    assert len(load_data("mydata:scans").test) == 2


@pytest.mark.slow
def test_the_page_of_data_can_be_followed(place):
    torch.save(CifarResNet(8, num_classes=4).state_dict(), "model.pt")
    python("how-to/custom-data.md")
    assert len(follow("how-to/custom-data.md", but=["photos/", "mydata"])) == 1


@pytest.fixture
def runtimes(place):
    """What the page on runtimes starts from: a result that has learned nothing."""
    photos(place, (8, 8))
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2)]
    network = trace_network(nn.Sequential(*layers), torch.zeros(2, 3, 8, 8))
    network.preprocess = load_data("photos").preprocess
    (place / "slim").mkdir()
    nnslim.save(network, place / "slim" / "model.safetensors")
    return place


ONNX = DOCS / "how-to" / "onnx-for-your-runtime.md"
RUNTIMES = [line for line in commands(ONNX, "sh") if line.startswith("export")]


@pytest.mark.parametrize("line", RUNTIMES)
def test_an_export_for_a_runtime_writes_its_file(line, runtimes):
    judged = "--half" in line or "--int8" in line
    code, said = run(line, *(["--max-drop", "100"] if judged else []))
    assert code == 0, said
    (written,) = re.findall(r"-o (\S+)", line)
    assert (runtimes / written).is_file()


@pytest.mark.slow
def test_files_for_a_runtime_can_be_measured(runtimes):
    assert len(RUNTIMES) >= 7
    torch.save(CifarResNet(8, num_classes=2).state_dict(), "model.pt")
    for name in ("slim.onnx", "half.onnx", "theirs.onnx"):
        assert run(f"export slim -o {name}")[0] == 0
    page = "how-to/onnx-for-your-runtime.md"
    done = follow(page, but=["export", *([] if torch.cuda.is_available() else ["cuda"])])
    assert len(done) >= 2


@pytest.mark.slow
def test_the_python_of_the_readme_writes_its_files(place):
    python("../README.md")
    assert (place / "slim.safetensors").is_file()
    assert (place / "slim.onnx").is_file()
