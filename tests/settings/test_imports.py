"""nnslim.settings is plain: help, completion and docs read it without a framework."""

from __future__ import annotations

import json
import subprocess
import sys

CODE = """
import importlib, json, pkgutil, sys
import nnslim.settings
names = [own.name for own in pkgutil.iter_modules(nnslim.settings.__path__, "nnslim.settings.")]
for name in names:
    importlib.import_module(name)
print(json.dumps([names, sorted(sys.modules)]))
"""


def test_no_module_of_the_settings_imports_a_framework_or_another_part_of_nnslim():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    names, loaded = json.loads(done.stdout)
    assert {"nnslim.settings.prune", "nnslim.settings.resolve"} <= set(names)
    heads = {name.partition(".")[0] for name in loaded}
    assert (
        heads & {"torch", "torchvision", "onnx", "onnxruntime", "numpy", "typer", "rich"} == set()
    )
    ours = {name for name in loaded if name.startswith("nnslim.") and name not in names}
    assert ours == {"nnslim.settings", "nnslim.errors", "nnslim.version"}
