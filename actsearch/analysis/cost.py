"""What an activation costs to compute, before any kernel is built."""

from __future__ import annotations

from collections.abc import Iterable

from actsearch.grammar import Apply, Expression


def kernel_cost(expression: Expression) -> float:
    """Arithmetic of one forward pass for one element, in multiplications.

    The sum of the operator table's costs, each shared sub-expression counted once.
    """
    return _arithmetic([expression])


def training_cost(expression: Expression) -> float:
    """Arithmetic of a forward and a backward pass for one element, in multiplications.

    The backward pass computes the derivatives for all inputs and parameters from the inputs, which
    is what generated kernels do: shared sub-expressions count once in each pass.
    """
    from actsearch.codegen import gradient

    return _arithmetic([expression]) + _arithmetic(gradient(expression).values())


def saved_bytes(expression: Expression) -> float:
    """Bytes that a float32 kernel keeps for its backward pass, for each element: its inputs."""
    return 4.0 * len(expression.inputs)


def _arithmetic(expressions: Iterable[Expression]) -> float:
    nodes = {node for expression in expressions for node in expression.postorder()}
    return float(sum(node.operator.cost for node in nodes if isinstance(node, Apply)))
