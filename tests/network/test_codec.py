"""The graph's JSON: the writer loses nothing, the reader trusts nothing."""

from __future__ import annotations

import contextlib
import copy
import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnslim.errors import InputError, NnslimError, UnsupportedModelError
from nnslim.network import BATCH, DeviceRef, Graph, Input, Network, Node, Ref, TensorInfo, TensorRef
from nnslim.network.codec import canonical_json, graph_from_json, graph_to_json
from nnslim.network.operators import OPERATORS
from nnslim.network.shapes import check_shapes
from tests.network.nets import NETS, traced

INFO = {"shape": ["1N", 3], "dtype": "float32"}


def small() -> dict:
    """A valid graph of two nodes, as JSON."""
    graph = {
        "inputs": [{"name": "x", **INFO}],
        "nodes": [
            {"name": "scaled", "op": "aten.mul.Tensor", "args": [{"ref": "x"}, 2], "value": INFO},
            {"name": "y", "op": "aten.relu.default", "args": [{"ref": "scaled"}], "value": INFO},
        ],
        "output": {"ref": "y"},
    }
    return json.loads(json.dumps(graph))


def changed(*path: str | int, to: object) -> dict:
    """The small graph with one place overwritten."""
    graph = small()
    place = graph
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return graph


def nested(depth: int) -> object:
    value: object = {"ref": "x"}
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize("name", NETS)
def test_a_graph_survives_its_json(name):
    graph = traced(name).graph
    text = canonical_json(graph_to_json(graph))
    again = graph_from_json(json.loads(text))
    assert again == graph
    assert canonical_json(graph_to_json(again)) == text


def test_every_kind_of_argument_survives():
    x = TensorInfo((BATCH, 3, 2 * BATCH), torch.float32)
    kinds = (
        (Ref("x"), TensorRef("w"), DeviceRef(), True, 7, -0.5, math.inf, "floor", None),
        (torch.bfloat16, torch.strided, torch.channels_last, (1, (2, BATCH)), {"a": (Ref("x"),)}),
    )
    node = Node("y", "aten.add.Tensor", kinds, {"alpha": -math.inf}, x, "layer.0", "net.py:3")
    sizes = Node("n", "aten.sym_size.int", (Ref("x"), 0), {}, BATCH)
    pair = Node("p", "aten.chunk.default", (Ref("x"), 2, 1), {}, (x, TensorInfo((), torch.int64)))
    graph = Graph(
        (Input("x", x),), (node, sizes, pair), {"logits": Ref("y"), "aux": (Ref("n"), None)}
    )
    assert graph_from_json(json.loads(canonical_json(graph_to_json(graph)))) == graph


def test_not_a_number_survives():
    graph = graph_from_json(changed("nodes", 0, "args", 1, to={"float": "nan"}))
    assert math.isnan(graph.nodes[0].args[1])
    assert graph_to_json(graph)["nodes"][0]["args"][1] == {"float": "nan"}


def test_json_is_canonical():
    assert canonical_json({"b": 1, "a": [1.5, "ä"]}) == '{"a":[1.5,"\\u00e4"],"b":1}'
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json(math.nan)


def test_batch_is_written_as_a_multiple_of_n():
    info = graph_to_json(graph_from_json(changed("inputs", 0, "shape", to=["2N", 5, "1N"])))[
        "inputs"
    ][0]
    assert info["shape"] == ["2N", 5, "1N"]


BAD = {
    "graph is a list": ([], "graph is not a JSON object"),
    "no output": ({k: v for k, v in small().items() if k != "output"}, "lacks the key 'output'"),
    "unknown key": ({**small(), "weights": 1}, "unknown key 'weights'"),
    "nodes is an object": (changed("nodes", to={}), "nodes is not a JSON array"),
    "no inputs": (changed("inputs", to=[]), "inputs with different names"),
    "two inputs of one name": (
        changed("inputs", to=[{"name": "x", **INFO}] * 2),
        "different names",
    ),
    "node is a number": (changed("nodes", 0, to=3), "node is not a JSON object"),
    "node without op": (changed("nodes", 0, to={"name": "y"}), "lacks the key"),
    "node with unknown key": (changed("nodes", 0, "code", to="x"), "unknown key 'code'"),
    "name is a number": (changed("nodes", 0, "name", to=3), "node name is not a short text"),
    "name is long": (changed("nodes", 0, "name", to="x" * 513), "not a short text"),
    "duplicate name": (changed("nodes", 1, "name", to="scaled"), "names two values 'scaled'"),
    "name of an input": (changed("nodes", 0, "name", to="x"), "names two values 'x'"),
    "forward reference": (changed("nodes", 0, "args", 0, to={"ref": "y"}), "'scaled' uses 'y'"),
    "reference to itself": (changed("nodes", 0, "args", 0, to={"ref": "scaled"}), "'scaled' uses"),
    "output of nothing": (changed("output", to={"ref": "z"}), "'output' uses 'z'"),
    "args is an object": (changed("nodes", 0, "args", to={}), "args of scaled is not a JSON array"),
    "too many arguments": (changed("nodes", 1, "args", to=[1, 2]), "'y' has 2 arguments"),
    "unknown keyword": (
        changed("nodes", 1, "kwargs", to={"out": 1}),
        "kwargs of y has the unknown key",
    ),
    "kwargs is a list": (changed("nodes", 1, "kwargs", to=[]), "kwargs of y is not a JSON object"),
    "argument of unknown kind": (changed("nodes", 1, "args", to=[{"eval": "x"}]), "y: .* 'eval'"),
    "argument with two kinds": (
        changed("nodes", 1, "args", to=[{"ref": "x", "tensor": "w"}]),
        "y: ",
    ),
    "empty argument": (changed("nodes", 1, "args", to=[{}]), "y: an argument of unknown form"),
    "reference is a number": (
        changed("nodes", 1, "args", to=[{"ref": 1}]),
        "y is not a short text",
    ),
    "unknown dtype": (
        changed("nodes", 1, "args", to=[{"dtype": "save"}]),
        "y: 'save' is not one of",
    ),
    "unknown layout": (changed("nodes", 1, "args", to=[{"layout": "sparse"}]), "y: 'sparse'"),
    "unknown memory format": (
        changed("nodes", 1, "args", to=[{"memory_format": 1}]),
        "y: 1 is not",
    ),
    "unknown float": (changed("nodes", 1, "args", to=[{"float": "1"}]), "unknown kind 'float'"),
    "deep nesting": (
        changed("nodes", 1, "args", to=nested(12)),
        "y: arguments are nested too deeply",
    ),
    "negative size": (changed("nodes", 1, "value", "shape", to=[-1]), r"y: \[-1\] is not a shape"),
    "size is a fraction": (changed("nodes", 1, "value", "shape", to=[1.5]), "y: 1.5 is not a size"),
    "size is true": (changed("nodes", 1, "value", "shape", to=[True]), "y: True is not a size"),
    "size is huge": (changed("nodes", 1, "value", "shape", to=[2**40]), "is not a size"),
    "size is a word": (changed("nodes", 1, "value", "shape", to=["N"]), "y: 'N' is not a size"),
    "size is a fraction of N": (
        changed("nodes", 1, "value", "shape", to=["0.5N"]),
        "is not a size",
    ),
    "size is a long multiple": (
        changed("nodes", 1, "value", "shape", to=["9" * 11 + "N"]),
        "not a size",
    ),
    "shape of rank 17": (changed("nodes", 1, "value", "shape", to=[1] * 17), "is not a shape"),
    "value without dtype": (
        changed("nodes", 1, "value", to={"shape": [1]}),
        "y lacks the key 'dtype'",
    ),
    "value is a word": (changed("nodes", 1, "value", to="x"), "y: 'x' is not a size"),
    "source is a list": (changed("nodes", 1, "source", to=[]), "source of y is not a short text"),
}


@pytest.mark.parametrize(("graph", "message"), BAD.values(), ids=BAD)
def test_reader_refuses_in_one_sentence(graph, message):
    with pytest.raises(InputError, match=message) as caught:
        graph_from_json(graph)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "op", ["aten.from_file.default", "os.system", "", "aten.conv2d", "python.exec"]
)
def test_unknown_operator_is_named_with_its_node(op):
    with pytest.raises(UnsupportedModelError, match="node 'y' uses the operator") as caught:
        graph_from_json(changed("nodes", 1, "op", to=op))
    assert repr(op) in str(caught.value)


def test_number_of_nodes_is_bounded():
    with pytest.raises(InputError, match="graph has 100001 nodes; at most 100000"):
        graph_from_json(changed("nodes", to=[0] * 100_001))


def test_network_refuses_a_graph_without_its_tensors():
    graph = graph_from_json(changed("nodes", 0, "args", 1, to={"tensor": "scale"}))
    with pytest.raises(InputError, match="'scale', which is not there"):
        Network(graph, {})


@pytest.mark.parametrize("name", ["", "a..b"])
def test_network_refuses_names_that_modules_cannot_have(name):
    graph = graph_from_json(changed("nodes", 0, "args", 1, to={"tensor": name}))
    with pytest.raises(InputError, match="cannot be used"):
        Network(graph, {name: torch.ones(3)})


def build(graph_json: object, tensors: dict[str, torch.Tensor]) -> None:
    """What the loader does with a graph."""
    graph = graph_from_json(graph_json)
    Network(graph, tensors)
    check_shapes(graph, tensors)


def call(op: str, *args: object, value: object = 1, **kwargs: object) -> dict:
    """A graph of one node."""
    node = {"name": "y", "op": op, "args": list(args), "kwargs": kwargs, "value": value}
    return {"inputs": [{"name": "x", **INFO}], "nodes": [node], "output": {"ref": "y"}}


HOSTILE = {
    "division by zero": call("python.floordiv", 1, 0),
    "remainder of zero": call("python.mod", 1, 0),
    "float overflow": call("python.pow", 10.0, 1000),
    "missing key": call("python.getitem", {"dict": {"k": 1}}, "z"),
    "integer overflow": call("aten.add.Scalar", {"ref": "x"}, 10**30, value=INFO),
    "superscript size": call(
        "aten.relu.default", {"ref": "x"}, value={"shape": ["²N"], "dtype": "float32"}
    ),
    "dropout without its flag": call("aten.dropout.default", {"ref": "x"}, value=INFO),
    "huge power": call("python.pow", 10, 200_000),
    "long list": call("python.mul", [1], 1_000_000),
    "long text": call("python.mul", "x", 1_000_000),
    "formatted text": call("python.mod", "%1000000d", 1),
}


@pytest.mark.parametrize("graph", HOSTILE.values(), ids=HOSTILE)
def test_hostile_calls_are_one_sentence(graph):
    with pytest.raises(NnslimError) as caught:
        build(graph, {})
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("op", ["aten.zeros.default", "aten.ones.default", "aten.randn.default"])
def test_checking_shapes_allocates_nothing(op):
    """2**36 floats do not fit into memory; on the meta device they cost nothing."""
    value = {"shape": [2**36], "dtype": "float32"}
    build(call(op, [2**36], value=value), {})


# Fuzzing: a random change anywhere in a valid graph. Values are chosen to hurt.
NASTY = st.one_of(
    st.sampled_from(
        [None, True, -1, 0, 1, 3, BATCH, 2**40 - 1, 2**63, 10**30, -0.5, math.nan, "", "N"]
    ),
    st.sampled_from(
        ["x", "3N", "²N", "x" * 600, "conv1.weight", "relu_", "batch_norm", [], {}, [1, 2]]
    ),
    st.sampled_from([{"ref": "x"}, {"tensor": "head.bias"}, {"dtype": "int64"}, {"device": 3}]),
    st.sampled_from(
        [{"float": "inf"}, {"memory_format": "channels_last"}, {"dict": {"a": {"ref": "x"}}}]
    ),
    st.sampled_from(sorted(OPERATORS)),
)


def places(value: object, path: tuple = ()) -> list[tuple]:
    found = [path] if path else []
    entries = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, entry in entries:
        found += places(entry, (*path, key))
    return found


def mutate(draw, graph: dict) -> None:
    path = draw(st.sampled_from(places(graph)))
    place = graph
    for key in path[:-1]:
        place = place[key]
    match draw(st.sampled_from(["set", "delete", "double"])):
        case "delete":
            del place[path[-1]]
        case "double" if isinstance(place, list):
            place.insert(path[-1], copy.deepcopy(place[path[-1]]))
        case _:
            place[path[-1]] = draw(NASTY)


@given(data=st.data())
@pytest.mark.parametrize("name", NETS)
def test_no_change_of_a_header_escapes_the_reader(name, data):
    network = traced(name)
    graph = json.loads(canonical_json(graph_to_json(network.graph)))
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(data.draw, graph)
    with contextlib.suppress(NnslimError):
        build(graph, network.tensors())
