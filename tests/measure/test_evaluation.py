from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch

from nnslim.artifact import save_network
from nnslim.data import Augment, Data, Loader, Preprocess, Split
from nnslim.errors import DeviceError, InputError
from nnslim.measure.accuracy import network_accuracy
from nnslim.measure.evaluation import evaluate
from nnslim.measure.results import EvalFile
from nnslim.network import trace_network
from nnslim.onnx import export_onnx
from nnslim.settings.eval import EvalSettings, LatencySettings, PairedSettings
from nnslim.settings.export import ExportSettings
from nnslim.settings.session import SessionSettings

QUICK = LatencySettings(warmup_runs=1, warmup_s=0, rounds=2, calls_per_round=2, min_s=0, block_s=0)
PAIR = PairedSettings(
    pairs=1, max_pairs=1, rounds=2, least_rounds=1, min_s=0, block_s=0, warmup_s=0, draws=100
)
SETTINGS = EvalSettings(
    SessionSettings("cpu", threads=1), (1, 3), accuracy_batch=16, latency=QUICK, paired=PAIR
)
PLAIN = Preprocess(size=(8, 8), mean=(0.5,) * 3, std=(0.5,) * 3)


def said(result):
    """Warnings that do not depend on how busy the machine is."""
    return [w for w in result.warnings if "unsteady" not in w and "interval" not in w]


@pytest.fixture(scope="module")
def data(net):
    """42 images whose labels are the network's own answers for about half of them."""
    generator = np.random.default_rng(0)
    split = Split(np.zeros(42, np.int64), generator.integers(0, 256, (42, 8, 8, 3), np.uint8))
    images = torch.cat([x for x, _ in Loader(split, net.preprocess, 42)])
    answers = net(images).argmax(1).numpy()
    labels = np.where(generator.random(42) < 0.5, answers, generator.integers(0, 10, 42))
    test = Split(labels, split.images)
    return Data("made", net.classes, PLAIN, {"test": test}, Augment(pad=0, flip=False), ("a note",))


@pytest.fixture(scope="module")
def bare(onnx_path, tmp_path_factory):
    """The same file from somebody else: no metadata."""
    model = onnx.load(onnx_path)
    del model.metadata_props[:]
    path = tmp_path_factory.mktemp("bare") / "bare.onnx"
    onnx.save(model, path)
    return path


def test_network_file_and_onnx_file_side_by_side(net, onnx_path, data, tmp_path):
    traced = trace_network(net, torch.zeros(2, 3, 8, 8))
    traced.preprocess, traced.classes = net.preprocess, net.classes
    path = tmp_path / "net.safetensors"
    save_network(traced, path)
    steps = []
    files = [EvalFile(path, baseline=True), EvalFile(onnx_path)]
    report = evaluate(files, data, SETTINGS, on_step=steps.append)
    ours, theirs = report.files
    wanted = network_accuracy(net, Loader(data.test, net.preprocess, 16))
    assert 20 < wanted.top1_pct < 100
    for result in report.files:
        np.testing.assert_array_equal(result.accuracy.correct, wanted.correct)
        assert result.accuracy.top1_pct == wanted.top1_pct
        assert result.accuracy.top5_pct == wanted.top5_pct
        assert result.macs == 8 * 64 * 27 + 8 * 64 * 3 + 80
        assert result.preprocess == net.preprocess
        assert {size: latency.n for size, latency in result.latency.items()} == {1: 4, 3: 4}
        assert result.provider_requested == result.provider_used == "CPUExecutionProvider"
        assert said(result) == []
    assert ours.n_parameters == sum(p.numel() for p in net.parameters())
    assert theirs.n_parameters == ours.n_parameters - 2 * 8  # two norms became two biases
    assert (ours.n_bytes, ours.onnx_bytes > 1000) == (path.stat().st_size, True)
    assert theirs.n_bytes == theirs.onnx_bytes == onnx_path.stat().st_size
    assert any("BatchNorm is folded" in note for note in report.notes)
    assert "a note" in report.notes
    assert steps[0] == "reading net.safetensors"
    assert steps[-2:] == ["latency at batch size 3", "net.onnx against the baseline"]
    against = theirs.against if theirs.baseline is False else ours.against
    assert against is not None
    assert against.accuracy.drop_pp == 0
    assert set(against.latency) == {1, 3}


def test_json_is_plain_and_has_units(onnx_path, data):
    report = evaluate([EvalFile(onnx_path)], data, replace(SETTINGS, batch_sizes=(2,)))
    values = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert values["schema"] == "nnslim.eval/1"
    assert (values["n_images"], values["n_classes"], values["cpu_threads"]) == (42, 10, 1)
    (file,) = values["files"]
    assert file["preprocess_from"] == "file"
    assert Preprocess.from_json(file["preprocess"]) == report.files[0].preprocess
    (latency,) = file["latency"]
    assert latency["batch_size"] == 2
    assert 0 < latency["min_ms"] <= latency["median_ms"] <= latency["p90_ms"]
    assert {"top1_pct", "top5_pct", "loss_nats", "file_bytes", "macs", "sha256"} <= set(file)


def test_logits_that_are_not_finite_stay_json(onnx_path, data, tmp_path):
    model = onnx.load(onnx_path)
    tensor = next(t for t in model.graph.initializer if t.name == "head.bias")
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full(10, np.nan, np.float32), "head.bias"))
    path = tmp_path / "nan.onnx"
    onnx.save(model, path)
    report = evaluate([EvalFile(path)], data, replace(SETTINGS, batch_sizes=()))
    json.dumps(report.to_json(), allow_nan=False)
    assert report.files[0].accuracy.top1_pct == 0
    assert report.files[0].warnings == ("42 of 42 images have NaN or infinite logits: wrong",)


def test_whose_preprocessing(net, onnx_path, bare, data):
    settings = replace(SETTINGS, batch_sizes=())
    files = [EvalFile(onnx_path), EvalFile(bare)]
    default = evaluate(files, data, settings)
    assert [r.preprocess_from for r in default.files] == ["file", "data"]
    assert [r.preprocess for r in default.files] == [net.preprocess, PLAIN]
    (note,) = [note for note in default.notes if "preprocessing" in note]
    assert str(bare) in note
    given = evaluate(files, data, settings, preprocess=net.preprocess)
    assert [r.preprocess_from for r in given.files] == ["file", "caller"]
    assert given.files[1].accuracy.top1_pct == default.files[0].accuracy.top1_pct
    assert default.files[1].accuracy.loss != default.files[0].accuracy.loss
    assert not [note for note in given.notes if "preprocessing" in note]


def test_what_does_not_fit_is_an_input_error_that_names_the_file(onnx_path, bare, data):
    settings = replace(SETTINGS, batch_sizes=())
    big = Preprocess(size=(9, 8), mean=(0.5,) * 3, std=(0.5,) * 3)
    with pytest.raises(InputError, match=r"bare\.onnx: input is 3x8x8.* makes 3x9x8"):
        evaluate([EvalFile(bare)], data, settings, preprocess=big)
    fewer = replace(data, splits={"test": data.test.subset(np.flatnonzero(data.test.labels < 8))})
    fewer = replace(fewer, classes=data.classes[:8])
    with pytest.raises(InputError, match=r"net\.onnx: .* has 10 classes, the data 8 classes"):
        evaluate([EvalFile(onnx_path)], fewer, settings)
    for name in ("no.onnx", "no.safetensors"):
        with pytest.raises(InputError, match="no such file"):
            evaluate([EvalFile(onnx_path.with_name(name))], data, settings)


def test_other_class_names_are_a_warning(onnx_path, data):
    swapped = (data.classes[1], data.classes[0], *data.classes[2:])
    report = evaluate(
        [EvalFile(onnx_path)], replace(data, classes=swapped), replace(SETTINGS, batch_sizes=())
    )
    (warning,) = report.files[0].warnings
    assert (
        warning == f"class 0 is {data.classes[0]!r} in the file and {data.classes[1]!r} in the data"
    )


def test_metadata_that_is_not_json(onnx_path, data, tmp_path):
    model = onnx.load(onnx_path)
    for key, value in (("nnslim.preprocess", "{"), ("nnslim.preprocess", "[1]")):
        onnx.helper.set_model_props(model, {key: value})
        onnx.save(model, tmp_path / "odd.onnx")
        with pytest.raises(InputError, match=r"odd\.onnx: metadata .* is not"):
            evaluate([EvalFile(tmp_path / "odd.onnx")], data, SETTINGS)


def test_fixed_batch_is_scored_whole_and_timed_only_there(net, data, tmp_path):
    path = tmp_path / "3.onnx"
    export_onnx(net, path, settings=ExportSettings(batch=3))
    (result,) = evaluate([EvalFile(path)], data, SETTINGS).files
    assert result.accuracy.n == 42
    assert set(result.latency) == {3}
    assert said(result) == ["batch 1 not timed: the file is fixed to 3 images"]


def test_network_from_the_caller_and_no_data(net, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(b"whatever the caller has read")
    report = evaluate([EvalFile(path, network=net)], None, replace(SETTINGS, batch_sizes=(1,)))
    (result,) = report.files
    assert (result.accuracy, result.preprocess, report.n_images) == (None, None, 0)
    assert result.n_bytes == path.stat().st_size
    assert result.n_parameters == sum(p.numel() for p in net.parameters())
    assert set(result.latency) == {1}
    assert report.to_json()["files"][0]["top1_pct"] is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_gpu_asked_for_on_a_machine_without(onnx_path):
    quick = replace(SETTINGS, session=SessionSettings("auto", threads=1), batch_sizes=(1,))
    (result,) = evaluate([EvalFile(onnx_path)], None, quick).files
    assert result.provider_requested == "CUDAExecutionProvider"
    assert result.provider_used == "CPUExecutionProvider"
    (warning,) = said(result)
    assert "running on the CPU" in warning
    for changes in ({"device": "cuda"}, {"require_gpu": True}):
        settings = replace(quick, session=replace(quick.session, **changes))
        with pytest.raises(DeviceError):
            evaluate([EvalFile(onnx_path)], None, settings)
