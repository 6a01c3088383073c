"""One run: its directory, its stages, its log of events, and what it publishes."""

from __future__ import annotations
