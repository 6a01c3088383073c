from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from nnslim.errors import ConfigError, ExportMismatchError, InputError, UnsupportedModelError
from nnslim.onnx import check_parity, export_onnx, open_session
from nnslim.onnx import export as export_module
from nnslim.onnx.model_file import weights_sha256
from nnslim.settings.export import ExportSettings
from nnslim.settings.session import SessionSettings
from tests.onnx.nets import Clamped, Head, two_branches


def run(path: Path, x: torch.Tensor) -> np.ndarray:
    return open_session(path, SessionSettings(device="cpu")).run(x.numpy())


def test_two_folded_norms_on_one_input_stay_apart(onnx_path):
    x = torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    wanted = two_branches().eval()(x).detach().numpy()
    assert np.abs(run(onnx_path, x) - wanted).max() < 1e-5 * np.abs(wanted).max()
    graph = onnx.load(onnx_path).graph
    convs = [node for node in graph.node if node.op_type == "Conv"]
    assert [node.input[0] for node in convs] == ["input", "input"]  # the folding took place
    assert convs[0].input[2] != convs[1].input[2]


def test_that_mix_up_would_be_seen(onnx_path, tmp_path):
    """pytorch#166797 itself: both convolutions get the bias of one."""
    model = onnx.load(onnx_path)
    convs = [node for node in model.graph.node if node.op_type == "Conv"]
    convs[1].input[2] = convs[0].input[2]
    path = tmp_path / "mixed.onnx"
    onnx.save(model, path)
    with pytest.raises(ExportMismatchError):
        check_parity(two_branches(), path)


def test_file_is_of_the_versions_asked_for(exported, tmp_path):
    model = onnx.load(exported.path)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 20)]
    assert (model.ir_version, exported.ir_version, exported.opset) == (10, 10, 20)
    assert (model.producer_name, model.graph.input[0].name) == ("nnslim", "input")
    assert model.graph.output[0].name == "logits"
    assert exported.n_bytes == exported.path.stat().st_size
    older = export_onnx(Head("good"), tmp_path / "18.onnx", settings=ExportSettings(opset=18))
    assert older.opset == onnx.load(older.path).opset_import[0].version == 18


def test_file_of_another_version_or_invalid_is_refused(onnx_path, tmp_path):
    with pytest.raises(ExportMismatchError, match="asked for opset 21, the file has opsets"):
        export_module._read_back(onnx_path, ExportSettings(opset=21))
    model = onnx.load(onnx_path)
    model.graph.node[0].op_type = "Kink"
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(ExportMismatchError, match=r"not valid ONNX: .*Kink"):
        export_module._read_back(tmp_path / "bad.onnx", ExportSettings())


def test_metadata_comes_back(exported):
    metadata = open_session(exported.path, SessionSettings(device="cpu")).metadata
    net = two_branches()
    assert json.loads(metadata["nnslim.preprocess"]) == net.preprocess.to_json()
    assert json.loads(metadata["nnslim.classes"]) == list(net.classes)
    assert metadata["nnslim.weights_sha256"] == weights_sha256(net)
    assert metadata == dict(exported.metadata)


def test_weights_hash_sees_every_tensor_and_its_name():
    net = two_branches()
    first = weights_sha256(net)
    assert first == weights_sha256(two_branches())
    net.right_norm.running_var[3] += 1e-3
    assert weights_sha256(net) != first
    renamed = nn.ModuleDict({"b": nn.Linear(2, 2)})
    other = nn.ModuleDict({"c": copy.deepcopy(renamed["b"])})
    assert weights_sha256(renamed) != weights_sha256(other)


def test_same_bytes_again_nothing_on_stdout_and_the_old_file_replaced(exported, tmp_path, capfd):
    path = tmp_path / "again.onnx"
    path.write_bytes(b"what was there")
    again = export_onnx(two_branches(), path)
    assert again.path.read_bytes() == exported.path.read_bytes()
    assert again.sha256 == exported.sha256
    assert capfd.readouterr().out == ""
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_of_this_machine_is_inside(exported, monkeypatch):
    content = exported.path.read_bytes()
    traces = (b".py", b"stack_trace", str(Path.home()).encode() + b"/", str(Path.cwd()).encode())
    assert not [trace for trace in traces if trace in content]
    monkeypatch.setattr(export_module, "ClearMetadataAndDocStringPass", lambda: lambda _: None)
    net = two_branches().eval()
    raw = export_module._finish(export_module._to_onnx(net, ExportSettings()), {})
    assert traces[0] in raw  # there is something to strip
    assert traces[1] in raw


def test_callers_network_is_not_touched(tmp_path):
    net = two_branches().double().train()
    net.left_norm.eval()
    net.head.weight.requires_grad_(False)
    net(torch.randn(4, 3, 8, 8, dtype=torch.float64)).sum().backward()
    before = copy.deepcopy(net)
    grads = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    assert grads
    export_onnx(net, tmp_path / "net.onnx")
    assert [m.training for m in net.modules()] == [m.training for m in before.modules()]
    for name, tensor in net.state_dict(keep_vars=True).items():
        kept = before.state_dict(keep_vars=True)[name]
        assert torch.equal(tensor, kept)
        assert (tensor.dtype, tensor.requires_grad) == (kept.dtype, kept.requires_grad)
    assert {name for name, p in net.named_parameters() if p.grad is not None} == set(grads)
    assert all(torch.equal(net.get_parameter(name).grad, grad) for name, grad in grads.items())


def test_fixed_batch(tmp_path):
    settings = ExportSettings(batch=3, provenance={"z": "1", "a": "2"})
    path = export_onnx(Head("good"), tmp_path / "3.onnx", settings=settings).path
    keys = [entry.key for entry in onnx.load(path).metadata_props]
    assert keys == ["a", "nnslim.version", "nnslim.weights_sha256", "z"]
    session = open_session(path, SessionSettings(device="cpu"))
    assert session.batch == 3
    assert session.run(np.zeros((3, 3, 2, 2))).shape == (3, 6)
    with pytest.raises(InputError, match="cannot run 2x3x2x2"):
        session.run(np.zeros((2, 3, 2, 2)))


@pytest.mark.parametrize(
    "how",
    [
        "view",
        pytest.param("branch", marks=pytest.mark.slow),  # torch tries twice before it gives up
        pytest.param("literal", marks=pytest.mark.slow),
    ],
)
def test_hard_coded_batch_is_an_error_and_no_file(how, tmp_path):
    with pytest.raises((ExportMismatchError, UnsupportedModelError), match="batch"):
        export_onnx(Head(how), tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_wrong_weight_leaves_no_file_and_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    path.write_bytes(b"what was there")
    finish = export_module._finish

    def sabotage(model, metadata):
        content = onnx.load_model_from_string(finish(model, metadata))
        tensor = next(t for t in content.graph.initializer if t.name == "head.weight")
        values = onnx.numpy_helper.to_array(tensor).copy()
        values[2, 1] += 0.5
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, "head.weight"))
        return content.SerializeToString()

    monkeypatch.setattr(export_module, "_finish", sabotage)
    with pytest.raises(ExportMismatchError, match="the exported file: at batch 1 the logits"):
        export_onnx(Head("good"), path)
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]
    assert path.read_bytes() == b"what was there"


@pytest.mark.slow
def test_what_onnx_cannot_express_is_named(tmp_path):
    class Odd(nn.Module):
        input_shape = (3, 4, 4)

        def forward(self, x):
            return torch.linalg.eigvals(x).real.flatten(1)

    with pytest.raises(UnsupportedModelError, match="linalg_eig"):
        export_onnx(Odd(), tmp_path / "net.onnx")


def test_places_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        export_onnx(Head("good"), tmp_path / "missing" / "net.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        export_onnx(Head("good"), tmp_path / "folder.onnx")


@pytest.mark.parametrize(
    "wrong", [{"opset": 17}, {"opset": 26}, {"batch": 0}, {"provenance": {"nnslim.version": "9"}}]
)
def test_settings_out_of_range(wrong):
    with pytest.raises(ConfigError):
        ExportSettings(**wrong)


def test_report_is_json(exported):
    report = json.loads(json.dumps(exported.to_json(), allow_nan=False))
    assert report["parity"]["max_rel"] == exported.parity.max_rel <= 1e-4
    assert [entry["batch"] for entry in report["parity"]["per_batch"]] == [1, 2, 5]


def test_parity_sees_another_network_and_states_the_numbers(onnx_path):
    net = two_branches().train().double()
    assert check_parity(net, onnx_path, (3,)).max_abs < 1e-5
    assert (net.training, net.head.weight.dtype) == (True, torch.float64)  # a copy was compared
    with torch.no_grad():
        net.right_norm.running_mean[0] += 0.05
    with pytest.raises(ExportMismatchError, match=r"at batch 3 .* \(allowed 0.0001\)"):
        check_parity(net, onnx_path, (3,))
    assert check_parity(two_branches(), onnx_path, (3,)).noise is None
    tight = check_parity(two_branches(), onnx_path, (3,), rtol=0.0)
    assert tight.rtol == 10 * tight.noise < 1e-5


@pytest.mark.parametrize(
    ("how", "error", "passes"),
    [("good", 5e-4, False), ("noisy", 5e-4, True), ("noisy", 5e-2, False)],
)
def test_a_file_is_held_to_ten_times_the_rounding_of_its_network(how, error, passes, tmp_path):
    torch.manual_seed(0)
    net, path = Head(how), tmp_path / "net.onnx"
    export_onnx(net, path)
    with torch.no_grad():
        x = torch.randn(64, 3, 2, 2)
        moved = (net(x).double() - copy.deepcopy(net).double()(x.double())).abs().max()
        net.head.bias[0] += error
    assert (1e-4 < moved < 1e-3) == (how == "noisy")
    if passes:
        found = check_parity(net, path)
        assert 1e-4 < found.max_rel <= found.rtol == 10 * found.noise
    else:
        with pytest.raises(ExportMismatchError, match=r"\(allowed 0\.00"):
            check_parity(net, path)


def test_two_pairs_of_bounds_on_one_value_both_reach_the_file(tmp_path):
    """The exporter's optimizer gives the bounds of both one name and loses one pair."""
    assert export_onnx(Clamped(), tmp_path / "net.onnx").parity.max_rel < 1e-5


def test_those_bounds_are_lost_without_help(tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "_adopt_constants", lambda _: None)
    with pytest.raises(ExportMismatchError, match="not valid ONNX"):
        export_onnx(Clamped(), tmp_path / "net.onnx")


def test_parity_fails_on_nan(onnx_path):
    net = two_branches()
    with torch.no_grad():
        net.head.bias[0] = torch.nan
    with pytest.raises(ExportMismatchError, match="nan"):
        check_parity(net, onnx_path)


def test_parity_catches_a_file_with_a_literal_batch(onnx_path, tmp_path):
    """The network is fine, the file reshapes to two rows: what a wrong exporter would write."""
    model = onnx.load(onnx_path)
    model.graph.node[-1].output[0] = "before"
    rows = onnx.numpy_helper.from_array(np.array([2, -1]), "rows")
    model.graph.initializer.append(rows)
    model.graph.node.append(onnx.helper.make_node("Reshape", ["before", "rows"], ["logits"]))
    for dim in model.graph.output[0].type.tensor_type.shape.dim:
        dim.Clear()
    path = tmp_path / "literal.onnx"
    onnx.save(model, path)
    assert check_parity(two_branches(), path, (2,)).max_rel < 1e-5
    for batch in (4, 3):
        with pytest.raises(ExportMismatchError, match="hard-codes a batch size"):
            check_parity(two_branches(), path, (batch,))
