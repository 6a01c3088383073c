from __future__ import annotations

from pathlib import Path

import pytest

from nnslim.onnx import ExportReport, export_onnx
from tests.onnx.nets import two_branches


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ExportReport:
    return export_onnx(two_branches(), tmp_path_factory.mktemp("onnx") / "net.onnx")


@pytest.fixture(scope="session")
def onnx_path(exported: ExportReport) -> Path:
    return exported.path
