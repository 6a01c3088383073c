"""``eval.schema.json`` accepts what ``nnslim eval`` says, of every kind, and nothing else."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from importlib.resources import files

import jsonschema
import pytest
import torch

from nnslim.measure.results import SCHEMA, EvalFile
from nnslim.onnx import export_onnx
from nnslim.settings.export import ExportSettings
from tests.onnx.nets import two_branches
from tests.report.conftest import EVERYTHING, document, gated

DOCUMENT = json.loads(
    files("nnslim.report").joinpath("eval.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(DOCUMENT)


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(DOCUMENT)
    assert DOCUMENT["$id"] == SCHEMA


def test_files_against_a_baseline_with_every_gate(compared):
    VALIDATOR.validate(compared)
    assert {gate["status"] for gate in compared["gates"]} >= {"pass", "fail"}
    assert compared["files"][0]["against_baseline"]["accuracy"]["moves"]


def test_one_file_and_nothing_else(place):
    found = document([EvalFile(place / "main.onnx")], None, batch_sizes=())
    VALIDATOR.validate(found)
    assert (found["gates"], found["data"], found["files"][0]["latency"]) == ([], None, [])


def test_a_network_file_and_logits_that_are_not_numbers(place, images):
    paths = (place / "main.safetensors", place / "broken.onnx")
    found = document([EvalFile(path) for path in paths], images, batch_sizes=(2,))
    VALIDATOR.validate(found)
    assert [file["loss_nats"] is None for file in found["files"]] == [False, True]


def test_without_data_nothing_is_said_about_accuracy(place):
    found = document(gated(place), None, limits=EVERYTHING)
    VALIDATOR.validate(found)
    assert found["files"][0]["against_baseline"]["accuracy"] is None
    missing = [gate["gate"] for gate in found["gates"] if gate["measured"] is None]
    assert missing[:2] == ["min-top1", "max-drop"]


def test_a_file_that_is_fixed_to_another_batch(tmp_path, place):
    path = export_onnx(two_branches(), tmp_path / "3.onnx", settings=ExportSettings(batch=3)).path
    found = document([EvalFile(path), EvalFile(place / "main.onnx", baseline=True)], None)
    VALIDATOR.validate(found)
    assert [own["batch_size"] for own in found["files"][0]["latency"]] == [3]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_running_on_the_cpu_for_want_of_a_gpu(place, images):
    limits = replace(EVERYTHING, latency_device="cuda")
    found = document(gated(place), images, limits=limits, device="auto")
    VALIDATOR.validate(found)
    assert {gate["status"] for gate in found["gates"]} >= {"pass", "fail", "skipped"}
    assert found["files"][0]["provider_requested"] != found["files"][0]["provider_used"]


BROKEN = {
    "another schema": lambda d: d.update(schema="nnslim.eval/2"),
    "unknown key": lambda d: d.update(extra=1),
    "no files": lambda d: d.update(files=[]),
    "no gates": lambda d: d.pop("gates"),
    "unknown key of a file": lambda d: d["files"][0].update(extra=1),
    "unknown key of a latency": lambda d: d["files"][0]["latency"][0].update(extra=1),
    "unknown key of the other clock": lambda d: d["files"][0]["latency"][0]["e2e"].update(extra=1),
    "unknown key of a ratio": lambda d: ratio(d).update(extra=1),
    "unknown key of a control": lambda d: ratio(d)["control"].update(extra=1),
    "ratio of 0": lambda d: ratio(d).update(ratio=0),
    "fraction of a parameter": lambda d: d["files"][0].update(n_parameters=1.5),
    "accuracy above 100": lambda d: d["files"][0].update(top1_pct=100.1),
    "busier than always": lambda d: d["files"][0].update(onnxruntime_busy=1.2),
    "unknown status": lambda d: d["gates"][0].update(status="maybe"),
    "class without name": lambda d: against(d)["accuracy"]["per_class"][0].pop("name"),
}


def against(found):
    return found["files"][0]["against_baseline"]


def ratio(found):
    return against(found)["latency"][0]


@pytest.mark.parametrize("breakage", BROKEN.values(), ids=BROKEN)
def test_the_schema_refuses(breakage, compared):
    broken = copy.deepcopy(compared)
    breakage(broken)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(broken)
