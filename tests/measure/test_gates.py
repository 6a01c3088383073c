from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nnslim.errors import ConfigError
from nnslim.measure import Accuracy, EvalReport, EvalSettings, FileResult, Limits, check_gates


def accuracy(top1):
    return Accuracy(top1, None, 10, None, 0, np.zeros(10, bool))


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
    latency={},
    provider_requested="CPUExecutionProvider",
    provider_used="CPUExecutionProvider",
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
    assert statuses(Limits(min_top1_pct=limit), RESULT) == [("min-top1", "small.onnx", status)]


@pytest.mark.parametrize(("limit", "status"), [(1001, "pass"), (1000, "pass"), (999, "fail")])
def test_max_params(limit, status):
    assert statuses(Limits(max_parameters=limit), RESULT) == [("max-params", "small.onnx", status)]


@pytest.mark.parametrize("missing", [None, accuracy(float("nan"))])
def test_missing_or_nan_fails_whatever_the_limit(missing):
    result = replace(RESULT, accuracy=missing)
    for limit in (0.0, -1.0):
        assert statuses(Limits(min_top1_pct=limit), result)[0][2] == "fail"
    report = EvalReport((result,), EvalSettings(), None, 0, 0, 1, {}, ())
    (verdict,) = check_gates(report, Limits(min_top1_pct=90))
    assert verdict.message == "small.onnx: min-top1 90 failed: not measured"


@pytest.mark.parametrize("limit", [float("nan"), float("inf")])
def test_a_limit_that_says_nothing(limit):
    with pytest.raises(ConfigError):
        Limits(min_top1_pct=limit)


def test_every_file_but_baselines_and_no_limit_no_verdict():
    big = replace(RESULT, path=Path("big.onnx"), n_parameters=9000)
    limits = Limits(min_top1_pct=90, max_parameters=2000)
    assert statuses(limits, RESULT, big) == [
        ("min-top1", "small.onnx", "pass"),
        ("max-params", "small.onnx", "pass"),
        ("min-top1", "big.onnx", "pass"),
        ("max-params", "big.onnx", "fail"),
    ]
    assert len(statuses(limits, RESULT, replace(big, baseline=True))) == 2
    assert statuses(Limits(), RESULT, big) == []
