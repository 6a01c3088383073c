"""The demo on scikit-learn's digits: prune a network, compare, export; grow one. Three minutes.

Everything lands in ``demo/`` of the working directory. Each step prints the command it runs.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

MODEL = Path(__file__).with_name("digits_resnet.safetensors")
OUT = Path("demo")


def nnslim(*arguments: str) -> None:
    print(f"\n$ {shlex.join(['nnslim', *arguments])}", flush=True)
    subprocess.run([sys.executable, "-m", "nnslim", *arguments], check=True)  # noqa: S603 - our own commands


def main() -> None:
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir()
    model = str(MODEL.resolve().relative_to(Path.cwd()))
    pruned = str(OUT / "pruned")
    nnslim("prune", model, "--data", "digits", "--params", "40%", "--epochs", "10", "-o", pruned)
    nnslim("eval", f"{pruned}/model.safetensors", "--baseline", model, "--data", "digits")
    nnslim("export", f"{pruned}/model.safetensors", "--onnx", "-o", str(OUT / "digits.onnx"))
    grown = str(OUT / "grown")
    nnslim("grow", "--teacher", model, "--data", "digits", "--params", "8%", "-o", grown)
    print("\nThe files:")
    for path in sorted(path for path in OUT.rglob("*") if path.is_file()):
        print(f"  {path}  ({path.stat().st_size:,} bytes)")
    print(f"Open {pruned}/report.html and {grown}/report.html in a browser to see what changed.")


if __name__ == "__main__":
    main()
