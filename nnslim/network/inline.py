"""Regions of an exported graph that run under another mode, written into their caller."""

from __future__ import annotations

from typing import Any, cast

from torch import fx

from nnslim.errors import UnsupportedModelError

__all__ = ["inline_regions"]


def inline_regions(module: fx.GraphModule) -> None:
    """Inline ``no_grad`` regions and disabled autocasts, which compute the same without them.

    Raises:
        UnsupportedModelError: A region that runs under an enabled autocast.
    """
    for node in list(module.graph.nodes):
        name = str(node.target)
        if node.op != "call_function" or name not in _REGIONS:
            continue
        position = _REGIONS[name]
        if name == "wrap_with_autocast" and node.args[2]:
            raise UnsupportedModelError(
                "a part of the model runs under autocast of its own",
                hint="take the autocast out of the model's forward: it is a mode of running it",
            )
        place = cast("fx.Node", node.args[position])
        region = cast("fx.GraphModule", getattr(module, str(place.target)))
        inline_regions(region)
        _inline(module.graph, node, region, node.args[position + 1 :])
    for node in list(module.graph.nodes):
        if node.op == "get_attr" and not node.users:
            module.graph.erase_node(node)


# Where the region's graph stands among the arguments.
_REGIONS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}


def _inline(
    graph: fx.Graph, node: fx.Node, region: fx.GraphModule, args: tuple[object, ...]
) -> None:
    entries = [n for n in region.graph.nodes if n.op == "placeholder"]
    values: dict[fx.Node, Any] = dict(zip(entries, args, strict=True))
    results: Any = ()
    with graph.inserting_before(node):
        for inner in region.graph.nodes:
            if inner.op == "output":
                results = fx.map_arg(inner.args[0], lambda n: values[n])
            elif inner.op != "placeholder":
                values[inner] = graph.node_copy(inner, lambda n: values[n])
    for user in list(node.users):
        user.replace_all_uses_with(results[user.args[1]])
        graph.erase_node(user)
    graph.erase_node(node)
