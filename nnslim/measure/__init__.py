"""Measure what ships: accuracy, latency, parameters and multiply-adds, and gates on them."""

from __future__ import annotations
