from __future__ import annotations

import io
import json

import pytest
import torch

from nnslim.errors import InputError
from nnslim.models.exported import read_exported
from tests.models.files import Evil, exported, rewrite


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "net.pt2"
    return path, exported(path)


def edited(archive, tmp_path, change, extra=""):
    target = tmp_path / "edited.pt2"
    rewrite(archive[0], target, change, extra)
    return target


def unchanged(_name, data):
    return data


def replace_text(old, new):
    def change(_name, data):
        return data.replace(old.encode(), new.encode())

    return change


def test_an_archive_computes_what_was_exported(archive):
    module, shape = read_exported(archive[0])
    x = torch.randn(5, 1, 8, 8)
    assert shape == (2, 1, 8, 8)
    assert torch.equal(module(x), archive[1](x))
    assert dict(module.named_parameters()).keys() == dict(archive[1].named_parameters()).keys()


def test_a_rewritten_archive_still_loads(archive, tmp_path):
    module, _ = read_exported(edited(archive, tmp_path, unchanged))
    x = torch.randn(3, 1, 8, 8)
    assert torch.equal(module(x), archive[1](x))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("torch.ops.aten.relu.default", "torch.os.system"),
        ("torch.ops.aten.relu.default", "torch.hub.load"),
        ("torch.ops.aten.relu.default", "torch.ops.aten.relu.default.__class__"),
        ("torch.ops.aten.relu.default", "#something"),
        ('"use_pickle": false', '"use_pickle": true'),
        ("builtins.tuple", "collections.defaultdict"),
    ],
)
def test_what_could_run_code_is_refused(archive, tmp_path, old, new):
    path = edited(archive, tmp_path, replace_text(old, new))
    assert path.read_bytes() != archive[0].read_bytes()
    with pytest.raises(InputError, match="could run code from the file"):
        read_exported(path)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('touch {}')",
        "Symbol('s77').__class__",
        "open('{}', 'w')",
        "Symbol('s77', positive=True) + eval('1')",
        "lambda: 1",
    ],
)
def test_expressions_are_not_evaluated(archive, tmp_path, expression):
    marker = tmp_path / "ran"

    def change(name, data):
        if not name.startswith("models/"):
            return data
        document = json.loads(data)

        def visit(value):
            if isinstance(value, dict):
                for key, item in value.items():
                    if key == "expr_str":
                        value[key] = expression.format(marker)
                    visit(item)
            elif isinstance(value, list):
                for item in value:
                    visit(item)

        visit(document)
        return json.dumps(document).encode()

    path = edited(archive, tmp_path, change)
    with pytest.raises(InputError, match="expr_str = "):
        read_exported(path)
    assert not marker.exists()


def test_torch_itself_would_have_evaluated_it(archive, tmp_path):
    """The reason for the checks; when this fails, torch has become safe and they may go."""
    marker = tmp_path / "ran"
    evil = io.BytesIO()
    torch.save(((Evil(marker),), {}), evil)

    def change(name, data):
        return evil.getvalue() if name.startswith("data/sample_inputs/") else data

    path = edited(archive, tmp_path, change)
    with pytest.raises(InputError, match="holds pickled objects"):
        read_exported(path)
    assert not marker.exists()
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever torch says afterwards
        torch.export.load(path)
    assert marker.exists()


@pytest.mark.parametrize(
    "extra",
    [
        "data/aotinductor/model/model.so",
        "data/weights/model.pt",
        "data/constants/custom_obj_0",
        "data/constants/opaque_obj_0",
        "data/weights/../../escape",
        "code/model.py",
    ],
)
def test_entries_that_are_not_data_are_refused(archive, tmp_path, extra):
    path = edited(archive, tmp_path, unchanged, extra)
    with pytest.raises(InputError, match="could run code from the file: it holds"):
        read_exported(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_that_come_twice_are_refused(archive, tmp_path):
    path = edited(archive, tmp_path, unchanged, "models/model.json")
    with pytest.raises(InputError, match=r"the same name twice|holds 'models/model.json'"):
        read_exported(path)


def test_a_damaged_document_is_one_sentence(archive, tmp_path):
    def change(name, data):
        return data[:100] if name.startswith("models/") else data

    with pytest.raises(InputError, match=r"is damaged: models/.* is not JSON") as caught:
        read_exported(edited(archive, tmp_path, change))
    assert "\n" not in str(caught.value)


def test_a_truncated_archive_is_one_sentence(archive, tmp_path):
    path = tmp_path / "cut.pt2"
    path.write_bytes(archive[0].read_bytes()[:3000])
    with pytest.raises(InputError, match="damaged or truncated"):
        read_exported(path)


def test_a_document_that_torch_cannot_use_is_one_sentence(archive, tmp_path):
    path = edited(archive, tmp_path, replace_text('"graph_module"', '"graph_modul"'))
    with pytest.raises(InputError, match="cannot load this archive") as caught:
        read_exported(path)
    assert "\n" not in str(caught.value)
