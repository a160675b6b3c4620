"""Floor 1: what an activation is. The language, the operator table, expressions and spaces."""

from __future__ import annotations

from actsearch.grammar.errors import ExpressionError, SpaceError
from actsearch.grammar.expression import (
    Apply,
    Constant,
    Expression,
    Input,
    Number,
    Parameter,
    call,
)
from actsearch.grammar.language import as_expression, parse
from actsearch.grammar.named import NamedActivation, named_activations
from actsearch.grammar.operators import OPERATORS, Operator
from actsearch.grammar.printing import to_latex
from actsearch.grammar.search_space import SearchSpace, space, space_names

__all__ = [
    "OPERATORS",
    "Apply",
    "Constant",
    "Expression",
    "ExpressionError",
    "Input",
    "NamedActivation",
    "Number",
    "Operator",
    "Parameter",
    "SearchSpace",
    "SpaceError",
    "as_expression",
    "call",
    "named_activations",
    "parse",
    "space",
    "space_names",
    "to_latex",
]
