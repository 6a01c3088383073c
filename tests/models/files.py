"""Files of every kind that a model may come in, and of some that must not be opened."""

from __future__ import annotations

import os
import zipfile
from typing import TYPE_CHECKING

import torch
from torch import nn

from nnslim.models.registry import architecture

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

__all__ = ["Evil", "exported", "rewrite", "small", "weights"]


class Evil:
    """Runs a shell command when it is unpickled without restriction."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def small(**arguments: int | str) -> nn.Module:
    """The same ResNet-20 each time, whose batch norms have seen data."""
    net = architecture("cifar_resnet20").make(arguments)
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        if name.endswith(("running_mean", "running_var", "bias")):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return net.eval()


def weights() -> dict[str, torch.Tensor]:
    return small().state_dict()


def exported(path: Path) -> nn.Module:
    """Write a ``.pt2`` of a small network with a constant, and return the network."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(1, 4, 3)
            self.head = nn.Linear(4, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x).relu().mean((2, 3)).view(x.shape[0], -1)
            return self.head(y) + torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])

    net = Net().eval()
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    example = (torch.zeros(2, 1, 8, 8),)
    program = torch.export.export(net, example, dynamic_shapes=shapes, strict=False)
    torch.export.save(program, path)
    return net


def rewrite(
    source: Path, target: Path, change: Callable[[str, bytes], bytes], extra: str = ""
) -> None:
    """Copy a zip archive, changing its entries, and adding one."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        root = old.namelist()[0].partition("/")[0]
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
        if extra:
            new.writestr(f"{root}/{extra}", b"anything")
