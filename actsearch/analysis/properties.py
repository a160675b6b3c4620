"""`properties`: what can be said about an activation, at given values of its parameters."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actsearch.analysis.curve import Curve, frozen, is_univariate
from actsearch.analysis.extremes import extremes, lipschitz, overflow
from actsearch.analysis.pieces import Interval, Jump, Kink, Piece, Shape
from actsearch.equivalence.certificate import Certificate, Deadline, compare
from actsearch.grammar.expression import Expression, Input
from actsearch.grammar.language import as_expression

_SECONDS = 3.0
_MAX_SIZE = 400


@dataclass(frozen=True)
class Properties:
    """The properties of an activation, with its parameters at the given values.

    Attributes:
        expression: the activation.
        parameters: the values of its parameters at which everything else holds.
        domain: where it is defined; removable singularities are filled.
        range: infimum and supremum of its values, closed where they are attained.
        minimum: (value, x) where the infimum is attained.
        maximum: (value, x) where the supremum is attained.
        limits: for x -> -inf and x -> +inf: a number, ±inf, or None where there is no limit or the
            end of the line is outside of the domain.
        parity: "even", "odd", "both" (zero) or "neither".
        monotone: "increasing" or "decreasing" (somewhere constant allowed), "constant" or "none".
        monotone_pieces: maximal intervals on which it rises, falls or is constant.
        continuous: on its domain.
        smooth: continuous with all derivatives (checked to order 8) on its domain.
        kinks: points where the one-sided slopes differ.
        jumps: points where the one-sided limits, or the value, differ.
        poles: points next to which it goes to infinity.
        zero_gradient: intervals on which it is constant.
        lipschitz: the smallest Lipschitz constant on each interval of the domain; inf if none.
        overflow: type -> (negative x, positive x) nearest to 0 at which the rounded value is
            infinite, poles apart; None where there is none.
        complete: False where turns or breaks go on outwards, as those of a periodic function do;
            the lists then cover [-12, 12].
    """

    expression: str
    parameters: Mapping[str, float]
    domain: tuple[Interval, ...]
    range: Interval
    minimum: tuple[float, float] | None
    maximum: tuple[float, float] | None
    limits: tuple[float | None, float | None]
    parity: str
    monotone: str
    monotone_pieces: tuple[Piece, ...]
    continuous: bool
    smooth: bool
    kinks: tuple[Kink, ...]
    jumps: tuple[Jump, ...]
    poles: tuple[float, ...]
    zero_gradient: tuple[Interval, ...]
    lipschitz: float
    overflow: Mapping[str, tuple[float | None, float | None]]
    complete: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; infinities and nan are the strings "inf", "-inf" and "nan"."""
        found: dict[str, Any] = _plain(dataclasses.asdict(self))
        return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def properties(
    expression: str | Expression, parameters: Mapping[str, float] | None = None
) -> Properties:
    """What an activation is like: domain, range, limits, symmetry, pieces, overflow.

    Values come from ball arithmetic; roots, kinks and turns are found on a grid (1/32 apart on
    [-12, 12], wider beyond) and then located to full float accuracy, so features that are narrower
    than the grid can be missed.

    Args:
        expression: an activation of the one input x.
        parameters: values for some of its parameters; the others have their initial values.

    Raises:
        ExpressionError: the text is no expression.
        ValueError: a gated activation, an unknown parameter, or an expression of more than 400
            nodes.
    """
    expression = as_expression(expression)
    if not is_univariate(expression):
        raise ValueError(
            f"{expression} has two inputs; properties are those of functions of x alone"
        )
    if expression.size > _MAX_SIZE:
        raise ValueError(f"properties takes at most {_MAX_SIZE} nodes, not {expression.size}")
    values = {parameter.name: parameter.initial for parameter in expression.parameters}
    for name, value in (parameters or {}).items():
        if name not in values:
            raise ValueError(f"{expression} has no parameter {name!r}")
        values[name] = float(value)
    return _properties(expression, values)


def _properties(expression: Expression, values: dict[str, float]) -> Properties:
    curve = Curve(frozen(expression, values))
    shape = Shape(curve)
    found = extremes(shape)
    pieces = shape.monotone_pieces
    return Properties(
        expression=str(expression),
        parameters=values,
        domain=shape.domain,
        range=found.range,
        minimum=found.minimum,
        maximum=found.maximum,
        limits=(curve.end(-1), curve.end(1)),
        parity=parity(curve.expression),
        monotone=shape.monotone,
        monotone_pieces=pieces,
        continuous=shape.continuous,
        smooth=shape.smooth,
        kinks=shape.kinks,
        jumps=shape.jumps,
        poles=tuple(float(x) for x in shape.poles),
        zero_gradient=tuple(piece.interval for piece in pieces if piece.trend == "constant"),
        lipschitz=lipschitz(shape),
        overflow=overflow(shape),
        complete=shape.complete,
    )


def parity(expression: Expression) -> str:
    """Certified by the equivalence of f(x) with f(-x) and with -f(-x)."""
    x = Input("x")
    mirrored = expression.substitute({x: -x})
    deadline = Deadline(_SECONDS)
    even = isinstance(compare(expression, mirrored, deadline), Certificate)
    odd = isinstance(compare(expression, -mirrored, deadline), Certificate)
    if even and odd:
        return "both"
    return "even" if even else "odd" if odd else "neither"
