"""Changing the widths of a network, and proving that nothing else changed (DESIGN: edit)."""

from __future__ import annotations

from nnslim.surgery.apply import apply_edit
from nnslim.surgery.compose import compose_edits
from nnslim.surgery.edit import Edit
from nnslim.surgery.verify import CutCheck, verify_cut

__all__ = ["CutCheck", "Edit", "apply_edit", "compose_edits", "verify_cut"]
