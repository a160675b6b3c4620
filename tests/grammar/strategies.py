"""Random expressions for hypothesis: every operator, every kind of leaf.

Bytes are read as a program for a stack machine: quick to draw, and they shrink to short programs,
which are small expressions.
"""

from __future__ import annotations

from fractions import Fraction

from hypothesis import strategies as st

from actsearch.grammar import Apply, Constant, Expression, Input, Number, Parameter, call
from actsearch.grammar.operators import COMPARISONS, OPERATORS

LEAVES: list[Expression] = [
    Input("x"),
    Input("gate"),
    Constant("pi"),
    Constant("e"),
    *map(Number, [0, 1, 2, -1, -3, "0.5", "1e-7", "-0.044715", "1e16", 123456789, "-2.5e-300"]),
    Number(Fraction(3, 2**60)),
    # One declaration for each name: two different ones in one expression are an error.
    Parameter("alpha", 0.25, "per channel"),
    Parameter("beta", -1.5, "per channel", -1, 0.01),
    Parameter("_1"),
    Parameter("_2", 1e-30),
    Parameter("lambda"),
    Parameter("per", 1e22, "shared", learning_rate=3.0),
]
_VALUES = sorted(set(OPERATORS) - COMPARISONS - {"where"})
_CODES: list[Expression | str] = [*LEAVES, *_VALUES, *sorted(COMPARISONS)]


def _run(program: bytes) -> Expression:
    """Push leaves, apply operators to the top of the stack; comparisons choose between values."""
    stack: list[Expression] = [LEAVES[program[0] % len(LEAVES)]]
    for code in program:
        item = _CODES[code % len(_CODES)]
        if isinstance(item, Expression):
            stack.append(item)
            continue
        arity = 4 if item in COMPARISONS else OPERATORS[item].arity
        while len(stack) < arity:
            stack.append(LEAVES[code % len(LEAVES)])
        operands = [stack.pop() for _ in range(arity)]
        if item in COMPARISONS:
            stack.append(call("where", Apply(item, *operands[:2]), *operands[2:]))
        else:
            stack.append(call(item, *operands))
    return stack[-1]


expressions: st.SearchStrategy[Expression] = st.binary(min_size=1, max_size=20).map(_run)
