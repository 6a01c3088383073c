"""What people look at: tables, and the channel through which work in progress speaks."""

from __future__ import annotations

from nnslim.report.sink import SILENT, Progress, Sink
from nnslim.report.table import Column, Table

__all__ = ["SILENT", "Column", "Progress", "Sink", "Table"]
