"""``prune.schema.json`` accepts what is written and nothing else."""

from __future__ import annotations

import json
from importlib.resources import files

import jsonschema
import pytest
import torch

from nnslim.pruning import Limit, PruneConfig, SaliencyConfig
from nnslim.pruning.pipeline import prune_network
from nnslim.pruning.report import SCHEMA, plan_json, result_json
from tests.network.nets import NETS, traced
from tests.report.made import cut_only, plan, whole

DOCUMENT = json.loads(
    files("nnslim.report").joinpath("prune.schema.json").read_text(encoding="utf-8")
)
VALIDATOR = jsonschema.Draft202012Validator(DOCUMENT)


def cheap_config() -> PruneConfig:
    return PruneConfig({"params": Limit(0.7, relative=True)}, saliency=SaliencyConfig("magnitude"))


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(DOCUMENT)
    assert DOCUMENT["$id"] == SCHEMA


@pytest.mark.parametrize(
    "report", [plan(), cut_only(), whole()], ids=["dry run", "no data", "whole"]
)
def test_made_up_reports_are_valid(report):
    VALIDATOR.validate(report)


@pytest.mark.parametrize("name", NETS)
def test_what_the_pipeline_writes_is_valid(name):
    result = prune_network(traced(name), None, cheap_config())
    report = json.loads(json.dumps(result_json(result), allow_nan=False))
    rest = {"model": plan()["model"], "data": None, "onnx": None, "versions": {}}
    VALIDATOR.validate(report | rest)
    VALIDATOR.validate(json.loads(json.dumps(plan_json(result.plan), allow_nan=False)))


def positions(part: dict, width: int) -> list[list[int]]:
    """What the schema's description says."""
    if "positions" in part:
        return part["positions"]
    k = part["positions_per_channel"]
    return [list(range(part["start"] + c * k, part["start"] + c * k + k)) for c in range(width)]


@pytest.mark.parametrize("name", NETS)
def test_a_cut_can_be_repeated_from_the_report_alone(name):
    network = traced(name)
    result = prune_network(network, None, cheap_config())
    tensors = dict(network.state_dict())
    for group in json.loads(json.dumps(plan_json(result.plan)))["groups"]:
        dead = set(range(group["width_before"])) - set(group["kept"])
        for part in group["tensors"]:
            own = positions(part, group["width_before"])
            for channel in dead:
                index = torch.tensor(own[channel])
                tensors[part["name"]] = (
                    tensors[part["name"]].clone().index_fill_(part["dim"], index, torch.nan)
                )
    for key, tensor in result.network.state_dict().items():
        if tensor.is_floating_point():
            alive = tensors[key][~tensors[key].isnan()]
            assert torch.equal(alive, tensor.flatten()), key


BROKEN = {
    "no groups": lambda r: r.pop("groups"),
    "another schema": lambda r: r.update(schema="nnslim.prune/3"),
    "unknown key": lambda r: r.update(extra=1),
    "check without data": lambda r: r.pop("data"),
    "accuracy above 100": lambda r: r["after"].update(top1_pct=100.1),
    "accuracy as text": lambda r: r["after"].update(top1_pct="90"),
    "fraction of a parameter": lambda r: r["after"].update(params=1.5),
    "unknown status": lambda r: r["groups"][0].update(status="maybe"),
    "no channel kept": lambda r: r["groups"][0].update(kept=[]),
    "width 0": lambda r: r["groups"][0].update(width_after=0),
    "tensor without place": lambda r: r["groups"][0]["tensors"][0].pop("start"),
    "tensor with two places": lambda r: r["groups"][0]["tensors"][0].update(positions=[[0]]),
    "epoch 0": lambda r: r["training"][0].update(epoch=0),
    "hash of another kind": lambda r: r["model"].update(sha256="abc"),
}


@pytest.mark.parametrize("breakage", BROKEN.values(), ids=BROKEN)
def test_the_schema_refuses(breakage):
    report = whole()
    breakage(report)
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(report)
