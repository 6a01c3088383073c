"""Plans under a latency budget: measured layer by layer, then as whole networks."""

from __future__ import annotations
