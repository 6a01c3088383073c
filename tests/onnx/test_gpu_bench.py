"""The logic of ``make bench-gpu`` on a machine without a GPU: its matrix, its table, resuming."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from nnslim.cli.output import Output
from nnslim.errors import DeviceError
from nnslim.settings.commands import TalkSettings
from tests.benchmarks import gpu


class FakeRun:
    def __call__(self):
        pass


class FakeSession:
    input_shape = (3, 8, 8)
    provider_options = {"prefer_nhwc": "1"}  # noqa: RUF012 - as the real one reports it

    def bind(self, x):
        assert x.shape[1:] == self.input_shape
        return FakeRun()

    def check_still_on_device(self):
        pass


@pytest.fixture(autouse=True)
def _fast(monkeypatch):
    settings = gpu.LatencySettings(rounds=1, warmup_s=0.0, max_s=0.001)
    monkeypatch.setattr(gpu, "_TIMING", settings)


def test_the_matrix_is_every_combination_once_and_starts_plain():
    settings = list(gpu.matrix(["a", "b"], [1, 64]))
    assert len(settings) == len({own.name for own in settings}) == 2 * 2 * 3 * 2 * 2 * 2 * 2
    first = settings[0]
    assert (first.precision, first.conv_search) == ("fp32", "EXHAUSTIVE")
    assert (first.prefer_nhwc, first.fuse_conv_bias, first.graph) == (False, False, False)
    assert first.session().batch == 1
    assert not first.session().use_tf32


def test_effects_change_a_setting_one_option_at_a_time_and_a_few_together():
    settings = list(gpu.effects(["a", "b"], [1]))
    assert len(settings) == len({own.name for own in settings}) == 20
    assert [own.model for own in settings[:4]] == ["a", "b", "a", "b"]
    assert set(settings) <= set(gpu.matrix(["a", "b"], [1]))


def test_out_of_time_it_keeps_what_is_there(tmp_path):
    settings = list(gpu.effects(["resnet18"], [1]))
    out = Output(TalkSettings(no_progress=True, quiet=True))
    opener = lambda *_: pytest.fail("measured although the time was over")  # noqa: E731
    assert gpu.run(settings, tmp_path, out, opener, minutes=-1) == []


def test_what_is_done_is_not_done_again(tmp_path, monkeypatch):
    opened = []

    def opener(path, settings):
        opened.append(settings)
        if settings.cuda.graph:
            raise DeviceError("no graph for this network")
        return FakeSession()

    exported = []
    monkeypatch.setattr(gpu, "network_named", lambda name: name)
    monkeypatch.setattr(
        gpu, "export_onnx", lambda net, path, settings: (exported.append(path), path.touch())
    )
    settings = list(gpu.matrix(["resnet18"], [1]))
    out = Output(TalkSettings(no_progress=True, quiet=True))
    rows = gpu.run(settings, tmp_path, out, opener)
    assert len(rows) == 48
    assert len(opened) == 24 * gpu.SESSIONS + 24
    assert [path.name for path in exported] == ["resnet18.onnx", "resnet18-fp16.onnx"]
    again = gpu.run(settings, tmp_path, out, lambda *_: pytest.fail("measured again"))
    assert again == json.loads(json.dumps(rows))
    lines = gpu.table(rows).splitlines()
    assert len(lines) == 2 + 48
    assert sum("no graph for this network" in line for line in lines) == 24
    plain = next(own for own in lines if "| fp32 | no | no | exhaustive | no |" in own)
    assert plain.endswith("| 1.00 |")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_stops_with_the_loaders_reason(tmp_path, monkeypatch, capsys):
    report = tmp_path / "gpu.md"
    arguments = ["gpu", "--build", str(tmp_path / "build"), "--report", str(report)]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as caught:
        gpu.main()
    assert caught.value.code == 3
    assert "did not start: " in capsys.readouterr().err
    assert not report.exists()


def test_half_of_a_network_is_half_of_it():
    from nnslim.measure.macs import count_costs

    full, half = (count_costs(gpu.network_named(n)).params for n in ("resnet18", "resnet18-half"))
    assert 0.45 * full < half <= 0.5 * full
