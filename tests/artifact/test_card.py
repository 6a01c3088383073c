from __future__ import annotations

import json

import pytest

from nnslim.artifact.card import model_card
from nnslim.data.preprocess import Preprocess

ROWS = [
    {"name": "input", "top1_pct": 91.73, "params": 269_722, "macs": 40_550_000, "bytes": 1_100_000},
    {"name": "pruned", "top1_pct": 90.123, "params": 134_000, "macs": 19_000_000, "bytes": None},
]
SMALL = {"name": "net", "operation": "prune", "summary": "A network.", "results": ROWS}
LARGE = SMALL | {
    "name": 'the "net": #1',
    "license": "mit",
    "base_model": "who/net",
    "datasets": ["cifar10"],
    "preprocess": Preprocess((32, 32), (0.5,), (0.25,), resize=36).to_json(),
    "classes": [f"class{i}" for i in range(30)],
    "notes": ["val: 5000 images split off train"],
    "command": "nnslim prune net.pt",
    "onnx": "model.onnx",
}


def front_matter(card):
    """The front matter as plain values; JSON strings are YAML strings."""
    yaml = pytest.importorskip("yaml")
    first, text, _ = card.split("---\n", 2)
    assert first == ""
    return yaml.safe_load(text)


def test_front_matter_is_what_hubs_read():
    found = front_matter(model_card(LARGE))
    assert found["license"] == "mit"
    assert found["library_name"] == "nnslim"
    assert found["pipeline_tag"] == "image-classification"
    assert found["tags"] == ["nnslim", "pruned", "onnx"]
    assert found["datasets"] == ["cifar10"]
    assert (found["base_model"], found["base_model_relation"]) == ("who/net", "finetune")
    (entry,) = found["model-index"]
    assert entry["name"] == 'the "net": #1'
    assert entry["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.90123}]


def test_a_license_and_a_parent_are_never_guessed():
    found = front_matter(model_card(SMALL))
    assert set(found) == {"library_name", "pipeline_tag", "tags"}
    assert found["tags"] == ["nnslim", "pruned"]


def test_the_table_shows_what_was_measured():
    lines = model_card(SMALL).splitlines()
    start = lines.index("|  | top-1, % | parameters | MACs | bytes |")
    assert lines[start + 1] == "| :--- | ---: | ---: | ---: | ---: |"
    assert lines[start + 2] == "| input | 91.73 | 269,722 | 40,550,000 | 1,100,000 |"
    assert lines[start + 3] == "| pruned | 90.12 | 134,000 | 19,000,000 | - |"
    assert "top-5" not in model_card(SMALL)


def test_the_text_says_how_to_prepare_and_use():
    text = model_card(LARGE)
    assert "Scale the shorter side to 36 pixels, crop 32 x 32 at the centre (bilinear)" in text
    assert "with mean 0.5 and std 0.25." in text
    assert "30 classes: class0, class1," in text
    assert "class20" not in text
    assert 'nnslim.load("model.safetensors")' in text
    assert "- val: 5000 images split off train" in text
    assert "Made by `nnslim prune net.pt` with nnslim " in text


def test_optional_parts_are_left_out():
    text = model_card(SMALL)
    for part in ("## Input", "## Notes", "model.onnx", "classes:"):
        assert part not in text
    assert "\n\n\n" not in text
    assert "\n\n\n" not in model_card(LARGE)


def test_a_grown_network_is_tagged_so():
    assert '- "grown"' in model_card(SMALL | {"operation": "grow"})


@pytest.mark.parametrize("key", SMALL)
def test_required_keys_are_required(key):
    report = {name: value for name, value in SMALL.items() if name != key}
    with pytest.raises(Exception, match=key):
        model_card(report)


def test_a_report_read_from_json_gives_the_same_card():
    assert model_card(json.loads(json.dumps(LARGE))) == model_card(LARGE)
