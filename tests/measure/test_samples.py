from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnslim.errors import ConfigError
from nnslim.measure.latency import Latency
from nnslim.measure.ratio import LatencyRatio, paired_ratio
from nnslim.measure.results import Comparison, EvalReport
from nnslim.measure.samples import check_samples, write_samples
from nnslim.settings.eval import EvalSettings
from tests.measure.test_gates import RESULT

A, B, C = Latency(9, ((1, 2), (3,))), Latency(9, ((4, 5), (6,))), Latency(9, ((7, 8), (9,)))


def report():
    pairs = LatencyRatio(
        replace(paired_ratio([(A, B)] * 2), sessions=((A, B), (C, B))),
        replace(paired_ratio([(A, C)] * 2), sessions=((A, C), (C, A))),
    )
    own = replace(
        RESULT,
        latency={1: A},
        latency_e2e={1: B},
        against=Comparison(None, {8: pairs}, 1.0, 1.0, 1.0),
    )
    return EvalReport((own,), EvalSettings(), None, 0, 0, 1, {}, ())


def test_every_timed_call_is_a_row_and_none_is_pickled(tmp_path):
    path = write_samples(tmp_path / "samples.npz", report())
    with np.load(path, allow_pickle=False) as table:
        columns = {name: table[name] for name in table.files}
    assert {len(column) for column in columns.values()} == {3 + 3 + 6 + 6 + 6}
    rows = set(
        zip(*(columns[n].tolist() for n in ("clock", "session", "round", "ms")), strict=True)
    )
    assert {("compute", 0, 0, 1.0), ("compute", 0, 1, 3.0), ("e2e", 0, 1, 6.0)} <= rows
    assert {("baseline", 1, 0, 7.0), ("paired", 1, 1, 6.0), ("control", 0, 1, 9.0)} <= rows
    assert set(columns["path"]) == {"small.onnx"}
    assert set(columns["batch_size"][columns["clock"] == "control"]) == {8}
    assert [path.name for path in tmp_path.iterdir()] == ["samples.npz"]


def test_nothing_timed_is_an_empty_table(tmp_path):
    empty = replace(report(), files=(replace(RESULT, latency={}),))
    with np.load(write_samples(tmp_path / "a.npz", empty)) as table:
        assert len(table["ms"]) == 0


def test_a_file_that_cannot_be_is_refused_before_anything_is_measured(tmp_path):
    there = tmp_path / "there.npz"
    there.touch()
    for path in (there, tmp_path / "a.csv", tmp_path / "none" / "a.npz"):
        with pytest.raises(ConfigError):
            check_samples(path, overwrite=False)
    assert check_samples(there, overwrite=True) == there
