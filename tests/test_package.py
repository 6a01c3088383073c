"""The package as a whole: what importing it costs, and what it offers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import nnslim

PUBLIC = sorted(set(nnslim.__all__) - {"__version__"})


def _python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout.strip()


def test_importing_the_package_imports_no_framework():
    code = (
        "import sys, nnslim; print(sorted({'torch', 'onnx', 'numpy', 'rich'} & set(sys.modules)))"
    )
    assert _python(code) == "[]"


@pytest.mark.parametrize("name", PUBLIC)
def test_public_name_is_what_it_says_even_after_every_submodule_is_imported(name):
    assert callable(getattr(nnslim, name))
    # A function and a subpackage of one name: the import system would put the package in its place.
    code = f"import nnslim.cli.prune, nnslim.pruning, nnslim; print(callable(nnslim.{name}))"
    assert _python(code) == "True"


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'pruune'"):
        _ = nnslim.pruune


def test_listing_shows_the_public_names():
    assert dir(nnslim) == sorted(nnslim.__all__)
