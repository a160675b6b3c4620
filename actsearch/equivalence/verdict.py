"""`equivalent`: are two expressions the same function, and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from actsearch.equivalence.certificate import (
    Certificate,
    Deadline,
    Decision,
    Witness,
    all_renamings,
    decide,
)
from actsearch.equivalence.changes import LEVELS
from actsearch.equivalence.families import canonical
from actsearch.equivalence.fingerprint import Pool
from actsearch.equivalence.holes import check_parameters, with_holes
from actsearch.equivalence.index import check_level
from actsearch.grammar.expression import Expression

_MAX_FINGERPRINTED = 2_000


@dataclass(frozen=True)
class Verdict:
    """The answer to "is this the same function?". True in a condition only when it is.

    Attributes:
        equal: True, False, or None where it could not be settled in time.
        reason: the answer for people, in a sentence.
        certificate: why they are equal.
        witness: a point that tells them apart.
        level: what counted as the same.
    """

    equal: bool | None
    reason: str
    certificate: Certificate | None = None
    witness: Witness | None = None
    level: str = "function"

    def __bool__(self) -> bool:
        return self.equal is True

    @property
    def method(self) -> str:
        """The certificate's method ("normal form", "ball arithmetic" …), "witness" or "unknown"."""
        if self.certificate is not None:
            return self.certificate.method
        return "witness" if self.witness is not None else "unknown"

    def __str__(self) -> str:
        return self.reason

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "equal": self.equal,
            "method": self.method,
            "reason": self.reason,
            "certificate": self.certificate.to_dict() if self.certificate else None,
            "witness": self.witness.to_dict() if self.witness else None,
            "level": self.level,
        }


def equivalent(
    a: str | Expression,
    b: str | Expression,
    level: str = "function",
    seconds: float = 10.0,
    parameters: str = "independent",
) -> Verdict:
    """Whether two expressions are the same partial function.

    They are when they have the same domain, up to isolated points, and the same values there, for
    every value of the parameters and after some renaming of these. Initial values, scopes and
    learning rates of parameters do not count.

    Args:
        a: an expression, or its text.
        b: another.
        level: "function"; "reparameterised" allows a bijection of the parameters besides, "affine"
            also the sign of x, an output scale and an output offset. At these two, a `False` says
            that no change of the kinds that docs/equivalence.md lists leads from one to the other;
            its witness tells the canonical members of the two families apart.
        seconds: time limit, after which the verdict is None ("unknown").
        parameters: "independent": each hole `_` is a parameter of its own; "shared": all of them
            are one.

    Raises:
        ExpressionError: a text is no expression.
        UsageError: no such level, or no such way to read holes.

    Example:
        >>> bool(equivalent("x*sigmoid(x)", "x/(1 + exp(-x))"))
        True
    """
    check_level(level)
    check_parameters(parameters)
    first, second = with_holes(a, parameters), with_holes(b, parameters)
    deadline = Deadline(seconds)
    decision = decide(first, second, _renamings(first, second), deadline)
    for coarser in LEVELS[1 : LEVELS.index(level) + 1]:
        if isinstance(decision, Witness):
            decision = _decide_families(first, second, coarser, deadline)
    if isinstance(decision, Certificate):
        return Verdict(True, f"equal: {decision}", certificate=decision, level=level)
    if isinstance(decision, Witness):
        return Verdict(False, f"not equal: {decision}", witness=decision, level=level)
    return Verdict(None, f"unknown: {decision.reason}", level=level)


def _decide_families(a: Expression, b: Expression, level: str, deadline: Deadline) -> Decision:
    """Whether the canonical members of two families are the same function."""
    (first, change), (second, other) = canonical(a, level), canonical(b, level)
    decision = decide(first, second, _renamings(first, second), deadline)
    if isinstance(decision, Certificate):
        return replace(decision, first=change.to_pairs(), second=other.to_pairs())
    return decision


def _renamings(a: Expression, b: Expression) -> Iterator[dict[str, str]]:
    """All renamings, those that fingerprints propose first."""
    names = [parameter.name for parameter in a.parameters]
    others = [parameter.name for parameter in b.parameters]
    proposed: list[dict[str, str]] = []
    if len(names) > 1 and len(others) > 1 and max(a.size, b.size) <= _MAX_FINGERPRINTED:
        pool = Pool()
        for renaming in pool.fingerprint(a).renamings(pool.fingerprint(b)):
            proposed.append(renaming)
            yield renaming
    yield from (renaming for renaming in all_renamings(names, others) if renaming not in proposed)
