"""Constraints: what a candidate has to be like to be worth a training run.

A constraint is a text, so that it is kept with the study: a measure with a bound, `cost<=12`; a
property, `monotone`; or `module:attribute`, a function of yours from an expression to a bool.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Callable, Collection, Mapping
from functools import cache, lru_cache

from actsearch.grammar import Apply, Expression
from actsearch.grammar.errors import UsageError, did_you_mean

_BOUND = re.compile(r"\s*(\w+)\s*(<=|>=)\s*(\S+)\s*")


def _cost(expression: Expression) -> float:
    from actsearch.analysis import kernel_cost

    return kernel_cost(expression)


def _training_cost(expression: Expression) -> float:
    from actsearch.analysis import training_cost

    return training_cost(expression)


def _memory(expression: Expression) -> float:
    from actsearch.analysis import saved_bytes

    return saved_bytes(expression)


def _nodes(expression: Expression) -> float:
    return float(sum(1 for _ in expression.postorder()))


def _operators(expression: Expression) -> float:
    return float(sum(isinstance(node, Apply) for node in expression.postorder()))


def _lipschitz(expression: Expression) -> float:
    from actsearch.analysis import properties

    return properties(expression).lipschitz


def _is(attribute: str, *values: object) -> Callable[[Expression], bool]:
    def predicate(expression: Expression) -> bool:
        from actsearch.analysis import properties

        return getattr(properties(expression), attribute) in values

    return predicate


def _bounded(expression: Expression) -> bool:
    from actsearch.analysis import properties

    extent = properties(expression).range
    return math.isfinite(extent.low) and math.isfinite(extent.high)


def _defined(expression: Expression) -> bool:
    from actsearch.analysis import properties

    domain = properties(expression).domain
    return len(domain) == 1 and (domain[0].low, domain[0].high) == (-math.inf, math.inf)


MEASURES: Mapping[str, Callable[[Expression], float]] = {
    "cost": _cost,
    "lipschitz": _lipschitz,
    "memory": _memory,
    "nodes": _nodes,
    "operators": _operators,
    "parameters": lambda expression: float(len(expression.parameters)),
    "training_cost": _training_cost,
}
"""What can be bounded: measure <= number, measure >= number."""

PROPERTIES: Mapping[str, Callable[[Expression], bool]] = {
    "bounded": _bounded,
    "continuous": _is("continuous", True),
    "defined": _defined,
    "even": _is("parity", "even", "both"),
    "monotone": _is("monotone", "increasing", "decreasing"),
    "odd": _is("parity", "odd", "both"),
    "smooth": _is("smooth", True),
}
"""What can be asked for by name, with parameters at their initial values; `defined`: everywhere."""


def check_constraints(texts: Collection[str]) -> None:
    """UsageError for the first text that is no constraint."""
    for text in texts:
        _constraint(text)


def violated(expression: Expression, texts: Collection[str]) -> str | None:
    """Which of the constraints a candidate breaks, and how; None where it keeps them all."""
    for text in texts:
        reason = _constraint(text)(expression)
        if reason is not None:
            return reason
    return None


@cache
def _constraint(text: str) -> Callable[[Expression], str | None]:
    """From an expression to the reason why it is not allowed."""
    bound = _BOUND.fullmatch(text)
    if bound is not None:
        return _bounded_measure(text, *bound.groups())
    if text in PROPERTIES:
        holds = PROPERTIES[text]
    elif ":" in text:
        holds = _users_own(text)
    else:
        names = (*PROPERTIES, *MEASURES)
        raise UsageError(
            f"no constraint {text!r}; there are {', '.join(PROPERTIES)}, bounds on "
            f"{', '.join(MEASURES)} such as cost<=12, and module:attribute"
            f"{did_you_mean(text, names)}"
        )
    kept = lru_cache(maxsize=10_000)(holds)
    return lambda expression: None if kept(expression) else f"not {text}"


def _bounded_measure(
    text: str, name: str, sign: str, number: str
) -> Callable[[Expression], str | None]:
    if name not in MEASURES:
        hint = did_you_mean(name, MEASURES)
        raise UsageError(f"no measure {name!r} in {text!r}; there are {', '.join(MEASURES)}{hint}")
    try:
        limit = float(number)
    except ValueError:
        raise UsageError(f"{number!r} in {text!r} is no number") from None
    measure = lru_cache(maxsize=10_000)(MEASURES[name])

    def reason(expression: Expression) -> str | None:
        value = measure(expression)
        kept = value <= limit if sign == "<=" else value >= limit
        return None if kept else f"{name} is {value:g}, not {sign} {limit:g}"

    return reason


def _users_own(text: str) -> Callable[[Expression], bool]:
    module, _, attribute = text.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise UsageError(f"no constraint {text!r}: {error}") from None
    if not callable(found):
        raise UsageError(f"the constraint {text!r} is not a function")
    return lambda expression: bool(found(expression))
