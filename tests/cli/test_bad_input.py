"""Bad input to ``nnslim prune``: exit code 2, one clear sentence, nothing half-written."""

from __future__ import annotations

import json
import struct
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nnslim.artifact import save_network
from nnslim.cli.main import _run
from nnslim.network import trace_network


class Net(nn.Module):
    def __init__(self, n_classes=10):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, n_classes)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x)).mean((2, 3)))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working directory with a good network in it."""
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    save_network(trace_network(Net(), torch.zeros(2, 1, 8, 8)), tmp_path / "net.safetensors")
    return tmp_path


def refused(monkeypatch, capsys, *arguments):
    """Run ``nnslim prune`` in process; return its one error line."""
    monkeypatch.setattr(sys, "argv", ["nnslim", "prune", *map(str, arguments)])
    try:
        code = _run()
    except SystemExit as end:
        code = end.code
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert code == 2, captured.err
    assert captured.out == ""
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    return " ".join(captured.err.split())


def header_of(path):
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(path, header, body):
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def with_graph(path, change):
    """Rewrite the stored graph."""
    header, body = header_of(path)
    graph = json.loads(header["__metadata__"]["nnslim.graph"])
    change(graph)
    header["__metadata__"]["nnslim.graph"] = json.dumps(graph)
    with_header(path, header, body)


def test_missing_file(place, monkeypatch, capsys):
    assert "none.pt: no such file" in refused(monkeypatch, capsys, "none.pt")


def test_truncated_safetensors(place, monkeypatch, capsys):
    path = place / "net.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    assert "net.safetensors" in refused(monkeypatch, capsys, path)


def test_header_that_is_not_json(place, monkeypatch, capsys):
    path = place / "net.safetensors"
    path.write_bytes(struct.pack("<Q", 16) + b"{not json at all" + bytes(64))
    assert "not JSON" in refused(monkeypatch, capsys, path)


def test_unknown_operator_in_the_header(place, monkeypatch, capsys):
    def change(graph):
        graph["nodes"][0]["op"] = "aten.from_file.default"

    with_graph(place / "net.safetensors", change)
    said = refused(monkeypatch, capsys, "net.safetensors")
    assert "aten.from_file.default" in said
    assert "conv2d" in said


def test_tensor_shape_that_disagrees_with_the_graph(place, monkeypatch, capsys):
    path = place / "net.safetensors"
    header, body = header_of(path)
    entry = header["head.weight"]
    entry["shape"] = entry["shape"][::-1]
    with_header(path, header, body)
    assert "do not fit the graph at 'linear'" in refused(monkeypatch, capsys, path)


def test_pickled_module(place, monkeypatch, capsys):
    torch.save(Net(), place / "module.pt")
    said = refused(monkeypatch, capsys, "module.pt")
    assert "--trust-pickle" in said
    assert "--arch" in said


def test_state_dict_of_an_unknown_architecture(place, monkeypatch, capsys):
    torch.save({"some.weight": torch.zeros(3, 3)}, place / "weights.pt")
    assert "weights.pt" in refused(monkeypatch, capsys, "weights.pt")


def test_wrong_number_of_classes(place, monkeypatch, capsys):
    save_network(trace_network(Net(7), torch.zeros(2, 1, 8, 8)), place / "seven.safetensors")
    said = refused(monkeypatch, capsys, "seven.safetensors", "--data", "digits")
    assert "7" in said
    assert "10" in said


def test_empty_class_folder(place, monkeypatch, capsys):
    for name in ("cat", "dog"):
        (place / "images" / "train" / name).mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(
        place / "images" / "train" / "cat" / "a.png"
    )
    assert "dog" in refused(monkeypatch, capsys, "net.safetensors", "--data", "images")


def test_unreadable_image(place, monkeypatch, capsys):
    for split in ("train", "test"):
        for name in "0123456789":
            folder = place / "images" / split / name
            folder.mkdir(parents=True)
            for index in range(3):
                Image.fromarray(np.zeros((8, 8), np.uint8)).save(folder / f"{index}.png")
    (place / "images" / "train" / "4" / "1.png").write_bytes(b"no image")
    said = refused(
        monkeypatch, capsys, "net.safetensors", "--data", "images", "--mean", "0.5", "--std", "0.2",
        "--epochs", "1", "-o", "out",
    )  # fmt: skip
    assert "1.png" in said
    assert not (place / "out").exists()


@pytest.mark.parametrize("budget", ["0%", "150%", "much"])
def test_budget_outside_its_range(place, monkeypatch, capsys, budget):
    assert budget in refused(monkeypatch, capsys, "net.safetensors", "--params", budget)


def test_budget_that_the_floors_make_impossible(place, monkeypatch, capsys):
    said = refused(monkeypatch, capsys, "net.safetensors", "--params", "1%", "-o", "out")
    assert "smallest reachable is 30 " in said  # one channel: 9 + 1 and 10 + 10
    assert not (place / "out").exists()


def test_output_directory_that_is_not_empty(place, monkeypatch, capsys):
    (place / "out").mkdir()
    (place / "out" / "precious.txt").write_text("mine")
    said = refused(monkeypatch, capsys, "net.safetensors", "-o", "out")
    assert "not empty" in said
    assert "--overwrite" in said
    assert [path.name for path in (place / "out").iterdir()] == ["precious.txt"]
