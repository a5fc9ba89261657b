"""Which outputs of a graph depend on no loop: their time is bounded by the size of the inputs."""

from __future__ import annotations

from collections.abc import Iterable

from serving.apis.messages import AttrValue, FunctionDef, GraphDef, NodeDef

_LOOPS = frozenset({"While", "StatelessWhile", "For", "Enter", "RefEnter", "MapDefun", "PyFunc", "EagerPyFunc"})


def loop_free(graph: GraphDef, tensors: Iterable[str]) -> frozenset[str]:
    """Those of the tensors (`name:0`) that depend on neither a loop nor Python code, in called functions or outside."""
    nodes = {node.name: node for node in graph.node}
    looping = _looping_functions({function.signature.name: function for function in graph.library.function})
    return frozenset(tensor for tensor in tensors if not _reaches_loop(nodes, looping, tensor.partition(":")[0]))


def _reaches_loop(nodes: dict[str, NodeDef], looping: set[str], name: str) -> bool:
    ancestors: set[str] = set()
    stack = [name]
    while stack:
        node = nodes.get(stack.pop())
        if node is None or node.name in ancestors:
            continue
        ancestors.add(node.name)
        if _loops(node, looping):
            return True
        stack.extend(tensor.lstrip("^").partition(":")[0] for tensor in node.input)
    return False


def _looping_functions(functions: dict[str, FunctionDef]) -> set[str]:
    """The functions that loop, or call one that does."""
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
