"""The mutations that are made: those of cosmic-ray that a test can tell apart, and three of our own.

cosmic-ray rather than mutmut 3, which mutates only what is inside of functions: limits and tables are at the top of
their modules here. Of cosmic-ray only the operators are used, since its runner knows one test command for all mutants.
"""

from __future__ import annotations

from collections.abc import Iterator

from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.operators.provider import OperatorProvider
from parso.python.tree import ExprStmt, Name
from parso.tree import NodeOrLeaf

# What parso calls an expression with brackets or dots behind it, awaited or not.
_CALLS = {"atom_expr", "power"}
_Span = tuple[tuple[int, int], tuple[int, int]]

# A comparison is moved over its edge or turned round; the other twenty pairs are killed by what kills these.
_COMPARISONS = (
    "Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt", "Eq_NotEq", "NotEq_Eq", "Is_IsNot",
    "IsNot_Is",
)  # fmt: skip
_ARITHMETIC = (
    "Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv", "Pow_Mul", "LShift_RShift",
    "RShift_LShift", "BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitOr",
)  # fmt: skip
_OTHERS = (
    "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer", "RemoveDecorator",
    "ZeroIterationForLoop", "ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_USub",
    "ReplaceUnaryOperator_Delete_Invert",
)  # fmt: skip


class RemoveStatement(Operator):  # type: ignore[misc]  # cosmic-ray ships no types
    """Puts `pass` in the place of a call, a raise, a del, an augmented assignment, or one to an attribute or item."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[_Span]:
        """Where the statement is."""
        parent = node.parent
        if parent is None or parent.type != "simple_stmt":
            return
        if isinstance(node, ExprStmt):
            target, sign = node.children[:2]
            removable = target.type in _CALLS or (sign.type == "operator" and sign.value != "=")
        else:
            removable = node.type in _CALLS or node.get_first_leaf().value in {"raise", "del"}
        if removable:
            yield node.start_pos, node.end_pos

    def mutate(self, node: NodeOrLeaf, index: int) -> Name:  # noqa: ARG002 - cosmic-ray's
        """A `pass`."""
        return Name("pass", node.start_pos, prefix=node.get_first_leaf().prefix)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """For cosmic-ray's documentation."""
        return (Example("close()\n", "pass\n"), Example("self.open = True\n", "pass\n"), Example("n += 1\n", "pass\n"))


class RemoveKeywordArgument(Operator):  # type: ignore[misc]  # cosmic-ray ships no types
    """Leaves out an argument that is passed by name; `**{}` holds its place."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[_Span]:
        """Where the argument is."""
        if node.type == "argument" and node.children[1].get_code() == "=":
            yield node.start_pos, node.end_pos

    def mutate(self, node: NodeOrLeaf, index: int) -> Name:  # noqa: ARG002 - cosmic-ray's
        """A mapping without entries."""
        return Name("**{}", node.start_pos, prefix=node.get_first_leaf().prefix)

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """For cosmic-ray's documentation."""
        return (Example("f(x, y=1)", "f(x, **{})"),)


class ReplaceInWithNotIn(Operator):  # type: ignore[misc]  # cosmic-ray ships no types
    """Turns `in` round, and `not in`."""

    def mutation_positions(self, node: NodeOrLeaf) -> Iterator[_Span]:
        """Where the operator is."""
        if node.type == "comparison" and self._operator(node) in {"in", "not in"}:
            yield node.children[1].start_pos, node.children[1].end_pos

    def mutate(self, node: NodeOrLeaf, index: int) -> NodeOrLeaf:  # noqa: ARG002 - cosmic-ray's
        """The comparison with the other operator."""
        other = " not in" if self._operator(node) == "in" else " in"
        node.children[1] = Name(other, node.children[1].start_pos)
        return node

    @staticmethod
    def _operator(node: NodeOrLeaf) -> str:
        return " ".join(node.children[1].get_code().split())

    @classmethod
    def examples(cls) -> tuple[Example, ...]:
        """For cosmic-ray's documentation."""
        return (Example("x in y", "x not in y"), Example("x not in y", "x in y"))


def _operators() -> dict[str, Operator]:
    cosmic = OperatorProvider()
    names = [
        *(f"ReplaceComparisonOperator_{pair}" for pair in _COMPARISONS),
        *(f"ReplaceBinaryOperator_{pair}" for pair in _ARITHMETIC),
        *_OTHERS,
    ]
    ours = (RemoveStatement, RemoveKeywordArgument, ReplaceInWithNotIn)
    return {name: cosmic[name]() for name in names} | {operator.__name__: operator() for operator in ours}


OPERATORS = _operators()
