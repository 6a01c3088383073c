"""The process: exit codes, streams and signals, seen from outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import pytest

from nnslim import __version__

# The real program, and in it `nnslim export` with another body.
HARNESS = """
import sys
from nnslim.cli.command import add_command
from nnslim.cli.export import ARGUMENTS
from nnslim.cli.main import app, main
from nnslim.errors import *

def probe(call):
    'Probe.'
    out, kind = call.sink, call.settings.model.arch
    {body}

add_command(app, "export", probe, ARGUMENTS, ())
sys.argv = ["nnslim", "export", "m.pt", *sys.argv[1:]]
main()
"""


def start(*command, env=None, **streams):
    environment = {**os.environ, **(env or {})}
    for name in ("stdout", "stderr"):
        streams.setdefault(name, subprocess.PIPE)
    return subprocess.Popen(command, text=True, env=environment, **streams)


def finish(process, timeout=60):
    stdout, stderr = process.communicate(timeout=timeout)
    return process.returncode, stdout, stderr


def nnslim(*arguments, env=None):
    return finish(start(sys.executable, "-m", "nnslim", *arguments, env=env))


def probe(body, *arguments, env=None):
    code = HARNESS.format(body=body)
    return finish(start(sys.executable, "-c", code, *arguments, env=env))


@pytest.mark.parametrize("arguments", [["--help"], ["prune", "--help"]])
def test_help_is_fast_and_imports_no_framework(arguments):
    code = (
        f"import sys\nfrom nnslim.cli.main import main\nsys.argv = ['nnslim', *{arguments}]\n"
        "try:\n    main()\nfinally:\n"
        "    print(sorted({'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    best, loaded = 60.0, ""
    for _ in range(3):
        before = os.times()
        _, loaded, _ = finish(start(sys.executable, "-c", code))
        after = os.times()
        # Processor time, which other work on the machine does not lengthen much.
        spent = after.children_user + after.children_system
        best = min(best, spent - before.children_user - before.children_system)
    assert loaded.splitlines()[-1] == "[]"
    assert 0.01 < best < 0.5


@pytest.mark.parametrize("command", ["prune", "grow", "eval", "export"])
def test_help_of_a_command_imports_no_framework(command):
    code = (
        f"import sys\nfrom nnslim.cli.main import main\nsys.argv = ['nnslim', {command!r}, '-h']\n"
        "try:\n    main()\nfinally:\n"
        "    print(sorted({'torch', 'onnx', 'onnxruntime', 'numpy'} & set(sys.modules)))"
    )
    status, stdout, _ = finish(start(sys.executable, "-c", code))
    assert (status, stdout.splitlines()[-1]) == (0, "[]")
    assert "Exit codes: 0 done" in stdout


def test_help_lists_the_commands_and_the_exit_codes():
    status, stdout, stderr = nnslim("--help")
    assert (status, stderr) == (0, "")
    assert re.findall(r"^│ (prune|eval|export|grow) ", stdout, re.MULTILINE) == [
        "prune",
        "grow",
        "eval",
        "export",
    ]
    assert "Exit codes: 0 done; 1 a gate failed; 2 usage" in stdout


def test_version_names_what_a_bug_report_needs():
    for arguments in (("--version",), ("eval", "--version")):
        status, stdout, _ = nnslim(*arguments)
        assert status == 0
        assert stdout.startswith(f"nnslim {__version__} (python 3.")
        assert re.search(r"torch \d+\.\d+.*onnxruntime(-gpu)? \d+\.\d+", stdout)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prune", "m.pt", "--parms", "50%"), "--params"),
        (("prun",), "'prune'"),
        (("eval",), "FILE"),
        (("eval", "m.onnx", "--seed", "x"), "--seed"),
    ],
)
def test_usage_errors_exit_2_and_help_on_stderr(arguments, said):
    status, stdout, stderr = nnslim(*arguments)
    assert (status, stdout) == (2, "")
    assert said in stderr
    assert "Traceback" not in stderr


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        ("ConfigError('no budget', hint='give one')", 2, "error: no budget\nhint: give one\n"),
        ("InputError('a.pt: no such file')", 2, "error: a.pt: no such file\n"),
        ("UnsupportedModelError('loops')", 2, "error: loops\n"),
        ("GateFailedError('top-1 90 % < 91 %')", 1, "error: top-1 90 % < 91 %\n"),
        ("DeviceError('no GPU')", 3, "error: no GPU\n"),
        ("ExportMismatchError('differs')", 3, "error: differs\n"),
        ("FileNotFoundError(2, 'No such file or directory', 'x')", 3, "error: x: No such file"),
        ("ValueError('a\\nb')", 3, "error: ValueError: a b\nhint: this is a bug in nnslim: set"),
        ("MemoryError()", 3, "error: MemoryError: no message\n"),
        ("KeyboardInterrupt()", 130, ""),
    ],
)
def test_each_kind_of_failure_has_its_exit_code_and_one_sentence(raised, code, said):
    status, stdout, stderr = probe(f"raise {raised}")
    assert (status, stdout) == (code, "")
    assert stderr.startswith(said)
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) <= 2


def test_traceback_is_there_for_who_asks():
    _, _, stderr = probe("raise ValueError('bug')", env={"NNSLIM_DEBUG": "1"})
    assert "Traceback" in stderr
    assert "error: ValueError: bug" in stderr


def test_only_the_result_reaches_stdout():
    body = "print('exporter chatter'); out.info('working'); out.result({'a': 1}, 'text')"
    assert probe(body, "--json") == (0, '{\n  "a": 1\n}\n', "exporter chatter\nworking\n")
    assert probe(body, "-q") == (0, "text\n", "exporter chatter\n")


def test_library_warnings_are_details():
    body = "import warnings; warnings.warn('deprecated'); out.result({}, 'text')"
    assert probe(body) == (0, "text\n", "")
    assert probe(body, "-v") == (0, "text\n", "warning: deprecated\n")


def test_configuration_that_is_used_is_said(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[export]\narch = 'x'\n")
    status, stdout, stderr = probe("out.result({}, kind)", "--config", str(path))
    assert (status, stdout) == (0, "x\n")
    assert stderr == f"settings not given here come from {path}\n"


def test_error_in_the_configuration_exits_2(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("[export]\narhc = 'x'\n")
    status, stdout, stderr = probe("out.result({}, kind)", "--config", str(path))
    assert (status, stdout) == (2, "")
    assert stderr == (
        f"error: {path}: [export] arhc: there is no such setting\nhint: did you mean arch?\n"
    )


@pytest.mark.parametrize("variable", ["FORCE_COLOR", "NO_COLOR", "GITHUB_ACTIONS"])
def test_streams_that_are_no_terminal_get_no_escapes(variable):
    body = "out.result({}, 'text'); raise ConfigError('no')"
    status, stdout, stderr = probe(body, env={variable: "1"})
    assert (status, stdout, stderr) == (2, "text\n", "error: no\n")


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_reader_that_goes_away_is_quiet(stream):
    body = "[(out.info('x' * 999), out.result({}, 'y' * 999)) for _ in range(999)]; sys.exit(7)"
    read, write = os.pipe()
    os.close(read)
    process = start(sys.executable, "-c", HARNESS.format(body=body), **{stream: write})
    os.close(write)
    status, stdout, stderr = finish(process)
    assert status == 7
    assert "Traceback" not in (stderr or "")
    assert "Error" not in (stderr or "")
    assert len(stdout or stderr or "") == 999 * 1000


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_unwinds_and_has_its_exit_code(tmp_path, number, code):
    left = tmp_path / "half-written"
    body = f"""
    import pathlib, time
    path = pathlib.Path({str(left)!r})
    try:
        path.touch()
        out.result({{}}, 'ready')
        time.sleep(60)
    finally:
        path.unlink()
"""
    process = start(sys.executable, "-c", HARNESS.format(body=body.strip()))
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    status, _, stderr = finish(process)
    assert status == code
    assert "Traceback" not in stderr
    assert not left.exists()
