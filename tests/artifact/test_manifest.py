from __future__ import annotations

import hashlib
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

from nnslim.artifact.directory import write_json
from nnslim.artifact.manifest import RunRecord, git_state, hardware, run_manifest, versions

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=timezone(timedelta(hours=2)))


def manifest(tmp_path, **changes):
    outputs = tmp_path / "out"
    outputs.mkdir(exist_ok=True)
    for name in ("model.onnx", "run.json", "SHA256SUMS"):
        (outputs / name).write_text(name)
    (tmp_path / "w.pt").write_text("weights")
    inputs = (tmp_path / "w.pt", outputs)
    values = {"argv": ("nnslim", "prune"), "arguments": {"data": Path("d")}, "seed": 3}
    record = RunRecord(**(values | changes), started=START, inputs=inputs)
    return run_manifest(record, outputs, finished=START + timedelta(seconds=90))


def test_a_manifest_says_what_was_run(tmp_path):
    found = manifest(tmp_path)
    assert found["schema"] == "nnslim.run/1"
    assert found["argv"] == ["nnslim", "prune"]
    assert found["seed"] == 3
    assert found["started_utc"] == "2026-03-01T10:00:00+00:00"
    assert found["finished_utc"] == "2026-03-01T10:01:30+00:00"


def test_a_manifest_hashes_inputs_and_outputs_but_not_itself(tmp_path):
    found = manifest(tmp_path)
    digest = hashlib.sha256(b"weights").hexdigest()
    assert found["inputs"] == {str(tmp_path / "w.pt"): digest, str(tmp_path / "out"): None}
    assert found["outputs"] == {"model.onnx": hashlib.sha256(b"model.onnx").hexdigest()}


def test_a_manifest_is_json_and_the_same_for_the_same_run(tmp_path):
    first = write_json(tmp_path / "a.json", manifest(tmp_path)).read_text()
    second = write_json(tmp_path / "b.json", manifest(tmp_path)).read_text()
    assert first == second
    assert json.loads(first)["arguments"] == {"data": "d"}
    assert manifest(tmp_path, seed=4) != manifest(tmp_path)


def test_versions_name_what_a_result_depends_on():
    found = versions()
    assert {"nnslim", "python", "torch", "numpy", "safetensors"} <= set(found)
    assert {"onnxruntime", "onnxruntime-gpu"} & set(found)


def test_hardware_is_what_a_time_depends_on():
    found = hardware()
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["memory_bytes"] > 100_000_000
    assert found["cpu"]
    assert isinstance(found["gpus"], list)


def test_git_state_is_the_commit_and_whether_files_differ(tmp_path):
    assert git_state(tmp_path) is None

    def git(*arguments):
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    git("init")
    git("commit", "--allow-empty", "-m", "x")
    head = git("rev-parse", "HEAD")
    assert git_state(tmp_path) == {"commit": head, "modified": False}
    (tmp_path / "new.txt").touch()
    assert git_state(tmp_path) == {"commit": head, "modified": True}


def test_git_may_be_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(Path.cwd()) is None


def test_the_end_is_now_unless_given(tmp_path):
    (tmp_path / "out").mkdir()
    record = RunRecord(("nnslim",), {}, 0, datetime.now(UTC))
    found = run_manifest(record, tmp_path / "out")
    assert found["started_utc"] <= found["finished_utc"]
