from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nnslim.artifact.directory import RunDirectory, sha256_file, write_json, write_text
from nnslim.errors import ConfigError


def finished(place, text="new", **options):
    with RunDirectory(place, **options) as run:
        run.write_json("run.json", {"schema": "nnslim.run/1"})
        run.write_text("report/deep.txt", text)
    return place


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_there_before_the_end_and_everything_after(tmp_path):
    place = tmp_path / "new" / "out"
    with RunDirectory(place) as run:
        run.write_text("a.txt", "one")
        assert not place.exists()
        assert run.path.parent == place.parent
        assert run.path.name == f".out.tmp-{os.getpid()}"
    assert names(place) == ["SHA256SUMS", "a.txt"]
    assert names(place.parent) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_nothing(tmp_path, error):
    def work():
        with RunDirectory(tmp_path / "out") as run:
            run.write_text("a.txt", "one")
            raise error

    with pytest.raises(error):
        work()
    assert names(tmp_path) == []


def test_an_exception_leaves_the_old_run_as_it_was(tmp_path):
    place = finished(tmp_path / "out", "old")
    with pytest.raises(ValueError, match="x"), RunDirectory(place, overwrite=True):
        raise ValueError("x")
    assert (place / "report/deep.txt").read_text() == "old"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("option", ["overwrite", "resume"])
def test_an_old_run_is_replaced_only_at_the_end(tmp_path, option):
    place = finished(tmp_path / "out", "old")
    write_text(place / "left.txt", "over")
    (place / "checkpoint").mkdir()  # a run with --overwrite was interrupted
    with RunDirectory(place, **{option: True}) as run:
        run.write_text("a.txt", "new")
        assert (place / "report/deep.txt").read_text() == "old"
    assert names(place) == ["SHA256SUMS", "a.txt"]
    assert names(tmp_path) == ["out"]


def test_a_finished_run_is_not_resumed(tmp_path):
    place = finished(tmp_path / "out", "old")
    with pytest.raises(ConfigError, match="holds a finished run, so there is nothing to resume"):
        RunDirectory(place, resume=True)
    finished(place, "new", resume=True, overwrite=True)
    assert (place / "report/deep.txt").read_text() == "new"


def test_what_killed_runs_left_goes_and_what_living_ones_write_stays(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    living = f".out.tmp-{os.getppid()}"
    for name in (living, f".out.tmp-{dead.pid}", f".out.tmp-{dead.pid}-1.old", ".out.tmp-mine"):
        (tmp_path / name).mkdir()
    finished(tmp_path / "out", overwrite=True)
    assert names(tmp_path) == sorted([living, ".out.tmp-mine", "out"])


def test_an_empty_directory_may_be_used(tmp_path):
    (tmp_path / "out").mkdir()
    assert "run.json" in names(finished(tmp_path / "out"))


def test_a_directory_that_is_not_empty_is_refused_before_any_work(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError) as caught:
        RunDirectory(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path} is not empty (thesis.tex); use overwrite")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("manifest", [None, "not json", '{"schema": "other/1"}', "[1]"])
def test_a_directory_of_somebody_else_is_never_replaced(tmp_path, manifest):
    (tmp_path / "thesis.tex").touch()
    if manifest is not None:
        (tmp_path / "run.json").write_text(manifest)
    with pytest.raises(ConfigError, match="was not written by nnslim"):
        RunDirectory(tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").exists()


def test_a_file_or_the_root_is_refused(tmp_path):
    (tmp_path / "out").touch()
    with pytest.raises(ConfigError, match="is a file"):
        RunDirectory(tmp_path / "out")
    with pytest.raises(ConfigError, match="cannot be an output directory"):
        RunDirectory("/")


def test_a_mount_point_is_refused(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda _self: True)
    with pytest.raises(ConfigError, match=r"mount point.*out/run"):
        RunDirectory(tmp_path / "out")


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot write to"):
        RunDirectory(tmp_path / "file" / "out").__enter__()


def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    finished(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert "run.json" in names(tmp_path / "real")


def test_results_survive_when_the_place_is_taken_during_the_run(tmp_path):
    place = tmp_path / "out"
    run = RunDirectory(place).__enter__()
    run.write_text("a.txt", "one")
    place.mkdir()
    (place / "other.txt").touch()
    with pytest.raises(ConfigError, match="could not be moved") as caught:
        run.__exit__(None, None, None)
    assert names(place) == ["other.txt"]
    assert (run.path / "a.txt").read_text() == "one"
    assert str(run.path) in str(caught.value)


def test_checkpoints_of_this_run_do_not_stand_in_its_way(tmp_path):
    with RunDirectory(tmp_path / "out") as run:
        run.checkpoint.mkdir(parents=True)
        (run.checkpoint / "state.json").touch()
    assert names(tmp_path / "out") == ["SHA256SUMS"]


def test_a_run_that_was_killed_can_be_resumed(tmp_path):
    (tmp_path / "out" / "checkpoint").mkdir(parents=True)
    with pytest.raises(ConfigError, match="is not empty"):
        RunDirectory(tmp_path / "out")
    finished(tmp_path / "out", resume=True)


def test_a_temporary_directory_of_a_killed_run_is_no_obstacle(tmp_path):
    (tmp_path / f".out.tmp-{os.getpid()}").mkdir()
    finished(tmp_path / "out")
    assert "run.json" in names(tmp_path / "out")


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum is not there")
def test_sums_are_what_sha256sum_checks(tmp_path):
    place = finished(tmp_path / "out")
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    assert subprocess.run(command, cwd=place, check=False).returncode == 0
    (place / "report/deep.txt").write_text("changed")
    assert subprocess.run(command, cwd=place, check=False).returncode == 1


def test_sums_list_every_file_but_themselves(tmp_path):
    place = finished(tmp_path / "out")
    listed = [line.split("  ") for line in (place / "SHA256SUMS").read_text().splitlines()]
    assert [name for _, name in listed] == ["report/deep.txt", "run.json"]
    digest = hashlib.sha256((place / "run.json").read_bytes()).hexdigest()
    assert listed[1][0] == sha256_file(place / "run.json") == digest


def test_an_interrupted_process_leaves_nothing(tmp_path):
    code = (
        "import sys, time, types\n"
        "package = types.ModuleType('nnslim.artifact')  # its own imports torch: seconds\n"
        "package.__path__ = ['nnslim/artifact']\n"
        "sys.modules['nnslim.artifact'] = package\n"
        "from nnslim.artifact.directory import RunDirectory\n"
        "with RunDirectory(sys.argv[1]) as run:\n"
        "    run.write_text('a.txt', 'one')\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=Path(__file__).parents[2]
    ) as process:
        process.stdout.readline()
        assert names(tmp_path) == [f".out.tmp-{process.pid}"]
        process.send_signal(signal.SIGINT)
        process.wait(timeout=30)
    assert names(tmp_path) == []


def test_json_is_sorted_finite_and_ends_its_last_line(tmp_path):
    path = write_json(tmp_path / "a.json", {"b": Path("x/y"), "a": [1, 0.1], "ü": None})
    text = path.read_text(encoding="utf-8")
    assert text.endswith("}\n")
    assert list(json.loads(text)) == ["a", "b", "ü"]
    assert json.loads(text)["b"] == "x/y"
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": float("nan")})
    with pytest.raises(TypeError, match="set has no JSON form"):
        write_json(tmp_path / "a.json", {"a": {1}})
    assert path.read_text(encoding="utf-8") == text
    assert names(tmp_path) == ["a.json"]
