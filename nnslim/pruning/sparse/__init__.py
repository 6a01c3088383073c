"""Sparse training: what pulls channels towards zero before they are removed."""

from __future__ import annotations
