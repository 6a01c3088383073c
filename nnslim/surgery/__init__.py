"""Changing the widths of a network, and proving that nothing else changed.

docs/explanation/design.md says what an edit is, cut-is-masked.md beside it how it is checked.
"""

from __future__ import annotations

from nnslim.surgery.apply import apply_edit
from nnslim.surgery.compose import compose_edits
from nnslim.surgery.edit import PLANT, Edit
from nnslim.surgery.permute import permute_channels
from nnslim.surgery.plant import Planted, plant_channels
from nnslim.surgery.verify import CutCheck, verify_cut

__all__ = [
    "PLANT",
    "CutCheck",
    "Edit",
    "Planted",
    "apply_edit",
    "compose_edits",
    "permute_channels",
    "plant_channels",
    "verify_cut",
]
