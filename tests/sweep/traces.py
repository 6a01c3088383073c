"""Every classifier traced: does the trace compute what the module does, at other batch sizes?

python -m tests.sweep.traces                       # all; a quarter of an hour on two cores
python -m tests.sweep.traces torchvision:resnet18  # these

Groups and prunable share are compared with those of docs/reference/coverage.md.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from typing import Any

import torch
from torch.utils._pytree import tree_leaves

from nnslim.channels import channel_groups
from nnslim.cli.output import Output
from nnslim.network import trace_network
from nnslim.network.quick import QuickTraceError, quick_trace
from tests.laws.made import move_statistics
from tests.sweep.__main__ import PAGE
from tests.sweep.models import build
from tests.sweep.one import prunable_share
from tests.sweep.page import rows_of_page

_LIMIT = 120  # seconds


def main() -> None:
    out = Output()
    rows = rows_of_page(PAGE.read_text(encoding="utf-8"))
    names = sys.argv[1:] or [f"{row['source']}:{row['model']}" for row in rows]
    known = {f"{row['source']}:{row['model']}": row for row in rows}
    quick = wrong = 0
    with ProcessPoolExecutor(2, max_tasks_per_child=1) as pool:
        for name, found in zip(names, pool.map(check, names), strict=True):
            remarks = list(_remarks(found, known.get(name, {})))
            quick += "quick" in found and found["quick"]
            wrong += bool(remarks)
            how = {True: "quick", False: "torch.export"}.get(found.get("quick"), "-")
            out.info(f"{name:50} {how:13} {found['seconds']:6.1f} s  {'; '.join(remarks)}")
    out.result({}, f"{len(names)} models, {quick} traced quickly, {wrong} to look at")


def check(name: str) -> dict[str, Any]:
    """Trace one model and compare it with its module."""
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    start = time.perf_counter()

    def late(*_: object) -> None:
        raise TimeoutError(f"not done in {_LIMIT} s")

    signal.signal(signal.SIGALRM, late)
    signal.alarm(_LIMIT)
    try:
        built = build(*name.split(":", 1))
        module, example = move_statistics(built.module).eval(), torch.zeros(2, *built.size)
        with suppress(QuickTraceError):
            found["quick"] = quick_trace(module, (example,), {}) is not None
        start = time.perf_counter()
        network = trace_network(module, example)
        found["seconds"] = time.perf_counter() - start
        found["error"] = max(_error(network, module, built.size, batch) for batch in (3, 1))
        found["notes"] = [note for note in network.notes if "quick trace failed" in note]
        channels = channel_groups(network)
        found |= {"groups": len(channels.groups), "prunable": len(channels.prunable)}
        found["share"] = prunable_share(network, channels)
    except Exception as error:
        found["reason"] = f"{type(error).__name__}: {str(error)[:150]}"
    signal.alarm(0)
    found.setdefault("seconds", time.perf_counter() - start)
    return found


def _error(network: Any, module: Any, size: tuple[int, int, int], batch: int) -> float:
    images = torch.rand(batch, *size, generator=torch.Generator().manual_seed(batch))
    with torch.no_grad():
        pairs = zip(tree_leaves(network(images)), tree_leaves(module(images)), strict=True)
        return max(float((a - b).abs().max() / b.abs().max().clamp_min(1e-6)) for a, b in pairs)


def _remarks(found: dict[str, Any], row: dict[str, Any]) -> Iterator[str]:
    if "reason" in found:
        if row.get("stage") not in ("build", "trace"):
            yield found["reason"]
        return
    yield from found["notes"]
    if not found["error"] < 1e-4:
        yield f"differs from the module by {found['error']:.1e}"
    for key in ("groups", "prunable"):
        if row.get(key) not in (None, "", found[key]):
            yield f"{found[key]} {key}, {row[key]} on the page"
    if isinstance(row.get("share"), float) and abs(row["share"] - found["share"]) > 6e-4:
        yield f"prunable share {found['share']:.3f}, {row['share']:.3f} on the page"


if __name__ == "__main__":
    main()
