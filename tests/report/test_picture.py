"""The picture shows every layer once, with its widths, and what flows where."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from nnslim.artifact import write_page
from nnslim.errors import ConfigError
from nnslim.models import ModelOptions, load_model
from nnslim.pruning import PruneConfig, RunContext, SaliencyConfig
from nnslim.pruning.picture import picture_json
from nnslim.pruning.pipeline import plan_pruning
from nnslim.pruning.run import Subject, dry_run
from nnslim.report.picture import network_picture
from nnslim.report.prune_page import render_html
from tests.laws.zoo import network_of

CONFIG = PruneConfig(saliency=SaliencyConfig("magnitude"), approximate=True)


def layers_of(name: str):
    network = network_of(name)
    channels, planned = plan_pruning(network, None, CONFIG)
    return picture_json(channels, planned.plan)


def test_layers_and_joints_with_their_sources():
    layers = {layer["module"] or layer["kind"]: layer for layer in layers_of("Residual")}
    kinds = [layer["kind"] for layer in layers.values()]
    assert kinds.count("conv2d") >= 2
    assert "add" in kinds
    joint = next(layer for layer in layers.values() if layer["kind"] == "add")
    assert len(joint["inputs"]) == 2
    assert all(layer["after"] <= layer["before"] for layer in layers.values())
    assert any(layer["after"] < layer["before"] for layer in layers.values())


@pytest.mark.parametrize("name", ["Residual", "FusedAttention", "CascadedConcat", "Transposed"])
def test_every_box_and_arc_lies_in_the_picture(name):
    layers = layers_of(name)
    picture = network_picture(layers)
    assert len(picture.boxes) == len(layers)
    for box in picture.boxes:
        assert 0 <= box.after <= box.before <= picture.width - picture.left
        assert 0 <= box.y < picture.height
    numbers = [float(n) for arc in picture.arcs for n in re.findall(r"[\d.]+", arc)]
    assert all(0 <= number <= max(picture.height, picture.left) for number in numbers)
    assert len(picture.arcs) >= len(layers) - 2


def test_layers_of_one_module_are_told_apart_and_heads_count():
    layers = {layer["kind"]: layer for layer in layers_of("TorchAttention")}
    attention = layers["scaled_dot_product_attention"]
    assert attention["before"] == 12  # two heads of six
    assert attention["after"] <= 12
    labels = [box.label for box in network_picture(layers_of("TorchAttention")).boxes]
    own = [label.split()[-1] for label in labels if label.startswith("attention ")]
    assert own == ["linear", "attention", "linear"]


def test_what_must_stay_has_no_colour():
    layers = {layer["module"]: layer for layer in layers_of("Residual")}
    assert (layers["head"]["group"], layers["stem.0"]["group"]) == (None, "stem.0")
    colours = {box.label: box.colour for box in network_picture(layers_of("Residual")).boxes}
    assert colours["head"] == -1 < colours["stem.0"]


def test_dry_run_page_shows_the_network(tmp_path):
    model = load_model(None, ModelOptions(arch="torchvision:mobilenet_v2"))
    report = dry_run(Subject(model, None), CONFIG, RunContext())
    page = render_html(report)
    assert "The network" in page
    assert page.count('class="stop"') == 53  # 52 convolutions and the classifier
    write_page(tmp_path / "page.html", page, overwrite=False)
    with pytest.raises(ConfigError, match="is there already"):
        write_page(tmp_path / "page.html", page, overwrite=False)
    write_page(tmp_path / "page.html", page, overwrite=True)


def test_the_figure_of_the_readme_fits_a_phone_and_is_well_formed():
    drawing = runpy.run_path(str(Path(__file__).parents[2] / "docs" / "figures" / "draw.py"))
    root = ET.fromstring(drawing["draw"]({"layers": layers_of("Residual")}))
    left, _, width, height = map(float, root.attrib["viewBox"].split())
    assert width <= 390
    for box in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert left <= float(box.attrib["x"]) < left + width
        assert 0 <= float(box.attrib.get("y", 0)) < height
