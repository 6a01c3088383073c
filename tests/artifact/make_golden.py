"""Wrote ``golden/format1.safetensors`` and ``golden/format1.json``, once.

They stand for every file that users have written in format 1, so they must never be written again:
a change of the format gets a new number, a new golden file, and a reader that still reads this one.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnslim.artifact import save_network
from nnslim.data.preprocess import Preprocess
from nnslim.network import Network, trace_network
from tests.network.nets import randomise

FOLDER = Path(__file__).parent / "golden"
SHAPE = (3, 8, 8)


class Golden(nn.Module):
    """Each operator whose arguments take a form of their own in the file."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)
        self.branch = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.drop = nn.Dropout(0.25)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stem(x)), inplace=True)
        x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        low, high = x.split([4, 4], dim=1)
        x = torch.cat([high, self.branch(low)], 1).contiguous(memory_format=torch.channels_last)
        x = torch.clamp(x, min=-0.5, max=float("inf"))
        x = x + torch.full((1, c, 1, 1), 0.25, dtype=x.dtype, device=x.device)
        pixels = x.permute(0, 2, 3, 1).reshape(-1, c)  # (16 N, C)
        return self.head(self.drop(pixels)).reshape(n, h * w, 5).mean(1)


def golden_network() -> Network:
    model = randomise(Golden(), seed=1)
    model.get_parameter("head.bias").requires_grad_(requires_grad=False)
    network = trace_network(model, torch.zeros(2, *SHAPE))
    network.preprocess = Preprocess(
        size=(8, 8), mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3), resize=9
    )
    network.classes = ("ant", "bee", "cicáda", "dragonfly", "earwig")
    network.history = ({"step": "prune", "params": {"before": 333, "after": 333}},)
    network.notes = ("made for the tests",)
    return network


def golden_input() -> Tensor:
    """Two images of numbers that float32 holds exactly."""
    return ((torch.arange(2 * 192) * 37 % 101) / 64 - 0.75).reshape(2, *SHAPE)


def main() -> None:
    path = FOLDER / "format1.safetensors"
    if path.exists():
        message = f"{path.name} exists and must never be written again"
        raise SystemExit(message)
    network = golden_network()
    save_network(network, path)
    expected = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "logits": network(golden_input()).tolist(),
    }
    path.with_suffix(".json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
