from __future__ import annotations

import pytest

from nnslim.onnx import export_onnx
from tests.onnx.nets import two_branches


@pytest.fixture(scope="session")
def net():
    return two_branches().eval()


@pytest.fixture(scope="session")
def onnx_path(net, tmp_path_factory):
    return export_onnx(net, tmp_path_factory.mktemp("measure") / "net.onnx").path
