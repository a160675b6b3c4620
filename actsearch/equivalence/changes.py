"""Changes that a coarser level allows: of the parameters, of the sign of x, of scale and offset.

A change carries f(x; p) to (f(±x; T(p)) − offset)/scale, where T is a bijection of the parameter
space. It is kept as data, so that whoever doubts a merge can apply it and compare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from actsearch.grammar.expression import Expression, Input, Number, Parameter
from actsearch.grammar.language import as_expression

LEVELS: Final = ("function", "reparameterised", "affine")
"""What may count as the same, from fine to coarse; the classes of each are unions of the former's.

- function: the same function of x and its parameters, up to the names of these;
- reparameterised: besides, up to a bijection of the parameter space;
- affine: besides, up to the sign of x, an output scale and an output offset.
"""

_SCALE, _OFFSET = "/scale", "-offset"  # no parameter can be called so
_X = Input("x")
_ZERO, _ONE = Number(0), Number(1)


@dataclass(frozen=True)
class Change:
    """f(x; p) becomes (f(±x; T(p)) − offset)/scale.

    Attributes:
        parameters: (p, T(p)) for each parameter that changes, over the new parameters.
        mirrored: whether x becomes −x.
        scale: a number, or an expression over parameters that occur nowhere else.
        offset: likewise.
    """

    parameters: tuple[tuple[str, Expression], ...] = ()
    mirrored: bool = False
    scale: Expression = _ONE
    offset: Expression = _ZERO

    def applied(self, expression: Expression) -> Expression:
        """The changed expression, as it comes out of the formula."""
        result = substituted(expression, dict(self.parameters))
        if self.mirrored:
            result = result.substitute({_X: -_X})
        if self.offset is not _ZERO:
            result = result - self.offset
        return result if self.scale is _ONE else result / self.scale

    def then_parameter(self, name: str, value: Expression) -> Change:
        """This change, and then `name` := value."""
        changed = dict(self.parameters)
        for old in changed:
            changed[old] = substituted(changed[old], {name: value})
        changed.setdefault(name, value)
        return Change(
            tuple(changed.items()),
            self.mirrored,
            substituted(self.scale, {name: value}),
            substituted(self.offset, {name: value}),
        )

    def then_mirrored(self) -> Change:
        """This change, and then x := −x."""
        return Change(self.parameters, not self.mirrored, self.scale, self.offset)

    def then_rescaled(self, scale: Expression, offset: Expression) -> Change:
        """This change, and then (· − offset)/scale."""
        total = self.offset
        if offset is not _ZERO:
            moved = offset if self.scale is _ONE else self.scale * offset
            total = moved if total is _ZERO else total + moved
        factor = self.scale
        if scale is not _ONE:
            factor = scale if factor is _ONE else factor * scale
        return Change(self.parameters, self.mirrored, factor, total)

    def to_pairs(self) -> tuple[tuple[str, str], ...]:
        """As text: what each parameter, `x`, `scale` and `offset` become; nothing that stays."""
        pairs = [(name, str(value)) for name, value in self.parameters]
        if self.mirrored:
            pairs.append(("x", "-x"))
        if self.scale is not _ONE:
            pairs.append((_SCALE, str(self.scale)))
        if self.offset is not _ZERO:
            pairs.append((_OFFSET, str(self.offset)))
        return tuple(pairs)

    @classmethod
    def from_pairs(cls, pairs: Mapping[str, str]) -> Change:
        """The inverse of `to_pairs`."""
        parameters = tuple(
            (name, as_expression(text))
            for name, text in pairs.items()
            if name not in ("x", _SCALE, _OFFSET)
        )
        return cls(
            parameters,
            "x" in pairs,
            as_expression(pairs.get(_SCALE, "1")),
            as_expression(pairs.get(_OFFSET, "0")),
        )

    def __str__(self) -> str:
        return ", ".join(f"{name} := {text}" for name, text in self.to_pairs()) or "as it is"


def substituted(expression: Expression, values: Mapping[str, Expression]) -> Expression:
    """The expression with parameters replaced, by name."""
    if not values:
        return expression
    return expression.substitute(
        {p: values[p.name] for p in expression.parameters if p.name in values}
    )


def plain(expression: Expression) -> Expression:
    """The expression with parameters of the standard declaration."""
    return expression.substitute({p: Parameter(p.name) for p in expression.parameters})
