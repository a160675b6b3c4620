"""An activation for each operator of the table, for targets that can only be compiled here."""

from __future__ import annotations

from actsearch.grammar.operators import COMPARISONS, OPERATORS


def operator_text(name: str) -> str:
    """A formula that has the operator."""
    if name in COMPARISONS:
        return f"where(x {OPERATORS[name].infix} a, x, -0.25)"
    if name == "where":
        return "where(x < -1, 2, where(x > 1, 3, x))"
    operator = OPERATORS[name]
    if operator.infix:
        return "-x" if operator.arity == 1 else f"abs(x){operator.infix}a"
    return f"{name}({', '.join('xa'[: operator.arity])})"
