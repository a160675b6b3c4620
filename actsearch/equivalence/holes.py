"""What the holes `_` of an expression stand for: a parameter each, or one for all of them."""

from __future__ import annotations

import re

from actsearch.grammar.errors import UsageError, did_you_mean
from actsearch.grammar.expression import Expression, Parameter
from actsearch.grammar.language import as_expression
from actsearch.grammar.search_space import PARAMETERS

SHARED_NAME = "beta"
"""What the holes are called where all of them are one parameter."""

_HOLE = re.compile(r"_[0-9]+")


def check_parameters(parameters: str) -> None:
    """Raise UsageError for anything but "independent" and "shared"."""
    if parameters not in PARAMETERS:
        known = " or ".join(map(repr, PARAMETERS))
        raise UsageError(
            f"parameters are {known}, not {parameters!r}{did_you_mean(parameters, PARAMETERS)}"
        )


def with_holes(expression: str | Expression, parameters: str) -> Expression:
    """The expression; with "shared", its holes are all the one parameter `beta`."""
    expression = as_expression(expression)
    if parameters == "independent":
        return expression
    replaced: dict[Expression, Expression] = {
        hole: Parameter(SHARED_NAME, hole.initial, hole.scope, hole.dimension, hole.learning_rate)
        for hole in expression.parameters
        if _HOLE.fullmatch(hole.name)
    }
    return expression.substitute(replaced)
