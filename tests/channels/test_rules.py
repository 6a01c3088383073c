"""What every rule does to labels, worked out by hand.

``a`` and ``b`` are parameters: the labels of each dimension are runs of fresh numbers, in the
order in which the rule asks for them; sizes of 1 have none.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from nnslim.channels.labels import connected_components
from nnslim.channels.rules import DEFAULT_RULES
from nnslim.channels.walk import Walk
from nnslim.network import Graph, Input, Node, Ref, TensorInfo, TensorRef
from nnslim.network.graph import map_arg
from nnslim.network.operators import resolve

A, B = TensorRef("a"), TensorRef("b")


class Found:
    """One operator applied to parameters, and what its rule said."""

    def __init__(self, op: str, *args, a=(4,), b=(), index=(), picked=None, **kwargs) -> None:
        tensors = {"a": torch.randn(a), "b": torch.randn(b), "index": torch.tensor(index)}
        nodes = [self._node("y", op, args, kwargs, tensors)]
        if picked is not None:
            nodes.append(
                Node("z", "python.getitem", (Ref("y"), picked), {}, nodes[0].value[picked])
            )
        x = Input("x", TensorInfo((1,), torch.float32))
        self.walk = Walk(Graph((x,), tuple(nodes), None), tensors)
        self.walk.run(DEFAULT_RULES)
        self.labels = self._plain(self.walk.values[nodes[-1].name])

    @staticmethod
    def _node(name, op, args, kwargs, tensors) -> Node:
        def real(arg):
            return tensors[arg.name] if isinstance(arg, TensorRef) else arg

        value = resolve(op)(
            *map_arg(args, real), **{k: map_arg(v, real) for k, v in kwargs.items()}
        )
        infos = [
            TensorInfo(tuple(v.shape), v.dtype)
            for v in ([value] if isinstance(value, Tensor) else value)
        ]
        return Node(
            name,
            op,
            args,
            kwargs,
            infos[0] if isinstance(value, Tensor) else tuple(infos),
            "m",
            "f.py:1",
        )

    @classmethod
    def _plain(cls, labels):
        if isinstance(labels, tuple):
            return tuple(cls._plain(entry) for entry in labels)
        return None if labels is None else labels.tolist()

    @property
    def ties(self) -> set[frozenset[int]]:
        """Components of more than one label."""
        pairs = [np.concatenate(column) for column in zip(*self.walk.ties, strict=True)] or [[], []]
        n = self.walk.n_labels
        component = connected_components(n, *(np.array(side, dtype=np.int64) for side in pairs))
        groups = (
            frozenset(np.flatnonzero(component == c).tolist())
            for c in range(component.max(initial=-1) + 1)
        )
        return {group for group in groups if len(group) > 1}

    @property
    def frozen(self) -> dict[int, str]:
        return {label: f.reason for f in self.walk.freezes for label in f.labels.tolist()}


def run(*parts: tuple[int, int]) -> list[int]:
    return [label for start, end in parts for label in range(start, end)]


# operator, arguments, shape of a -> labels of the result, ties, frozen labels
RESHAPES = {
    "same shape": (((4, 3),), (4, 3), [run((0, 4)), run((4, 7))], set(), {}),
    "size 1 comes and goes": (
        ((1, 4, 1, 3),),
        (4, 1, 3),
        [None, run((0, 4)), None, run((4, 7))],
        set(),
        {},
    ),
    "split keeps the longer part": (
        ((2, 3),),
        (6,),
        [None, [0, 1, 2]],
        {(0, 3), (1, 4), (2, 5)},
        {},
    ),
    "split the other way": (((3, 2),), (6,), [[0, 2, 4], None], {(0, 1), (2, 3), (4, 5)}, {}),
    "split into three": (
        ((2, 3, 2),),
        (12,),
        [None, [0, 2, 4], None],
        {(0, 1, 6, 7), (2, 3, 8, 9), (4, 5, 10, 11)},
        {},
    ),
    "two channel dimensions merge": (
        ((12,),),
        (4, 3),
        [np.repeat([0, 1, 2, 3], 3).tolist()],
        set(),
        {4, 5, 6},
    ),
    "two segments": (
        ((2, 3, 5),),
        (6, 5),
        [None, [0, 1, 2], run((6, 11))],
        {(0, 3), (1, 4), (2, 5)},
        {},
    ),
    "sizes that do not divide": (((6, 4),), (4, 6), [None, None], set(), set(range(10))),
}


@pytest.mark.parametrize(
    ("args", "shape", "labels", "ties", "frozen"), RESHAPES.values(), ids=RESHAPES
)
def test_reshape(args, shape, labels, ties, frozen):
    found = Found("aten.reshape.default", A, *args, a=shape)
    assert list(found.labels) == labels
    assert found.ties == {frozenset(group) for group in ties}
    assert set(found.frozen) == set(frozen)
    assert all("aten.reshape.default (m, f.py:1)" in reason for reason in found.frozen.values())


def test_reasons_of_reshape():
    merged = Found("aten.reshape.default", A, (12,), a=(4, 3)).frozen[4]
    assert merged == "two channel dimensions are merged at aten.reshape.default (m, f.py:1)"
    odd = Found("aten.reshape.default", A, (6, 4), a=(4, 6)).frozen[0]
    assert odd == "sizes do not divide at aten.reshape.default (m, f.py:1)"


@pytest.mark.parametrize(
    ("op", "args", "shape", "labels"),
    [
        ("aten.flatten.using_ints", (0, 1), (1, 4), [[0, 1, 2, 3]]),
        ("aten.unsqueeze.default", (0,), (4,), [None, [0, 1, 2, 3]]),
        ("aten.squeeze.dims", ((0, 2),), (1, 4, 1), [[0, 1, 2, 3]]),
        ("aten.permute.default", ((1, 0),), (2, 3), [[2, 3, 4], [0, 1]]),
        ("aten.permute.default", ((-1, 0),), (2, 3), [[2, 3, 4], [0, 1]]),
        ("aten.transpose.int", (-1, 0), (2, 3), [[2, 3, 4], [0, 1]]),
        ("aten.t.default", (), (2, 3), [[2, 3, 4], [0, 1]]),
    ],
)
def test_moving_dimensions(op, args, shape, labels):
    found = Found(op, A, *args, a=shape)
    assert list(found.labels) == labels
    assert not found.ties
    assert not found.frozen


@pytest.mark.parametrize(
    ("op", "args", "labels"),
    [
        ("aten.split_with_sizes.default", ((2, 4),), [[0, 1], [2, 3, 4, 5]]),
        ("aten.split.Tensor", (4,), [[0, 1, 2, 3], [4, 5]]),
        ("aten.chunk.default", (3,), [[0, 1], [2, 3], [4, 5]]),
        ("aten.tensor_split.sections", (4,), [[0, 1], [2, 3], None, None]),
    ],
)
def test_each_piece_of_a_split_is_its_own_run(op, args, labels):
    found = Found(op, A, *args, 1, a=(1, 6))
    assert [piece[1] for piece in found.labels] == labels
    single = {4, 5} if None in labels else set()
    assert set(found.frozen) == single
    for number, expected in enumerate(labels):
        assert Found(op, A, *args, 1, a=(1, 6), picked=number).labels[1] == expected


def test_split_of_another_dimension_keeps_the_channels():
    found = Found("aten.chunk.default", A, 2, 0, a=(2, 3))
    assert found.labels == ((None, [2, 3, 4]), (None, [2, 3, 4]))


def test_unbind_and_select_drop_a_dimension_that_must_stay():
    unbound, selected = (
        Found("aten.unbind.int", A, 0, a=(2, 3)),
        Found("aten.select.int", A, 0, 1, a=(2, 3)),
    )
    assert unbound.labels == (([2, 3, 4],), ([2, 3, 4],))
    assert selected.labels == ([2, 3, 4],)
    assert unbound.frozen == dict.fromkeys(
        [0, 1], "indexed one by one at aten.unbind.int (m, f.py:1)"
    )
    assert selected.frozen == dict.fromkeys(
        [0, 1], "indexed by number at aten.select.int (m, f.py:1)"
    )


@pytest.mark.parametrize(
    ("start", "end", "step", "labels", "frozen"),
    [
        (1, 4, 1, [1, 2, 3], set()),
        (0, 2**63 - 1, 1, [0, 1, 2, 3, 4], set()),
        (-2, 9, 1, [3, 4], set()),
        (2, 3, 1, None, {2}),
        (0, 5, 2, [0, 2, 4], set()),
    ],
)
def test_slice(start, end, step, labels, frozen):
    found = Found("aten.slice.Tensor", A, 0, start, end, step, a=(5,))
    assert found.labels == (labels,)
    assert set(found.frozen) == frozen


@pytest.mark.parametrize(
    ("amounts", "mode", "labels", "frozen"),
    [
        ((1, 2), "constant", [4, 0, 1, 2, 3, 5, 6], set()),
        ((0, 1), "constant", [0, 1, 2, 3, 4], set()),
        ((0, 0), "constant", [0, 1, 2, 3], set()),
        ((-1, 0), "constant", None, {0, 1, 2, 3}),
        ((1, 1), "reflect", None, {0, 1, 2, 3}),
    ],
)
def test_pad(amounts, mode, labels, frozen):
    found = Found("aten.pad.default", A, amounts, mode, a=(1, 4))
    assert found.labels == (None, labels)
    assert set(found.frozen) == frozen
    assert not found.ties


def test_pad_pairs_count_from_the_last_dimension():
    found = Found("aten.pad.default", A, (0, 0, 1, 0), "constant", 0.0, a=(2, 3))
    assert found.labels == ([5, 0, 1], [2, 3, 4])


def test_cat_joins_runs_and_ties_the_rest():
    found = Found("aten.cat.default", (B, A), 1, a=(2, 3), b=(2, 2))
    # b is asked first: rows 0, 1 and columns 2, 3; then a: rows 4, 5 and columns 6, 7, 8.
    assert found.labels == ([0, 1], [2, 3, 6, 7, 8])
    assert found.ties == {frozenset({0, 4}), frozenset({1, 5})}


def test_cat_with_a_fixed_size_freezes_only_that_part():
    found = Found("aten.cat.default", (A, TensorRef("index")), 0, a=(2,), index=[5, 6, 7])
    assert found.labels == ([0, 1, 2, 3, 4],)
    assert found.frozen == dict.fromkeys(
        [2, 3, 4], "joins a fixed size at aten.cat.default (m, f.py:1)"
    )


def test_stack_makes_a_fixed_dimension():
    found = Found("aten.stack.default", (A, B), 1, a=(3,), b=(3,))
    assert found.labels == ([0, 1, 2], None)
    assert found.ties == {frozenset({0, 3}), frozenset({1, 4}), frozenset({2, 5})}


def test_index_select_follows_a_constant_index():
    found = Found("aten.index_select.default", A, 0, TensorRef("index"), a=(4,), index=[2, 0, 3, 1])
    assert found.labels == ([2, 0, 3, 1],)
    assert not found.frozen


def test_index_select_may_repeat_a_channel():
    found = Found("aten.index_select.default", A, 0, TensorRef("index"), a=(3,), index=[1, 1, 0])
    assert found.labels == ([1, 1, 0],)


@pytest.mark.parametrize("op", ["aten.add.Tensor", "aten.mul.Tensor", "aten.maximum.default"])
def test_elementwise_ties_by_broadcasting(op):
    found = Found(op, A, B, a=(2, 3), b=(3,))
    assert found.labels == ([0, 1], [2, 3, 4])
    assert found.ties == {frozenset({2, 5}), frozenset({3, 6}), frozenset({4, 7})}
    crossed = Found(op, A, B, a=(4, 1), b=(1, 3))
    assert crossed.labels == ([0, 1, 2, 3], [4, 5, 6])
    assert not crossed.ties


def test_elementwise_with_a_fixed_size_freezes():
    found = Found("aten.mul.Tensor", A, TensorRef("index"), a=(3,), index=[1, 2, 3])
    assert found.frozen == dict.fromkeys(
        range(3), "meets a fixed size at aten.mul.Tensor (m, f.py:1)"
    )
    scalar = Found("aten.mul.Tensor", A, 2.0, a=(3,))
    assert not scalar.frozen


def test_expand_repeats_only_what_has_size_1():
    found = Found("aten.expand.default", A, (5, 3, 4), a=(3, 1))
    assert found.labels == (None, [0, 1, 2], None)
    assert not found.frozen


def test_type_as_takes_only_the_dtype_of_the_other():
    assert not Found("aten.type_as.default", A, B, a=(3,), b=(3,)).ties


def test_prelu_slopes_belong_to_channels_or_to_nobody():
    assert Found("aten.prelu.default", A, B, a=(1, 2), b=(2,)).ties == {
        frozenset({0, 2}),
        frozenset({1, 3}),
    }
    assert not Found("aten.prelu.default", A, B, a=(1, 2), b=(1,)).ties


def test_convolution_ties_inputs_and_leaves_outputs():
    found = Found("aten.conv2d.default", A, B, None, a=(1, 3, 1, 1), b=(2, 3, 1, 1))
    assert found.labels == (None, [3, 4], None, None)
    assert found.ties == {frozenset({0, 5}), frozenset({1, 6}), frozenset({2, 7})}


def test_bias_belongs_to_the_outputs():
    found = Found("aten.conv2d.default", A, A, B, a=(2, 2, 1, 1), b=(2,))
    assert found.labels[1] == [0, 1]
    assert frozenset({0, 4}) in found.ties


@pytest.mark.parametrize(
    ("groups", "n_in", "n_out", "components"),
    [
        (3, 6, 6, {(0, 1, 6, 7), (2, 3, 8, 9), (4, 5, 10, 11)}),
        (3, 3, 3, {(0, 3), (1, 4), (2, 5)}),
        (2, 2, 6, {(0, 2, 3, 4), (1, 5, 6, 7)}),
    ],
    ids=["grouped", "depthwise", "depthwise with a multiplier"],
)
def test_a_convolution_group_is_dropped_whole(groups, n_in, n_out, components):
    shapes = {"a": (1, n_in, 1, 1), "b": (n_out, n_in // groups, 1, 1)}
    found = Found("aten.conv2d.default", A, B, None, (1, 1), (0, 0), (1, 1), groups, **shapes)
    assert found.ties == {frozenset(c) for c in components}
    assert found.walk.parameters["b"][1] is None
    assert found.labels[1] == run((n_in, n_in + n_out))


def test_few_convolution_groups_lose_the_same_number_each():
    found = Found(
        "aten.conv2d.default", A, B, None, (1, 1), (0, 0), (1, 1), 2, a=(1, 6, 1, 1), b=(8, 3, 1, 1)
    )
    assert not found.ties
    assert [b.tolist() for b in found.walk.balances] == [
        [[6, 7, 8, 9], [10, 11, 12, 13]],
        [[0, 1, 2], [3, 4, 5]],
    ]
    assert found.walk.parameters["b"][1].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_pixels_of_a_pointwise_convolution_pass():
    found = Found("aten.conv2d.default", A, B, None, a=(1, 1, 2, 3), b=(2, 1, 1, 1))
    assert found.labels == (None, [5, 6], [0, 1], [2, 3, 4])
    assert not found.frozen


def test_pixels_of_a_convolution_stay():
    found = Found("aten.conv2d.default", A, B, None, a=(1, 1, 2, 3), b=(2, 1, 2, 2))
    assert found.frozen == dict.fromkeys(range(5), "pixels of aten.conv2d.default (m, f.py:1)")


def test_linear_ties_the_last_dimension():
    found = Found("aten.linear.default", A, B, None, a=(2, 3), b=(4, 3))
    assert found.labels == ([0, 1], [5, 6, 7, 8])
    assert found.ties == {frozenset({2, 9}), frozenset({3, 10}), frozenset({4, 11})}


def test_batch_norm_belongs_to_dimension_1():
    args = (A, B, B, B, B, False, 0.1, 1e-5, False)
    found = Found("aten.batch_norm.default", *args, a=(1, 2, 1), b=(2,))
    assert found.labels == (None, [0, 1], None)
    assert found.ties == {frozenset({0, 2}), frozenset({1, 3})}
    assert not found.walk.approximations


def test_layer_norm_is_approximate():
    found = Found("aten.layer_norm.default", A, (3,), B, None, a=(2, 3), b=(3,))
    assert found.ties == {frozenset({2, 5}), frozenset({3, 6}), frozenset({4, 7})}
    (approximation,) = found.walk.approximations
    assert approximation.labels.tolist() == [2, 3, 4]
    assert approximation.reason == "normalised over at aten.layer_norm.default (m, f.py:1)"


@pytest.mark.parametrize("op", ["aten.max_pool2d.default", "aten.adaptive_avg_pool2d.default"])
def test_pooling_leaves_channels_and_freezes_pixels(op):
    found = Found(op, A, (1, 1), a=(2, 3, 2, 2))
    assert found.labels == ([0, 1], [2, 3, 4], None, None)
    assert set(found.frozen) == {5, 6, 7, 8}


@pytest.mark.parametrize(
    ("keepdim", "labels"),
    [(False, ([2, 3, 4],)), (True, (None, [2, 3, 4]))],
    ids=["dropped", "kept"],
)
def test_statistics_over_channels_are_approximate(keepdim, labels):
    for op in ("aten.mean.dim", "aten.amax.default"):
        found = Found(op, A, (0,), keepdim, a=(2, 3))
        assert found.labels == labels
        assert not found.frozen
        marks = found.walk.approximations
        assert [m.labels.tolist() for m in marks] == [[0, 1]]
        assert marks[0].reason == f"normalised over at {op} (m, f.py:1)"


def test_a_sum_is_a_contraction_and_freezes_nothing():
    found = Found("aten.sum.dim_IntList", A, (-1,), a=(2, 3))
    assert found.labels == ([0, 1],)
    assert not found.frozen
    assert Found("aten.sum.default", A, a=(2, 3)).labels == ()


def test_softmax_keeps_its_shape_and_is_approximate():
    found = Found("aten.softmax.int", A, -1, a=(2, 3))
    assert found.labels == ([0, 1], [2, 3, 4])
    assert [m.labels.tolist() for m in found.walk.approximations] == [[2, 3, 4]]


def test_group_norm_by_what_may_shrink():
    whole = Found("aten.group_norm.default", A, 3, B, a=(1, 6, 1), b=(6,))
    assert whole.ties == {frozenset(c) for c in ((0, 1, 6, 7), (2, 3, 8, 9), (4, 5, 10, 11))}
    assert not whole.walk.approximations
    within = Found("aten.group_norm.default", A, 2, B, a=(1, 6, 1), b=(6,))
    assert within.ties == {frozenset({i, i + 6}) for i in range(6)}
    assert [b.tolist() for b in within.walk.balances] == [[[0, 1, 2], [3, 4, 5]]]
    assert within.walk.approximations


def test_a_product_ties_what_it_sums_over():
    found = Found("aten.matmul.default", A, B, a=(2, 3), b=(3, 4))
    assert found.labels == ([0, 1], [8, 9, 10, 11])
    assert found.ties == {frozenset({2, 5}), frozenset({3, 6}), frozenset({4, 7})}


def test_attention_ties_queries_and_keys_and_leaves_values():
    op = "aten.scaled_dot_product_attention.default"
    found = Found(op, A, A, B, a=(2, 5, 3), b=(2, 5, 4))
    assert found.labels == ([0, 1], [2, 3, 4, 5, 6], [17, 18, 19, 20])
    assert found.ties == {frozenset({0, 10}), frozenset({1, 11})}
    assert set(found.frozen) == {2, 3, 4, 5, 6, 12, 13, 14, 15, 16}


def test_a_transposed_convolution_swaps_inputs_and_outputs():
    found = Found("aten.conv_transpose2d.input", A, B, None, a=(1, 3, 1, 1), b=(3, 2, 1, 1))
    assert found.labels[1] == [6, 7]
    assert found.ties == {frozenset({0, 3}), frozenset({1, 4}), frozenset({2, 5})}


def test_roll_and_flip_take_labels_along():
    assert Found("aten.roll.default", A, (1,), (0,), a=(4,)).labels == ([3, 0, 1, 2],)
    assert Found("aten.flip.default", A, (0,), a=(4,)).labels == ([3, 2, 1, 0],)


@pytest.mark.parametrize("op", ["aten.tril.default", "aten.triu.default"])
def test_an_operator_without_a_rule_freezes_and_says_so(op):
    found = Found(op, A, 0, a=(3, 2))
    assert op not in DEFAULT_RULES
    assert found.labels == (None, None)
    assert found.frozen == dict.fromkeys(range(5), f"no rule for {op} (m, f.py:1)")


def test_a_size_of_1_is_never_labelled():
    assert Found("aten.relu.default", A, a=(1, 3, 1)).labels == (None, [0, 1, 2], None)


def test_one_tensor_has_one_set_of_labels():
    found = Found("aten.add.Tensor", A, A, a=(3,))
    assert found.walk.n_labels == 3
    assert not found.ties


def test_the_page_names_every_rule_and_no_more():
    """``docs/reference/rules.md`` lists operators by name, in the first column of its tables."""
    page = (Path(__file__).parents[2] / "docs/reference/rules.md").read_text(encoding="utf-8")
    cells = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    shown = re.findall(r"`(.*?)`", " ".join(cells))
    assert len(shown) == len(set(shown))
    bare = {op if op.startswith("python.") else op.split(".")[1] for op in DEFAULT_RULES}
    assert set(shown) == {name if name in shown else name.removesuffix("_") for name in bare}
