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
    """Where a run happens, which does not change its result on the CPU.

    Attributes:
        device: Where to compute.
        sink: Takes messages and progress.
        checkpoints: The directory of finished stages; None keeps nothing.
        workers: Processes that decode image files.
    """

    device: torch.device = field(default_factory=partial(torch.device, "cpu"))
    sink: Sink = SILENT
    checkpoints: Path | None = None
    workers: int = 0
