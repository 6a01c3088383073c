"""Where a run happens: device, messages, checkpoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch

from nnslim.sink import SILENT, Sink

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RunContext"]


@dataclass(frozen=True)
class RunContext:
    """Where a run happens, which does not change its result on the CPU."""

    device: torch.device = field(default_factory=partial(torch.device, "cpu"))
    sink: Sink = SILENT  # takes messages and progress
    checkpoints: Path | None = None  # the directory of finished stages; None keeps nothing
    workers: int = 0  # processes that decode image files
