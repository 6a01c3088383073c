"""Law 8: loading a file never runs code from it; only ``trust_pickle`` does, and says so."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from torch import nn

from nnslim.artifact import load_network, save_network
from nnslim.errors import InputError
from nnslim.models.load import ModelOptions, load_model
from nnslim.models.state_dict import read_checkpoint
from nnslim.network import trace_network


class Payload:
    """Unpickling makes the folder ``path``: a trace that it ran."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def _bare(payload: object) -> bytes:
    return pickle.dumps(payload)


def _torch(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer)
    return buffer.getvalue()


def _legacy(payload: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(payload, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def _nested(payload: object) -> bytes:
    return _torch({"state_dict": {"weight": torch.ones(2, 2), "hook": payload}, "epoch": 3})


def _archive(payload: object) -> bytes:
    """A real torch.export archive with the payload among its example inputs."""
    program = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
    buffer, result = io.BytesIO(), io.BytesIO()
    torch.export.save(program, buffer)
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(result, "w") as target:
        for entry in source.namelist():
            data = _torch(payload) if entry.endswith(".pt") else source.read(entry)
            target.writestr(entry, data)
    return result.getvalue()


FORMS = {
    ("bare.pkl.pt", _bare),
    ("torch.pt", _torch),
    ("legacy.pth", _legacy),
    ("nested.th", _nested),
    ("archive.pt2", _archive),
    ("renamed.safetensors", _torch),
    ("renamed.onnx", _torch),
}
READERS = {
    "load_network": load_network,
    "read_checkpoint": read_checkpoint,
    "load_model": lambda path: load_model(path, options=ModelOptions()),
}


@pytest.fixture
def mark(tmp_path) -> Path:
    return tmp_path / "ran"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("name", "form"), sorted(FORMS, key=lambda form: form[0]))
def test_no_reader_runs_a_payload(name, form, reader, tmp_path, mark):
    path = tmp_path / name
    path.write_bytes(form(Payload(mark)))
    with pytest.raises(InputError) as caught:
        READERS[reader](path)
    assert caught.value.exit_code == 2
    assert not mark.exists()


@pytest.mark.parametrize("form", [_bare, _torch, _legacy, _nested])
def test_the_payload_is_live(form, tmp_path, mark):
    """The test above says something only because these files do run code when they are trusted."""
    path = tmp_path / "trusted.pt"
    path.write_bytes(form(Payload(mark)))
    with pytest.raises(InputError):  # it is still no state dict
        read_checkpoint(path, trust_pickle=True)
    assert mark.exists()


def test_trust_is_noted(tmp_path):
    path = tmp_path / "trusted.pt"
    path.write_bytes(_torch(nn.Linear(2, 2)))
    checkpoint = read_checkpoint(path, trust_pickle=True)
    assert isinstance(checkpoint.module, nn.Linear)
    assert any("(trust_pickle)" in note for note in checkpoint.notes)


def test_payload_behind_a_stored_network_is_not_read(tmp_path, mark):
    path = tmp_path / "net.safetensors"
    save_network(trace_network(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(2, 3, 8, 8)), path)
    path.write_bytes(path.read_bytes() + _torch(Payload(mark)))
    with pytest.raises(InputError):
        load_network(path)
    assert not mark.exists()


def test_a_stored_graph_cannot_name_other_functions(tmp_path, mark):
    """The header's operators come from a closed list; nothing else is ever looked up."""
    path = tmp_path / "net.safetensors"
    save_network(trace_network(nn.Sequential(nn.Conv2d(3, 4, 3)), torch.zeros(2, 3, 8, 8)), path)
    data = path.read_bytes()
    for name in (b"python.system..aten2", b"aten.from_file.string", b"os.makedirs.default1"):
        path.write_bytes(data.replace(b"aten.conv2d.default", name[:19]))
        with pytest.raises(InputError, match="operator"):
            load_network(path)
    assert not mark.exists()
