"""The network file: what goes in comes out, bit for bit, and nothing else is let in."""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch

from nnslim import __version__
from nnslim.artifact import is_network_file, load_network, save_network
from nnslim.data.preprocess import Preprocess
from nnslim.errors import InputError, UnsupportedModelError
from nnslim.network.codec import canonical_json, graph_to_json
from tests.artifact.make_golden import FOLDER, golden_input, golden_network
from tests.network.nets import NETS, assert_same, images, traced

# Format 1 is what users' files are written in: if these tests fail, the reader is wrong. Never
# regenerate the file, never touch this number.
GOLDEN_SHA256 = "e12f23d699f7a6617a4449cdf737234266f9d9ba9f64a73b325cbba4d061486b"


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A network file with everything that one can hold."""
    network = traced("Shuffle")
    network.preprocess = Preprocess(size=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    network.classes = ("apple", "bjørn", "cat", "dog")
    network.history = ({"step": "prune", "kept": [1, 2]}, {"step": "train", "top1_pct": 91.5})
    network.notes = ("2 parameters were left out",)
    network.get_parameter("branch.weight").requires_grad_(requires_grad=False)
    save_network(network, tmp_path / "net.safetensors")
    return tmp_path / "net.safetensors"


def header_of(path: Path) -> dict:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length])


def write_header(path: Path, header: object) -> None:
    """Replace the header and keep the tensors' bytes."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])


def change_entry(path: Path, key: str, text: str | None) -> None:
    header = header_of(path)
    if text is None:
        del header["__metadata__"][key]
    else:
        header["__metadata__"][key] = text
    write_header(path, header)


def change_graph(path: Path, old: str, new: str) -> None:
    text = header_of(path)["__metadata__"]["nnslim.graph"]
    assert old in text
    change_entry(path, "nnslim.graph", text.replace(old, new))


def change_tensors(path: Path, **changes: torch.Tensor | None) -> None:
    """Write other tensors under the same header entries; ``__`` stands for a dot."""
    tensors = safetensors.torch.load_file(path)
    for key, tensor in changes.items():
        name = key.replace("__", ".")
        if tensor is None:
            del tensors[name]
        else:
            tensors[name] = tensor
    safetensors.torch.save_file(tensors, path, metadata=header_of(path)["__metadata__"])


@pytest.mark.parametrize("name", NETS)
def test_a_network_survives_its_file(name, tmp_path):
    network = traced(name).train()
    save_network(network, tmp_path / "net.safetensors")
    loaded = load_network(tmp_path / "net.safetensors")
    assert not loaded.training
    assert loaded.graph == network.graph
    assert_same(sorted(loaded.state_dict()), sorted(network.state_dict()))
    for key, tensor in network.state_dict().items():
        assert_same(loaded.state_dict()[key], tensor)
    trained = dict(network.named_parameters())
    assert dict(loaded.named_parameters()).keys() == trained.keys()
    assert_same(loaded(images()), network.eval()(images()))
    results = []
    for module in (loaded, network):
        torch.manual_seed(0)
        results.append(module.train()(images()))
    assert_same(results[0], results[1])


def test_everything_about_a_network_survives(saved):
    loaded = load_network(saved)
    assert loaded.preprocess == Preprocess(size=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    assert loaded.classes == ("apple", "bjørn", "cat", "dog")
    assert loaded.history == (
        {"step": "prune", "kept": [1, 2]},
        {"step": "train", "top1_pct": 91.5},
    )
    assert loaded.notes == ("2 parameters were left out",)
    frozen = [name for name, p in loaded.named_parameters() if not p.requires_grad]
    assert frozen == ["branch.weight"]
    buffers = {name for name, _ in loaded.named_buffers()}
    assert {n for n in buffers if n.startswith("bn.")} == {"bn.running_mean", "bn.running_var"}


def test_what_nobody_said_stays_unsaid(tmp_path):
    save_network(traced("Plain"), tmp_path / "net.safetensors")
    loaded = load_network(tmp_path / "net.safetensors")
    assert (loaded.preprocess, loaded.classes, loaded.history, loaded.notes) == (None, None, (), ())


@pytest.mark.parametrize("memory", [torch.channels_last, "transposed"])
def test_any_memory_layout_can_be_saved(memory, tmp_path):
    network, plain = traced("Residual"), traced("Residual")
    if memory == "transposed":
        for tensor in network.parameters():
            tensor.data = tensor.data.transpose(0, -1).contiguous().transpose(0, -1)
    else:
        network = network.to(memory_format=memory)
    save_network(network, tmp_path / "a.safetensors")
    save_network(plain, tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_any_precision_can_be_saved(dtype, tmp_path):
    network = traced("Plain").to(dtype)
    save_network(network, tmp_path / "net.safetensors")
    assert_same(
        load_network(tmp_path / "net.safetensors")(images().to(dtype)), network(images().to(dtype))
    )


def test_equal_networks_give_equal_bytes(saved, tmp_path):
    for n in range(3):
        save_network(load_network(saved), tmp_path / f"{n}.safetensors")
        assert (tmp_path / f"{n}.safetensors").read_bytes() == saved.read_bytes()


PROCESS = """
import sys, torch
from nnslim.artifact import load_network, save_network
network = load_network(sys.argv[1])
x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
print([value.hex() for value in network(x).flatten().tolist()])
save_network(network, sys.argv[2])
assert not any(name.startswith("tests") for name in sys.modules)
"""


def test_a_fresh_process_without_the_source_gets_the_same_bits(saved, tmp_path):
    again = tmp_path / "again.safetensors"
    result = subprocess.run(
        [sys.executable, "-c", PROCESS, str(saved), str(again)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONHASHSEED": "77"},
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    here = load_network(saved)(images())
    assert result.stdout.strip() == str([value.hex() for value in here.flatten().tolist()])
    assert again.read_bytes() == saved.read_bytes()


def test_the_file_is_ordinary_safetensors(saved):
    tensors = safetensors.torch.load_file(saved)
    assert set(tensors) == set(load_network(saved).state_dict())
    metadata = header_of(saved)["__metadata__"]
    assert metadata["format"] == "pt"
    assert list(metadata) == sorted(metadata)
    assert is_network_file(saved)


def test_a_failing_write_leaves_the_old_file(saved, monkeypatch):
    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises((OSError, InputError), match="No space left"):
            save_network(traced("Plain"), saved)
        with pytest.raises((OSError, InputError), match="No space left"):
            save_network(traced("Plain"), saved.with_name("new.safetensors"))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_saving_into_no_directory_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        save_network(traced("Plain"), tmp_path / "none" / "net.safetensors")


def truncate(path: Path, keep: float) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])


def other_format(path: Path, number: str) -> None:
    change_entry(path, "nnslim.format", number)


BAD = {
    "missing file": (lambda p: p.unlink(), "no such file"),
    "directory": (lambda p: (p.unlink(), p.mkdir()), "no such file"),
    "empty file": (lambda p: p.write_bytes(b""), "is not a safetensors file"),
    "cut in the length": (lambda p: p.write_bytes(p.read_bytes()[:5]), "is not a safetensors file"),
    "cut in the header": (lambda p: truncate(p, 0.3), "is truncated"),
    "cut in the tensors": (lambda p: truncate(p, 0.97), "is damaged"),
    "one byte lost": (lambda p: p.write_bytes(p.read_bytes()[:-1]), "is damaged"),
    "one byte too many": (lambda p: p.write_bytes(p.read_bytes() + b"x"), "is damaged"),
    "a text": (lambda p: p.write_text("model weights, trust me\n" * 9), "header length is"),
    "a zip": (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(400)), "safetensors|truncated"),
    "header not JSON": (lambda p: write_header(p, b"{not json}"), "its header is not JSON"),
    "header not text": (lambda p: write_header(p, b"\xff\xfe\xfd"), "its header is not JSON"),
    "header a list": (lambda p: write_header(p, [1, 2]), "its header is not an object"),
    "header very deep": (lambda p: write_header(p, b"[" * 200_000), "its header is not JSON"),
    "no graph at all": (
        lambda p: safetensors.torch.save_file({"w": torch.zeros(3)}, p),
        "holds weights without a graph",
    ),
    "newer format": (lambda p: other_format(p, "2"), "has format 2; this nnslim reads 1"),
    "odd format": (lambda p: other_format(p, "one"), "has format one"),
    "no graph entry": (lambda p: change_entry(p, "nnslim.graph", None), "lacks 'nnslim.graph'"),
    "graph not JSON": (
        lambda p: change_entry(p, "nnslim.graph", "{"),
        "'nnslim.graph' is not JSON",
    ),
    "graph very deep": (
        lambda p: change_entry(p, "nnslim.graph", "[" * 200_000),
        "'nnslim.graph' is not JSON",
    ),
    "graph a list": (lambda p: change_entry(p, "nnslim.graph", "[]"), "is not a JSON dict"),
    "unknown operator": (
        lambda p: change_graph(p, "aten.relu.default", "aten.system.default"),
        "node 'relu' uses the operator 'aten.system.default'",
    ),
    "unknown reference": (
        lambda p: change_graph(p, '{"ref":"cat"}', '{"ref":"dog"}'),
        "uses 'dog'",
    ),
    "shape disagrees": (
        lambda p: change_tensors(p, branch__weight=torch.zeros(4, 5, 1, 1)),
        "do not fit the graph at 'conv2d_1'",
    ),
    "shape disagrees quietly": (
        lambda p: change_tensors(p, head__weight=torch.zeros(5, 12), head__bias=torch.zeros(5)),
        "do not fit the graph at 'linear'",
    ),
    "dtype disagrees": (
        lambda p: change_tensors(p, stem__weight=torch.zeros(8, 3, 3, 3, dtype=torch.float16)),
        "do not fit the graph at 'conv2d'",
    ),
    "tensor missing": (
        lambda p: change_tensors(p, bn__running_mean=None),
        "uses the tensor 'bn.running_mean', which the file lacks",
    ),
    "no parameters entry": (
        lambda p: change_entry(p, "nnslim.parameters", None),
        "lacks 'nnslim.parameters'",
    ),
    "parameters a list": (
        lambda p: change_entry(p, "nnslim.parameters", "[]"),
        "is not a JSON dict",
    ),
    "classes an object": (lambda p: change_entry(p, "nnslim.classes", "{}"), "is not a JSON list"),
    "history a number": (lambda p: change_entry(p, "nnslim.history", "3"), "is not a JSON list"),
    "preprocess without mean": (
        lambda p: change_entry(p, "nnslim.preprocess", '{"size": [8, 8], "std": [1]}'),
        "preprocessing is not readable",
    ),
    "preprocess of size 0": (
        lambda p: change_entry(p, "nnslim.preprocess", '{"size": [0, 8], "mean": [0], "std": [1]}'),
        "size >= 1",
    ),
}


@pytest.mark.parametrize(("damage", "message"), BAD.values(), ids=BAD)
def test_a_damaged_file_is_refused_in_one_sentence(damage, message, saved):
    damage(saved)
    with pytest.raises(InputError, match=message) as caught:
        load_network(saved)
    assert caught.value.exit_code == 2
    assert str(saved) in caught.value.message
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_an_unknown_operator_is_a_kind_of_its_own(saved):
    change_graph(saved, "aten.relu.default", "aten.system.default")
    with pytest.raises(UnsupportedModelError):
        load_network(saved)


def test_an_index_out_of_range_is_refused(saved):
    """``index_select`` computes nothing on meta tensors, so its index needs a check of its own."""
    change_tensors(saved, nnslim_index__view_1=torch.full((8,), 8))
    with pytest.raises(InputError, match="view_1"):
        load_network(saved)


def test_a_file_without_a_graph_is_told_apart(tmp_path):
    safetensors.torch.save_file({"w": torch.zeros(3)}, tmp_path / "bare.safetensors")
    assert not is_network_file(tmp_path / "bare.safetensors")


def test_the_page_shows_what_is_written(tmp_path, monkeypatch, capsys):
    """``docs/reference/file-format.md`` ends with a program and what it prints."""
    page = (Path(__file__).parents[2] / "docs/reference/file-format.md").read_text(encoding="utf-8")
    program, printed = re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(program, {})
    shown = capsys.readouterr().out.replace(
        f"nnslim.version {__version__}\n", "nnslim.version 0.1.0\n"
    )
    assert shown == printed


def test_the_golden_file_was_never_changed():
    data = (FOLDER / "format1.safetensors").read_bytes()
    assert hashlib.sha256(data).hexdigest() == GOLDEN_SHA256


def test_the_golden_file_still_loads():
    """Format 1 for ever: see ``make_golden.py``."""
    network = load_network(FOLDER / "format1.safetensors")
    expected = json.loads((FOLDER / "format1.json").read_text())
    torch.testing.assert_close(
        network(golden_input()), torch.tensor(expected["logits"]), rtol=1e-5, atol=1e-6
    )
    assert network.preprocess == Preprocess((8, 8), (0.5, 0.4, 0.3), (0.25, 0.2, 0.3), resize=9)
    assert network.classes == ("ant", "bee", "cicáda", "dragonfly", "earwig")
    assert network.history == ({"step": "prune", "params": {"before": 333, "after": 333}},)
    assert network.notes == ("made for the tests",)
    assert [n for n, p in network.named_parameters() if not p.requires_grad] == ["head.bias"]


def test_format_1_is_still_written_the_same_way():
    """Tracing the golden network again gives the golden graph, source lines aside."""
    stored = graph_to_json(load_network(FOLDER / "format1.safetensors").graph)
    traced_now = graph_to_json(golden_network().graph)
    for node in (*stored["nodes"], *traced_now["nodes"]):
        node.pop("source", None)
    assert canonical_json(traced_now) == canonical_json(stored)
