"""What people look at: tables, figures and pages of results, and how progress is shown."""

from __future__ import annotations

from nnslim.report.table import Column, Table
from nnslim.sink import SILENT, Progress, Sink

__all__ = ["SILENT", "Column", "Progress", "Sink", "Table"]
