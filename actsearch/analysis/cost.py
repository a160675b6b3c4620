"""What an activation costs to compute, before any kernel is built."""

from __future__ import annotations

from actsearch.grammar import Apply, Expression


def kernel_cost(expression: Expression) -> float:
    """Arithmetic of one forward pass for one element, in multiplications.

    The sum of the operator table's costs, each shared sub-expression counted once.
    """
    nodes = set(expression.postorder())
    return float(sum(node.operator.cost for node in nodes if isinstance(node, Apply)))
