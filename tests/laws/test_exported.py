"""Law 5: onnxruntime computes what the network computes, at batches 1, 2 and 5."""

from __future__ import annotations

import pytest
import torch

from nnslim.channels import channel_groups
from nnslim.onnx import export_onnx, open_session
from nnslim.settings.session import SessionSettings
from nnslim.surgery import apply_edit
from tests.laws.made import random_edit
from tests.laws.reference import random_inputs, relative
from tests.laws.zoo import NETS, network_of

FAST = ["Shuffled", "SplitSwapped", "PaddedShortcut", "ChannelsLastHead", "ConvNextBlock"]


CASES = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
    for name in NETS
    if name not in ("TwoInputs", "TwoOutputs", "TwoInputsTwoOutputs", "FeaturesOut")  # one of each
]


@pytest.mark.parametrize("name", CASES)
def test_file_computes_what_the_network_computes(name, tmp_path):
    network = network_of(name)
    for seed in (1, 2):  # twice cut: literals were rewritten twice
        channels = channel_groups(network)
        network = apply_edit(network, random_edit(channels, seed, least=2), channels)
    report = export_onnx(network, tmp_path / "net.onnx")
    session = open_session(tmp_path / "net.onnx", SessionSettings(device="cpu"))
    for batch in (1, 2, 5):
        (images,) = (x.float() for x in random_inputs(network, seed=3, batch=batch))
        with torch.no_grad():
            expected = network(images)
        found = torch.from_numpy(session.run(images.numpy()))
        assert relative(found, expected) < 1e-5
    assert {entry.batch for entry in report.parity.per_batch} == {1, 2, 5}
