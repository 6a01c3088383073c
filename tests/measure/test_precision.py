"""float16, int8, pixels in, archives: what comes out is what the network computes, or no file."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from nnslim.artifact import save_network
from nnslim.artifact.torch_archive import export_archive
from nnslim.cli.main import main
from nnslim.data import Data, Loader, Sampling, load_data
from nnslim.errors import ConfigError, ExportMismatchError, InputError, UnsupportedModelError
from nnslim.measure import precision
from nnslim.measure.accuracy import network_accuracy
from nnslim.measure.evaluation import evaluate
from nnslim.measure.precision import export_checked
from nnslim.measure.results import EvalFile
from nnslim.network import Network, trace_network
from nnslim.onnx import export_onnx, open_session
from nnslim.onnx.quantize import Calibration
from nnslim.settings.eval import EvalSettings
from nnslim.settings.export import ExportSettings, PrecisionSettings
from nnslim.settings.session import SessionSettings
from nnslim.train import TrainConfig, fit

CPU = SessionSettings(device="cpu", threads=1)


@pytest.fixture(scope="module")
def data() -> Data:
    return load_data("digits")


@pytest.fixture(scope="module")
def network(data: Data) -> Network:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2)]
    result = trace_network(
        nn.Sequential(*layers, nn.Flatten(), nn.Linear(128, 10)), torch.zeros(2, 1, 8, 8)
    )
    result.preprocess, result.classes = data.preprocess, data.classes
    loader = Loader(data.train, data.preprocess, 64, sampling=Sampling(shuffle=True))
    fit(result, loader, TrainConfig(epochs=4, lr=0.1), device=torch.device("cpu"))
    return result.eval()


@pytest.fixture(scope="module")
def top1(network: Network, data: Data) -> float:
    return network_accuracy(network, Loader(data.test, data.preprocess, 100)).top1_pct


@pytest.fixture(scope="module")
def plain(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "plain.onnx"
    export_onnx(network, path)
    return path


VARIANTS = {
    "float16": (ExportSettings(half=True), PrecisionSettings()),
    "int8": (ExportSettings(), PrecisionSettings(int8=True)),
    "int8, fixed batch": (ExportSettings(batch=4), PrecisionSettings(int8=True)),
    "pixels": (ExportSettings(with_preprocess=True), PrecisionSettings()),
    "float16, pixels": (ExportSettings(half=True, with_preprocess=True), PrecisionSettings()),
    "int8, pixels": (ExportSettings(with_preprocess=True), PrecisionSettings(int8=True)),
}
RARE = ("float16, pixels", "int8, fixed batch")


@pytest.mark.parametrize(
    "name", [pytest.param(v, marks=pytest.mark.slow) if v in RARE else v for v in VARIANTS]
)
def test_every_variant_says_what_it_is_and_is_as_accurate(
    name, network, data, top1, plain, tmp_path
):
    settings, how = VARIANTS[name]
    path = tmp_path / "a.onnx"
    report, check = export_checked(network, path, settings, data, how)
    onnx.checker.check_model(path, full_check=True)
    found = report.metadata
    kind = next((kind for kind in ("float16", "int8") if kind in name), None)
    assert found.get("nnslim.precision") == kind
    assert json.loads(found["nnslim.classes"]) == list(data.classes)
    assert json.loads(found["nnslim.preprocess"])["size"] == [8, 8]
    assert ("nnslim.input" in found) == ("pixels" in name)
    versions = {entry.domain: entry.version for entry in onnx.load(path).opset_import}
    assert versions == {"": 20}
    files = [EvalFile(plain, baseline=True), EvalFile(path)]
    both = evaluate(files, data, EvalSettings(SessionSettings("cpu"), batch_sizes=()))
    measured = both.files[1]
    assert measured.accuracy is not None
    assert abs(measured.accuracy.top1_pct - top1) < (0.01 if kind is None else 1.5)
    assert measured.against is not None
    assert measured.against.accuracy is not None
    assert measured.against.accuracy.drop_pp == pytest.approx(top1 - measured.accuracy.top1_pct)
    if check is not None:
        assert check.top1_pct == measured.accuracy.top1_pct
        assert check.float32_top1_pct == pytest.approx(top1)
        assert check.drop_pp == measured.against.accuracy.drop_pp
        images = next(iter(Loader(data.test, data.preprocess, 300)))[0].numpy()
        pixels = data.test.fitted(data.preprocess).images[:300].transpose(0, 3, 1, 2)
        wanted = open_session(plain, CPU).run(images)
        got = [
            open_session(path, CPU).run(x)
            for x in np.split(pixels if "pixels" in name else images, 75)
        ]
        apart = np.abs(np.concatenate(got) - wanted).max() / np.abs(wanted).max()
        assert check.logits_max_rel == pytest.approx(apart, rel=1e-3)
        assert 1e-4 < apart < (2e-2 if kind == "float16" else 0.3)
    weights = onnx.load(path).graph.initializer
    kinds = {tensor.data_type for tensor in weights}
    assert (onnx.TensorProto.INT8 in kinds) == (kind == "int8")
    assert (onnx.TensorProto.FLOAT16 in kinds) == (kind == "float16")


def test_pixels_inside_are_normalised_as_outside(network, data, plain, tmp_path):
    inside = tmp_path / "inside.onnx"
    export_onnx(network, inside, settings=ExportSettings(with_preprocess=True))
    (images, _) = next(iter(Loader(data.test, data.preprocess, 50)))
    raw = data.test.fitted(data.preprocess).images[:50]
    own = onnx.load(inside).graph.input[0].type.tensor_type
    assert own.elem_type == onnx.TensorProto.UINT8
    assert [d.dim_value or d.dim_param for d in own.shape.dim] == ["batch", 8, 8, 1]
    wanted = open_session(plain, CPU).run(images.numpy())
    got = open_session(inside, CPU).run(raw.transpose(0, 3, 1, 2))
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-4)


def test_a_file_that_loses_too_much_is_not_written(network, data, tmp_path, monkeypatch):
    path = tmp_path / "a.onnx"
    path.write_text("earlier")
    real = precision.quantize_file

    def spoiled(source, target, batches, calibration, **how):
        real(source, target, (0 * batch for batch in batches), calibration, **how)

    monkeypatch.setattr(precision, "quantize_file", spoiled)
    how = PrecisionSettings(int8=True, max_drop=1.0)
    with pytest.raises(ExportMismatchError, match=r"% top-1 on 360 images instead of .* 1 points"):
        export_checked(network, path, ExportSettings(), data, how)
    assert path.read_text() == "earlier"
    assert [p.name for p in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.parametrize(
    ("batch", "asked", "taken"),
    [(None, 20, 20), (7, 20, 21), pytest.param(4, 10**6, 1256, marks=pytest.mark.slow)],
)
def test_the_tool_sees_the_training_images_that_the_file_names(
    batch, asked, taken, network, data, tmp_path, monkeypatch
):
    seen: list[np.ndarray] = []
    real = precision.quantize_file

    def watched(source, target, batches, calibration, **how):
        seen.extend(batches)
        real(source, target, iter(seen), calibration, **how)

    monkeypatch.setattr(precision, "quantize_file", watched)
    how = PrecisionSettings(int8=True, calibration_samples=asked, max_drop=100)
    settings = ExportSettings(batch=batch)
    report, check = export_checked(network, tmp_path / "a.onnx", settings, data, how)
    images = np.concatenate(seen)
    assert len(data.train) == 1257
    assert len(images) == taken
    train = next(iter(Loader(data.train, data.preprocess, 1257)))[0].numpy()
    numbers = [np.flatnonzero((train == image).all(axis=(1, 2, 3)))[0] for image in images]
    assert numbers == sorted(set(numbers))
    digest = hashlib.sha256(np.array(numbers, "<i8").tobytes()).hexdigest()
    assert report.metadata["nnslim.calibration_sha256"] == digest
    assert report.metadata["nnslim.calibration_images"] == str(taken)
    assert check is not None
    assert check.calibration == Calibration(taken, digest)


def test_the_choice_of_calibration_images_is_seeded():
    def chosen(seed):
        return list(precision._calibration_images(1000, None, PrecisionSettings(seed=seed)))

    assert chosen(0) == chosen(0) != chosen(1)
    assert len(chosen(0)) == 128
    with pytest.raises(InputError, match="6 training images do not fill one batch of 7"):
        precision._calibration_images(6, 7, PrecisionSettings())


def test_for_tensorrt_every_zero_point_is_zero_and_biases_stay_floats(network, data, tmp_path):
    def quantised(path, *, symmetric):
        how = PrecisionSettings(int8=True, symmetric=symmetric)
        _, check = export_checked(network, path, ExportSettings(), data, how)
        graph = onnx.load(path).graph
        values = {own.name: onnx.numpy_helper.to_array(own) for own in graph.initializer}
        nodes = [node for node in graph.node if node.op_type.endswith("quantizeLinear")]
        nodes += [node for node in graph.node if node.op_type == "QuantizeLinear"]
        zeros = [values[node.input[2]] for node in nodes if len(node.input) > 2]
        return check, len(nodes), zeros, [v for v in values.values() if v.dtype == np.int32]

    check, n_nodes, zeros, biases = quantised(tmp_path / "a.onnx", symmetric=True)
    assert len(zeros) == n_nodes
    assert {zero.dtype for zero in zeros} == {np.dtype(np.int8)}
    assert not any(zero.any() for zero in zeros)
    assert not biases
    assert check.drop_pp < 1.5
    _, _, zeros, biases = quantised(tmp_path / "b.onnx", symmetric=False)
    assert any(zero.any() for zero in zeros)  # the CPU's own form has both
    assert biases


def test_a_place_without_a_folder_is_refused_before_any_work(network, data, tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "export_onnx", lambda *_, **__: pytest.fail("work was done"))
    path = tmp_path / "missing" / "a.onnx"
    with pytest.raises(InputError, match="no such folder"):
        export_checked(network, path, ExportSettings(half=True), data, PrecisionSettings())
    with pytest.raises(InputError, match="no such folder"):
        export_archive(network, path.with_suffix(".pt2"))


def test_what_float16_cannot_hold_is_named(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    model[1].weight.data[0, 0] = 1e5
    network = trace_network(model, torch.zeros(2, 3, 1, 1))
    with pytest.raises(UnsupportedModelError, match=r"1\.weight holds 1e\+05, more than"):
        export_onnx(network, tmp_path / "a.onnx", settings=ExportSettings(half=True))
    assert not list(tmp_path.iterdir())


def test_combinations_that_make_no_sense(network, data, tmp_path):
    path, how = tmp_path / "a.onnx", PrecisionSettings(int8=True)
    with pytest.raises(ConfigError, match="give data"):
        export_checked(network, path, ExportSettings(), None, how)
    with pytest.raises(ConfigError, match="half"):
        export_checked(network, path, ExportSettings(half=True), data, how)
    with pytest.raises(ConfigError):
        PrecisionSettings(calibration_samples=0)
    bare = trace_network(nn.Flatten(), torch.zeros(2, 3, 1, 1))
    with pytest.raises(ConfigError, match="how pixels become inputs is not known"):
        export_onnx(bare, path, settings=ExportSettings(with_preprocess=True))


def test_an_archive_reloads_in_plain_torch(network, data, tmp_path):
    """A fresh process that may not import nnslim."""
    path = tmp_path / "a.pt2"
    report = export_archive(network, path)
    assert report.max_rel <= 1e-5
    x = torch.randn(7, 1, 8, 8)
    np.save(tmp_path / "x.npy", x.numpy())
    code = (
        "import sys; sys.modules['nnslim'] = None\n"
        "import numpy as np, torch, json\n"
        "extra = {'nnslim.json': ''}\n"
        "model = torch.export.load('a.pt2', extra_files=extra).module()\n"
        "np.save('y.npy', model(torch.from_numpy(np.load('x.npy'))).detach().numpy())\n"
        "print(json.loads(extra['nnslim.json'])['classes'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(
        np.load(tmp_path / "y.npy"), network(x).detach().numpy(), rtol=1e-5, atol=1e-5
    )
    assert done.stdout.strip() == str(list(data.classes))


def test_an_archive_that_computes_something_else_is_not_written(network, tmp_path, monkeypatch):
    real = torch.export.save

    def wrong(program, *args, **kwargs):
        other = torch.export.export(
            trace_network(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)), torch.zeros(2, 1, 8, 8)),
            (torch.zeros(2, 1, 8, 8),),
            dynamic_shapes=(({0: torch.export.Dim.DYNAMIC},),),
        )
        real(other, *args, **kwargs)

    monkeypatch.setattr(torch.export, "save", wrong)
    with pytest.raises(ExportMismatchError, match="the archive's logits differ by"):
        export_archive(network, tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"ends in \.pt2"):
        export_archive(network, tmp_path / "a.zip")


@pytest.fixture
def folder(network, tmp_path, monkeypatch) -> Path:
    save_network(network, tmp_path / "net.safetensors")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(capsys, monkeypatch, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["nnslim", "export", "net.safetensors", *arguments])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            main()
    finally:
        signal.signal(signal.SIGTERM, before)
    printed = capsys.readouterr()
    return int(caught.value.code or 0), printed.out, printed.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--onnx", "--pt2"], "are two files"),
        (["--pt2", "--half"], "are for ONNX files"),
        (["--int8"], "give --data"),
        (
            ["--int8", "--data", "digits", "--set", "format.target=cuda"],
            "no kernels in onnxruntime's CUDA",
        ),
    ],
)
def test_flags_that_contradict_each_other(arguments, message, folder, capsys, monkeypatch):
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert [p.name for p in folder.iterdir()] == ["net.safetensors"]


def test_int8_is_refused_by_cuda_with_the_reason(network, data, tmp_path):
    from nnslim.errors import DeviceError

    path = tmp_path / "a.onnx"
    export_checked(network, path, ExportSettings(), data, PrecisionSettings(int8=True))
    with pytest.raises(DeviceError, match="is int8, for which CUDAExecutionProvider has no kern"):
        open_session(path, SessionSettings(device="cuda"))
    session = open_session(path)
    assert session.provider == "CPUExecutionProvider"
    assert len(session.warnings) == 1


def test_the_command_says_what_was_lost(folder, capsys, monkeypatch):
    code, out, err = run(capsys, monkeypatch, "--half", "--data", "digits", "--json")
    assert code == 0, err
    document = json.loads(out)
    assert document["precision"]["n_images"] == 360
    assert "few float16 kernels for the CPU" in err
    arguments = ("--int8", "--data", "digits", "--set", "format.target=tensorrt", "-o", "b.onnx")
    code, out, _ = run(capsys, monkeypatch, *arguments)
    assert code == 0
    assert "same answer for" in out
    assert "its logits differ from float32's by up to" in out
    kinds = {tensor.data_type for tensor in onnx.load("b.onnx").graph.initializer}
    assert onnx.TensorProto.UINT8 not in kinds
    code, out, _ = run(capsys, monkeypatch, "--pt2")
    assert code == 0
    assert "net.pt2: " in out
