"""What a graph says about how long it may run: an output without loops takes a time that its inputs' size bounds."""

from __future__ import annotations

from collections.abc import Iterable

from serving.apis.messages import AttrValue, FunctionDef, GraphDef, NodeDef

_LOOPS = frozenset({"While", "StatelessWhile", "For", "Enter", "RefEnter", "MapDefun", "PyFunc", "EagerPyFunc"})


def loop_free(graph: GraphDef, tensors: Iterable[str]) -> frozenset[str]:
    """Those of the tensors (`name:0`) that neither a loop nor Python code has a part in, called functions included."""
    nodes = {node.name: node for node in graph.node}
    looping = _looping_functions({function.signature.name: function for function in graph.library.function})
    return frozenset(tensor for tensor in tensors if not _reaches_loop(nodes, looping, tensor.partition(":")[0]))


def _reaches_loop(nodes: dict[str, NodeDef], looping: set[str], name: str) -> bool:
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        node = nodes.get(waiting.pop())
        if node is None or node.name in seen:
            continue
        seen.add(node.name)
        if _loops(node, looping):
            return True
        waiting.extend(given.lstrip("^").partition(":")[0] for given in node.input)
    return False


def _looping_functions(functions: dict[str, FunctionDef]) -> set[str]:
    """The functions that loop, or call one that does: found by going round until no more are."""
    looping: set[str] = set()
    while True:
        more = {
            name
            for name, function in functions.items()
            if name not in looping and any(_loops(node, looping) for node in function.node_def)
        }
        if not more:
            return looping
        looping |= more


def _loops(node: NodeDef, looping: set[str]) -> bool:
    return node.op in _LOOPS or node.op in looping or any(_called(value) & looping for value in node.attr.values())


def _called(value: AttrValue) -> set[str]:
    kind = value.WhichOneof("value")
    if kind == "func":
        return {value.func.name}
    return {function.name for function in value.list.func} if kind == "list" else set()
