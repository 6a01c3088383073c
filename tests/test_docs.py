"""The Python of the pages runs as it stands."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest
import torch
import torchvision

import nnslim
from nnslim.channels import channel_groups
from nnslim.network import trace_network
from nnslim.surgery import apply_edit
from tests.benchmarks.cifar_report import read_records, write_record, write_report
from tests.laws.made import half_edit

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize(
    "page",
    [
        "how-to/reload-into-your-code.md",
        "how-to/custom-operator.md",
        "explanation/channel-groups.md",
        "explanation/sparse-training.md",
        "explanation/training.md",
    ],
)
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


def test_the_python_reference_says_what_comes_out(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "reference" / "python.md").read_text(encoding="utf-8")
    source = "\n\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    test = doctest.DocTestParser().get_doctest(source, {}, "python.md", "python.md", 0)
    lines: list[str] = []
    result = doctest.DocTestRunner().run(test, out=lines.append)
    assert result.attempted > 10
    assert not lines, "".join(lines)


def test_the_page_of_cifar_is_made_from_its_records(tmp_path):
    """Writing a record again, or in another order, changes neither the file nor the page."""
    kept, results = DOCS / "results" / "cifar.jsonl", tmp_path / "cifar.jsonl"
    for name, record in reversed(read_records(kept).items()):
        write_record(results, name, {**record, "seconds": 0.0})
        write_record(results, name, record)
    write_report(results)
    assert results.read_bytes() == kept.read_bytes()
    assert results.with_suffix(".md").read_bytes() == kept.with_suffix(".md").read_bytes()
