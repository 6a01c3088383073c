"""``make sweep``: every classifier through the engine; writes docs/reference/coverage.md.

python -m tests.sweep                                   # what the page lacks, two at a time
python -m tests.sweep --fresh                           # all, anew
python -m tests.sweep timm:convnext torchvision:swin_t  # these, anew; the page keeps the others
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from nnslim.cli.output import Output
from tests.sweep.models import timm_families, torchvision_names
from tests.sweep.page import coverage_page, rows_of_page

PAGE = Path("docs/reference/coverage.md")
LIMIT_MB = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sweep")
    parser.add_argument("models", nargs="*", help="source:name")
    parser.add_argument("--fresh", action="store_true", help="forget the page")
    parser.add_argument("--jobs", type=int, default=2, help="models at a time")
    parser.add_argument("--limit", type=int, default=150, help="processor seconds per model")
    parser.add_argument("--one", action="store_true", help="run one model in this process")
    options = parser.parse_args()
    if options.one:
        from tests.sweep.one import sweep_one

        resource.setrlimit(resource.RLIMIT_DATA, (LIMIT_MB * 2**20,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (options.limit, options.limit + 10))
        threads = max(1, (os.cpu_count() or 1) // options.jobs)
        row = sweep_one(*options.models[0].split(":", 1), threads=threads)
        Output().result({}, json.dumps(row))
        return
    rows = {} if options.fresh or not PAGE.exists() else _rows(PAGE.read_text(encoding="utf-8"))
    families = {key: row["family"] for key, row in rows.items()}
    if not options.models:
        families = {f"torchvision:{name}": name for name in torchvision_names()}
        families |= {f"timm:{name}": module for module, name in timm_families().items()}
    missing = options.models or [key for key in families if key not in rows]
    with ThreadPoolExecutor(options.jobs) as pool:
        run = partial(_run, jobs=options.jobs, limit=options.limit)
        for key, row in zip(missing, pool.map(run, missing), strict=True):
            rows[key] = row | {"family": families.get(key, row["model"])}
            _say(row)
            shown = [key for key in (*families, *options.models) if key in rows]
            page = coverage_page([rows[key] for key in dict.fromkeys(shown)])
            PAGE.write_text(page, encoding="utf-8")
    Output().result({}, f"wrote {PAGE}")


def _rows(page: str) -> dict[str, dict[str, Any]]:
    return {f"{row['source']}:{row['model']}": row for row in rows_of_page(page)}


def _run(key: str, jobs: int, limit: int) -> dict[str, Any]:
    source, name = key.split(":", 1)
    failed = {"source": source, "model": name, "seconds": limit, "peak_mb": 0}
    late = failed | {"stage": "time", "reason": f"not done in {limit} s"}
    command = [sys.executable, "-m", "tests.sweep", "--jobs", str(jobs), "--limit", str(limit)]
    try:
        done = subprocess.run(
            [*command, "--one", key],
            capture_output=True,
            text=True,
            timeout=20 * limit,  # a busy machine gives little of its processor's time
            check=False,
        )
    except subprocess.TimeoutExpired:
        return late
    if done.returncode == -signal.SIGXCPU:
        return late
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit {done.returncode}"]
        return failed | {"stage": "process", "reason": last[0][:300], "seconds": 0}
    return json.loads(lines[-1])


def _say(row: dict[str, Any]) -> None:
    what = f"{row['stage']}: {row['reason']}" if "reason" in row else "done"
    kept = f"{100 * row['kept']:.0f}%" if "kept" in row else "-"
    cost = f"{row['seconds']:6} s {row['peak_mb']:6} MB"
    sys.stderr.write(f"{row['source']}:{row['model']:40} {cost} {kept:>5} {what}\n")


if __name__ == "__main__":
    main()
