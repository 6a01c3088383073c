from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnslim.errors import ConfigError
from nnslim.measure.accuracy import Accuracy
from nnslim.measure.drop import AccuracyDrop, Changes
from nnslim.measure.gates import check_gates
from nnslim.measure.latency import Latency
from nnslim.measure.ratio import LatencyRatio, PairedRatio
from nnslim.measure.results import Comparison, EvalReport, FileResult
from nnslim.report.eval_tables import gate_sentence
from nnslim.settings.eval import EvalSettings, Gates


def accuracy(top1):
    return Accuracy(top1, None, 10, None, 0, np.zeros(10, bool), np.zeros(10, int))


RESULT = FileResult(
    path=Path("small.onnx"),
    baseline=False,
    sha256="0",
    n_bytes=1,
    onnx_bytes=1,
    n_parameters=1000,
    parameters_counted="network",
    macs=None,
    macs_not_counted=(),
    accuracy=accuracy(91.0),
    preprocess=None,
    preprocess_from=None,
    images_per_s=None,
    onnxruntime_busy=None,
    latency={},
    provider_requested="CPUExecutionProvider",
    provider_used="CPUExecutionProvider",
    provider_options={},
    cudnn=None,
    warnings=(),
)


def statuses(limits, *results):
    report = EvalReport(results, EvalSettings(), None, 0, 0, 1, {}, ())
    verdicts = check_gates(report, limits)
    json.dumps([verdict.to_json() for verdict in verdicts], allow_nan=False)
    return [(v.gate, str(v.path), v.status) for v in verdicts]


@pytest.mark.parametrize(("limit", "status"), [(90.9, "pass"), (91.0, "pass"), (91.01, "fail")])
def test_min_top1(limit, status):
    assert statuses(Gates(min_top1=limit), RESULT) == [("min-top1", "small.onnx", status)]


@pytest.mark.parametrize(("limit", "status"), [(1001, "pass"), (1000, "pass"), (999, "fail")])
def test_max_params(limit, status):
    assert statuses(Gates(max_params=limit), RESULT) == [("max-params", "small.onnx", status)]


@pytest.mark.parametrize("missing", [None, accuracy(float("nan"))])
def test_missing_or_nan_fails_whatever_the_limit(missing):
    result = replace(RESULT, accuracy=missing)
    for limit in (0.0, 50.0):
        assert statuses(Gates(min_top1=limit), result)[0][2] == "fail"
    report = EvalReport((result,), EvalSettings(), None, 0, 0, 1, {}, ())
    (verdict,) = check_gates(report, Gates(min_top1=90))
    said = gate_sentence(verdict.to_json())
    assert said == "small.onnx: min-top1 FAILED: not measured, limit 90"


@pytest.mark.parametrize("limit", [float("nan"), float("inf")])
def test_a_limit_that_says_nothing(limit):
    with pytest.raises(ConfigError):
        Gates(min_top1=limit)


def test_every_file_but_baselines_and_no_limit_no_verdict():
    big = replace(RESULT, path=Path("big.onnx"), n_parameters=9000)
    limits = Gates(min_top1=90, max_params=2000)
    assert statuses(limits, RESULT, big) == [
        ("min-top1", "small.onnx", "pass"),
        ("max-params", "small.onnx", "pass"),
        ("min-top1", "big.onnx", "pass"),
        ("max-params", "big.onnx", "fail"),
    ]
    assert len(statuses(limits, RESULT, replace(big, baseline=True))) == 2
    assert statuses(Gates(), RESULT, big) == []


def ratio(low: float, middle: float, high: float) -> PairedRatio:
    return PairedRatio(middle, low, high, 2.0, 2.0 * middle, 5, 40)


CALM = ratio(0.99, 1.0, 1.01)


def against(drop=None, latency=None, control=CALM, **shares) -> Comparison:
    found = None
    if drop is not None:
        low, middle, high = drop
        changes = Changes(99.0, (), ())
        found = AccuracyDrop(middle, low, high, 5, 3, 1000, 0.7, "cat", 2.0, changes)
    times = {} if latency is None else {1: LatencyRatio(ratio(*latency), control)}
    values = {"params_ratio": 0.5, "macs_ratio": 0.5, "bytes_ratio": 0.5} | shares
    return Comparison(found, times, **values)


@pytest.mark.parametrize(
    ("drop", "status"),
    [
        ((-0.2, 0.1, 0.4), "pass"),
        ((-0.2, 0.1, 0.5), "pass"),
        ((0.0, 0.4, 0.8), "fail"),
        ((0.3, 0.7, 1.1), "fail"),
        (None, "fail"),
    ],
)
def test_max_drop_looks_at_the_upper_end(drop, status):
    result = replace(RESULT, against=against(drop))
    assert statuses(Gates(max_drop=0.5), result) == [("max-drop", "small.onnx", status)]


@pytest.mark.parametrize(
    ("latency", "control", "status"),
    [
        ((0.60, 0.62, 0.70), CALM, "pass"),
        ((0.66, 0.69, 0.72), CALM, "inconclusive"),
        ((0.71, 0.75, 0.80), CALM, "fail"),
        ((0.71, 0.75, 0.80), ratio(1.02, 1.04, 1.06), "inconclusive"),
        ((0.60, 0.62, 0.65), ratio(0.90, 0.93, 0.96), "inconclusive"),
        # A control wider than 0.3, which 0.7 is below 1, says nothing of 0.62 and enough of 0.2.
        ((0.60, 0.62, 0.65), ratio(0.85, 1.00, 1.16), "inconclusive"),
        ((0.60, 0.62, 0.65), ratio(0.86, 1.00, 1.15), "pass"),
        ((0.18, 0.20, 0.22), ratio(0.85, 1.00, 1.16), "pass"),
    ],
)
def test_latency_ratio_has_three_verdicts(latency, control, status):
    result = replace(RESULT, against=against(latency=latency, control=control))
    limits = Gates(max_latency_ratio=0.7)
    assert statuses(limits, result) == [("max-latency-ratio", "small.onnx", status)]


def test_limits_for_another_device_are_skipped_and_exact_ones_are_not():
    latency = {1: Latency(1.0, ((5.0, 5.0),))}
    result = replace(RESULT, latency=latency, macs=80, against=against(latency=(0.9, 0.95, 1.0)))
    limits = Gates(max_latency_ratio=0.5, max_latency_ms=1.0, max_macs=100, latency_device="cuda")
    assert [status for *_, status in statuses(limits, result)] == ["pass", "skipped", "skipped"]
    here = replace(limits, latency_device="cpu")
    assert [status for *_, status in statuses(here, result)] == ["pass", "fail", "fail"]


def test_shares_of_the_baseline():
    result = replace(RESULT, against=against(params_ratio=0.51, macs_ratio=None))
    limits = Gates(max_params_ratio=0.5, max_macs_ratio=0.9, max_bytes_ratio=0.5)
    assert [status for *_, status in statuses(limits, result)] == ["fail", "fail", "pass"]
    assert limits.needs_baseline == "gates.max_params_ratio"
    assert statuses(limits, RESULT)[0][2] == "fail"  # nothing was compared
