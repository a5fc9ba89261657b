"""Which outputs of a graph depend on no loop."""

from __future__ import annotations

import pytest
from google.protobuf import text_format

from serving.apis.messages import GraphDef
from serving.embedded.loading.tensorflow.graphs import loop_free

GRAPH: GraphDef = text_format.Parse(
    """
    node { name: "x" op: "Placeholder" }
    node { name: "plain" op: "Relu" input: "x" }
    node { name: "loop" op: "StatelessWhile" input: "x:0" attr { key: "body" value { func { name: "step" } } } }
    node { name: "after" op: "Relu" input: "loop:1" }
    node { name: "control" op: "Relu" input: "x" input: "^after" }
    node { name: "calls" op: "PartitionedCall" input: "x" attr { key: "f" value { func { name: "outer" } } } }
    node { name: "calm" op: "PartitionedCall" input: "x" attr { key: "f" value { func { name: "step" } } } }
    node { name: "case" op: "Case" input: "x" attr { key: "branches" value { list { func { name: "outer" } } } } }
    node { name: "named" op: "outer" input: "x" }
    library {
      function { signature { name: "outer" } node_def { name: "c" op: "inner" } }
      function { signature { name: "inner" } node_def { name: "w" op: "While" } }
      function { signature { name: "step" } node_def { name: "a" op: "Add" } }
    }
    """,
    GraphDef(),
)


@pytest.mark.parametrize(
    "operation", ["While", "StatelessWhile", "For", "Enter", "RefEnter", "MapDefun", "PyFunc", "EagerPyFunc"]
)
def test_operations_that_may_take_any_time(operation: str) -> None:
    """Loops of every kind, and Python's code; what does not depend on one is free of them."""
    graph = GraphDef()
    graph.node.add(name="x", op="Placeholder")
    graph.node.add(name="loop", op=operation, input=["x"])
    graph.node.add(name="free", op="Relu", input=["x", "nowhere"])
    # A graph may have a cycle.
    graph.node.add(name="a", op="Merge", input=["b"])
    graph.node.add(name="b", op="Relu", input=["a:1"])
    assert loop_free(graph, ["x:0", "loop:0", "free:0", "a:0"]) == {"x:0", "free:0", "a:0"}


def test_loops_are_found_wherever_they_are() -> None:
    """In the graph, behind control inputs, in functions, in functions of functions and in branches."""
    tensors = [f"{node.name}:0" for node in GRAPH.node]

    assert loop_free(GRAPH, tensors) == {"x:0", "plain:0", "calm:0"}
