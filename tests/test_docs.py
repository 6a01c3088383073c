"""The Python of the pages runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torchvision

import nnslim
from nnslim.channels import channel_groups
from nnslim.network import trace_network
from nnslim.surgery import apply_edit
from tests.laws.made import half_edit

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["reload.md", "how-to/custom-operator.md"])
def test_python_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    resnet = torchvision.models.resnet18(num_classes=10)
    network = trace_network(resnet, torch.zeros(2, 3, 32, 32))
    channels = channel_groups(network)
    nnslim.save(apply_edit(network, half_edit(channels, 1), channels), "slim.safetensors")
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    assert blocks
