from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnxruntime.capi import onnxruntime_pybind11_state as native

from nnslim.cli.sources import Sources
from nnslim.errors import ConfigError, DeviceError, InputError
from nnslim.onnx import open_session
from nnslim.onnx import running as running_module
from nnslim.onnx.backend import capture_native_output, loader_reason
from nnslim.onnx.placement import cudnn_library
from nnslim.settings.session import CudaOptions, SessionSettings

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
LOADER_LOG = (
    b"\x1b[1;31m2026-01-01 [E:onnxruntime:Default, bridge.cc:1 f] Failed to load library x.so "
    b"with error: libcuda.so.1: cannot open shared object file\n\x1b[m"
    b"\x1b[0;93m2026-01-01 [W:onnxruntime:Default, s.cc:2 g] Failed to create it.\x1b[m\n"
)


class Fake:
    """An onnxruntime session as it behaves in one of the ways to fall back."""

    def __init__(self, providers, stray=(), log=b"", error=None):
        self.providers, self.stray, self.log, self.error = list(providers), stray, log, error
        self.fallback = True

    def __call__(self, path, options, *, providers, enable_fallback):
        self.path, self.options, self.asked = path, options, providers
        assert enable_fallback == 0
        os.write(2, self.log)
        if self.error is not None:
            raise self.error
        return self

    def get_providers(self):
        return self.providers

    def get_provider_graph_assignment_info(self):
        nodes = [SimpleNamespace(name=name, op_type=kind) for name, kind in self.stray]
        return [
            SimpleNamespace(ep_name=self.providers[0], get_nodes=list),
            SimpleNamespace(ep_name=CPU, get_nodes=lambda: nodes),
        ]

    def disable_fallback(self):
        self.fallback = False

    def get_provider_options(self):
        given = {entry[0]: entry[1] for entry in self.asked if isinstance(entry, tuple)}
        return {name: {**given.get(name, {}), "handle": "0x1"} for name in self.providers}

    def get_inputs(self):
        return [SimpleNamespace(name="input", type="tensor(float)", shape=["batch", 3, 8, 8])]

    def get_outputs(self):
        return [SimpleNamespace(name="logits", type="tensor(float)", shape=["batch", 10])]

    def get_modelmeta(self):
        return SimpleNamespace(custom_metadata_map={})

    def run(self, names, feed):
        raise native.EPFail("CUDA failure 719: unspecified launch failure")


class Switch:
    """Hands out one fake per provider that is asked for first."""

    def __init__(self, cuda, cpu=None):
        self.cuda, self.cpu = cuda, cpu or Fake([CPU])

    def __call__(self, path, options, *, providers, enable_fallback):
        wanted = self.cpu if providers == [CPU] else self.cuda
        return wanted(path, options, providers=providers, enable_fallback=enable_fallback)


def test_explicit_cuda_is_the_hard_mode(onnx_path):
    fake = Fake([CUDA, CPU])
    session = open_session(
        onnx_path, SessionSettings(device="cuda:1", batch=4, use_tf32=True), factory=fake
    )
    (name, options), *others = fake.asked
    assert (name, others) == (CUDA, [])
    assert options["device_id"] == "1"
    assert (options["use_tf32"], options["cudnn_conv_algo_search"]) == ("1", "EXHAUSTIVE")
    assert fake.options.get_session_config_entry("session.disable_cpu_ep_fallback") == "1"
    assert (session.provider_requested, session.provider, session.warnings) == (CUDA, CUDA, ())


def test_auto_takes_the_gpu_when_it_runs_everything(onnx_path):
    fake = Fake([CUDA, CPU])
    session = open_session(onnx_path, factory=fake)
    assert (session.provider, session.warnings) == (CUDA, ())
    assert fake.asked[1:] == [CPU]
    assert fake.asked[0][1]["use_tf32"] == "0"  # accuracy and parity are in full float32


def test_options_of_the_gpu_are_explicit_and_reported(onnx_path):
    fake = Fake([CUDA, CPU])
    options = CudaOptions(prefer_nhwc=True, graph=True)
    settings = SessionSettings(device="cuda:2", batch=8, use_tf32=True, cuda=options)
    session = open_session(onnx_path, settings, factory=fake)
    ((name, given),) = fake.asked
    assert name == CUDA
    assert given == {
        "device_id": "2",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
        "use_tf32": "1",
        "enable_cudnn": "1",
        "prefer_nhwc": "1",
        "fuse_conv_bias": "0",
        "enable_cuda_graph": "1",
    }
    assert dict(session.provider_options) == given  # and no handle
    free = SessionSettings(device="cuda")
    open_session(onnx_path, free, factory=fake)
    assert fake.asked[0][1]["cudnn_conv_algo_search"] == "HEURISTIC"
    with pytest.raises(ConfigError, match="a CUDA graph needs a fixed batch"):
        open_session(onnx_path, SessionSettings(device="cuda", cuda=options), factory=fake)


def test_tensorrt_stands_before_cuda_and_takes_it_along(onnx_path, tmp_path):
    trt = "TensorrtExecutionProvider"
    fake = Fake([trt, CUDA, CPU])
    settings = SessionSettings(device="tensorrt:1", batch=1, engine_cache=tmp_path)
    session = open_session(onnx_path, settings, factory=fake)
    assert [name for name, _ in fake.asked] == [trt, CUDA]
    given = fake.asked[0][1]
    assert given["trt_engine_cache_path"] == given["trt_timing_cache_path"] == str(tmp_path)
    assert given["device_id"] == "1"
    assert session.provider == session.provider_requested == trt
    lost = Fake([CUDA, CPU], log=LOADER_LOG)
    with pytest.raises(DeviceError, match=r"Tensorrt.* did not start: libcuda\.so\.1"):
        open_session(onnx_path, settings, factory=lost)
    on_cuda = Fake([trt, CUDA, CPU])
    on_cuda.get_provider_graph_assignment_info = lambda: [
        SimpleNamespace(ep_name=CUDA, get_nodes=lambda: [SimpleNamespace(name="a", op_type="Conv")])
    ]
    assert open_session(onnx_path, settings, factory=on_cuda).provider == trt


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("session.cuda.algo=1", "no such setting; did you mean session.cuda"),
        ("session.cuda.graph", "expected NAME=VALUE"),
        ("session.cuda.graph=maybe", "must be true or false"),
        ("session.cuda.conv_search=DEFAULT", "must be EXHAUSTIVE, HEURISTIC or none"),
    ],
)
def test_options_of_the_gpu_that_make_no_sense(text, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources = Sources("eval")
    with pytest.raises(ConfigError, match=message):
        sources.values({}, [text], None)


def test_l1_provider_did_not_load(onnx_path):
    """enable_fallback=0 does not raise here: the session just lists the CPU."""
    fake = Fake([CPU], log=LOADER_LOG)
    with pytest.raises(DeviceError, match=r"did not start: libcuda\.so\.1: cannot open") as caught:
        open_session(onnx_path, SessionSettings(device="cuda"), factory=fake)
    assert caught.value.exit_code == 3


def test_l1_reason_of_an_exception(onnx_path):
    fake = Fake([CPU], error=native.Fail("[ONNXRuntimeError] : 1 : FAIL : nodes on the CPU EP"))
    with pytest.raises(DeviceError, match="did not start: nodes on the CPU EP"):
        open_session(onnx_path, SessionSettings(device="cuda"), factory=fake)


def test_auto_falls_back_with_one_warning_and_says_so(onnx_path, capfd):
    session = open_session(onnx_path, factory=Switch(Fake([CPU], log=LOADER_LOG)))
    (warning,) = session.warnings
    assert warning.startswith("running on the CPU: ")
    assert "libcuda.so.1: cannot open" in warning
    assert (session.provider_requested, session.provider) == (CUDA, CPU)
    assert capfd.readouterr() == ("", "")


def test_require_gpu_makes_auto_fail(onnx_path):
    switch = Switch(Fake([CPU], log=LOADER_LOG))
    with pytest.raises(DeviceError, match=r"libcuda\.so\.1"):
        open_session(onnx_path, SessionSettings(require_gpu=True), factory=switch)


def test_l2_work_on_the_cpu(onnx_path):
    strays = [("node_Conv_35", "Conv"), ("fused", "Relu"), ("node_Conv_37", "Conv")]
    with pytest.raises(DeviceError, match=r"leaves 3 nodes \(2 Conv, 1 Relu\) to the CPU"):
        open_session(onnx_path, SessionSettings(device="cuda"), factory=Fake([CUDA, CPU], strays))
    session = open_session(onnx_path, factory=Switch(Fake([CUDA, CPU], strays)))
    assert session.provider == CPU
    assert "2 Conv" in session.warnings[0]


def test_l2_shape_arithmetic_may_stay_on_the_cpu(tmp_path):
    helper = onnx.helper
    nodes = [
        helper.make_node("Shape", ["x"], ["s"], name="sizes"),
        helper.make_node("Gather", ["s", "zero"], ["n"], name="pick"),
        helper.make_node("Relu", ["x"], ["y"], name="work"),
    ]
    values = [helper.make_tensor_value_info(n, 1, ["batch", 3, 8, 8]) for n in "xy"]
    zero = helper.make_tensor("zero", onnx.TensorProto.INT64, [1], [0])
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], [zero])
    path = tmp_path / "shapes.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    cuda = SessionSettings(device="cuda")
    shapes = [("sizes", "Shape"), ("pick", "Gather")]
    assert open_session(path, cuda, factory=Fake([CUDA, CPU], shapes)).provider == CUDA
    with pytest.raises(DeviceError, match="1 node "):
        open_session(path, cuda, factory=Fake([CUDA, CPU], [*shapes, ("work", "Relu")]))
    with pytest.raises(DeviceError, match="1 Gather"):  # unknown name: not provably harmless
        open_session(path, cuda, factory=Fake([CUDA, CPU], [("new", "Gather")]))


def test_l3_failure_in_the_middle_is_an_error(onnx_path):
    fake = Fake([CUDA, CPU])
    session = open_session(onnx_path, SessionSettings(device="cuda"), factory=fake)
    assert not fake.fallback
    with pytest.raises(DeviceError, match="CUDAExecutionProvider failed: CUDA failure 719"):
        session.run(np.zeros((1, 3, 8, 8)))
    fake.providers = [CPU]
    with pytest.raises(DeviceError, match=f"moved from {CUDA} to {CPU}"):
        session.check_still_on_device()


@pytest.mark.parametrize(("found", "n_warnings"), [("/lib/libcudnn.so.9.1", 0), (None, 1)])
def test_l4_cudnn_is_recorded(onnx_path, monkeypatch, found, n_warnings):
    monkeypatch.setattr(running_module, "cudnn_library", lambda: found)
    monkeypatch.setattr(running_module.sys, "platform", "linux")
    session = open_session(onnx_path, SessionSettings(device="cuda"), factory=Fake([CUDA, CPU]))
    session.check_still_on_device()
    session.check_still_on_device()
    assert session.cudnn == found
    assert len(session.warnings) == n_warnings


def test_l4_reads_the_process_map(tmp_path):
    maps = tmp_path / "maps"
    lines = [
        "7f0000000000-7f0000001000 r-xp 00000000 08:01 11  /opt/a b/libcudnn_ops.so.9.10",
        "7f0000000000-7f0000001000 r-xp 00000000 08:01 12  /opt/a b/libcudnn.so.9",
        "7f0000002000-7f0000003000 rw-p 00000000 00:00 0",
    ]
    maps.write_text("\n".join(lines))
    assert cudnn_library(maps) == "/opt/a b/libcudnn.so.9"
    maps.write_text(lines[2])
    assert cudnn_library(maps) is None
    assert cudnn_library(tmp_path / "none") is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_cuda_without_gpu_names_the_loaders_reason(onnx_path, capfd):
    with pytest.raises(DeviceError, match=r"did not start: .*(lib|CUDA|provider)"):
        open_session(onnx_path, SessionSettings(device="cuda"))
    session = open_session(onnx_path)
    assert session.provider == CPU
    assert len(session.warnings) == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.gpu
def test_cuda_equals_cpu(onnx_path):
    x = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    session = open_session(onnx_path, SessionSettings(device="cuda", batch=4))
    wanted = open_session(onnx_path, SessionSettings(device="cpu")).run(x)
    assert np.abs(session.run(x) - wanted).max() < 1e-4 * np.abs(wanted).max()
    bound = session.bind(x)
    bound()
    np.testing.assert_allclose(bound.output(), wanted, atol=1e-4)
    session.check_still_on_device()
    assert session.cudnn is not None


def test_bound_run_equals_run(onnx_path):
    x = np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)
    session = open_session(onnx_path, SessionSettings(device="cpu", batch=4, threads=1))
    bound = session.bind(x)
    bound()
    np.testing.assert_array_equal(bound.output(), session.run(x))
    assert (session.batch, session.input_shape) == (4, (3, 8, 8))
    session.check_still_on_device()


def test_threads_are_the_usable_cores(onnx_path):
    fake = Fake([CPU])
    open_session(onnx_path, SessionSettings(device="cpu"), factory=fake)
    assert fake.options.intra_op_num_threads == len(os.sched_getaffinity(0))
    open_session(onnx_path, SessionSettings(device="cpu", threads=3), factory=fake)
    assert fake.options.intra_op_num_threads == 3


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "gpu"},
        {"device": "cuda:x"},
        {"device": "cpu", "require_gpu": True},
        {"threads": 0},
        {"batch": -1},
    ],
)
def test_settings_that_mean_nothing(wrong):
    with pytest.raises(ConfigError):
        SessionSettings(**wrong)


def _external(path):
    tensor = onnx.helper.make_tensor("w", 1, (4, 4), [0.0] * 16)
    tensor.ClearField("float_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../elsewhere.bin")
    _save(path, ["x"], ["y"], [tensor])


def _save(path, inputs, outputs, initializers=(), shape=("n", 3, 4, 4)):
    helper = onnx.helper
    values = [helper.make_tensor_value_info(n, 1, list(shape)) for n in (*inputs, *outputs)]
    nodes = [helper.make_node("Relu", [inputs[0]], [name]) for name in outputs]
    split = len(inputs)
    graph = helper.make_graph(nodes, "g", values[:split], values[split:], list(initializers))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save_model(model, path)


def _future(path):
    _save(path, ["x"], ["y"])
    model = onnx.load(path)
    model.ir_version = 99
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b"hello" * 99), "not readable as ONNX"),
        (lambda path: path.write_bytes(b""), "holds no ONNX graph"),
        (_external, r"w is stored outside, in \.\./elsewhere\.bin"),
        (
            _future,
            r"onnxruntime refuses it: \S.*failed:Unsupported model IR version",
        ),
        (
            lambda path: _save(path, ["x", "z"], ["y"]),
            "one image tensor in, has x .* z ",
        ),
        (
            lambda path: _save(path, ["x"], ["y", "z"]),
            "2 outputs, y .* z .*session.output",
        ),
        (lambda path: _save(path, ["x"], ["y"], shape=("n", 3)), r"images are \(N, C, H, W\)"),
    ],
)
def test_bad_files_are_input_errors(tmp_path, make, message):
    path = tmp_path / "bad.onnx"
    make(path)
    with pytest.raises(InputError, match=message) as caught:
        open_session(path, SessionSettings(device="cpu"))
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_cut_file(onnx_path, tmp_path):
    path = tmp_path / "cut.onnx"
    content = onnx_path.read_bytes()
    for size in (10, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match=r"cut\.onnx"):
            open_session(path, SessionSettings(device="cpu"))


def test_capture_gives_the_descriptor_back(capfd):
    def fail():
        os.write(2, b"one\n")
        print("two")
        raise KeyError

    with pytest.raises(KeyError), capture_native_output() as captured:
        fail()
    os.write(2, b"three\n")
    assert captured.text == "one\ntwo\n"
    assert capfd.readouterr() == ("", "three\n")


def test_loader_reason_without_a_known_phrase():
    text = "\x1b[0;93m2026 [W:onnxruntime:Default, a.cc:1 f] Something new happened.\x1b[m\n\n"
    assert loader_reason(text) == "Something new happened."


def test_only_session_module_opens_onnxruntime():
    assert ort.InferenceSession.__name__ == "InferenceSession"  # the name searched for exists
    import nnslim

    root = Path(nnslim.__file__).parent
    users = [file for file in root.rglob("*.py") if "ort.InferenceSession" in file.read_text()]
    assert users == [root / "onnx" / "session.py"]
