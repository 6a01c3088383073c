"""What people look at: tables, and the channel through which work in progress speaks."""

from __future__ import annotations

from nnslim.report.table import Column, Table
from nnslim.sink import SILENT, Progress, Sink

__all__ = ["SILENT", "Column", "Progress", "Sink", "Table"]
