"""The name that people know an activation by."""

from __future__ import annotations

from functools import lru_cache

from actsearch.equivalence import EquivalenceIndex
from actsearch.grammar.expression import Expression
from actsearch.grammar.language import as_expression
from actsearch.grammar.named import NamedActivation, named_activations


def known_name(expression: str | Expression) -> NamedActivation | None:
    """The named activation that an expression is, up to the names of its parameters; else None.

    Initial values of parameters do not count: `where(x > 0, x, a*x); a = 0.1` is a PReLU.

    Example:
        >>> known_name("x/(1 + exp(-b*x))").title
        'Swish / SiLU with trainable beta (Ramachandran et al. 2017)'
    """
    index, names = _named()
    found = index.lookup(as_expression(expression))
    return None if found is None else names[found]


@lru_cache(maxsize=1)
def _named() -> tuple[EquivalenceIndex, dict[int, NamedActivation]]:
    """The named activations, grouped into classes; a class is called by its first name."""
    index = EquivalenceIndex()
    names: dict[int, NamedActivation] = {}
    for activation in named_activations().values():
        number, is_new, _ = index.find_or_add(activation.expression)
        if is_new:
            names[number] = activation
    return index, names
