"""Stable forms: the same function, written so that floating point can compute it.

Each rule is an identity wherever its left side is defined; the tests prove every one with mpmath.
They apply before the gradient is derived, so that the gradient is that of the stable form, and
again to the gradient.
"""

from __future__ import annotations

from collections.abc import Iterable

from actsearch.codegen.gradients import CLEAN
from actsearch.codegen.rewriting import Rules
from actsearch.grammar.expression import Expression

STABLE = Rules(
    *CLEAN.lines,
    # logistic: exp(a) overflows, sigmoid does not
    "a/(1 + exp(-b)) -> a*sigmoid(b)",
    "a/(1 + exp(b)) -> a*sigmoid(-b)",
    "exp(a)*sigmoid(-a) -> sigmoid(a)",
    "exp(-a)*sigmoid(a) -> sigmoid(-a)",
    "1 - sigmoid(a) -> sigmoid(-a)",
    # softplus
    "log(1 + exp(a)) -> softplus(a)",
    "log1p(exp(a)) -> softplus(a)",
    "log(sigmoid(a)) -> -softplus(-a)",
    "exp(-softplus(a)) -> sigmoid(-a)",
    # differences from 1
    "exp(a) - 1 -> expm1(a)",
    "1 - exp(a) -> -expm1(a)",
    "log(1 + a) -> log1p(a)",
    "log(1 - a) -> log1p(-a)",
    "1 - erf(a) -> erfc(a)",
    "1 + erf(a) -> erfc(-a)",
    "1 - erfc(a) -> erf(a)",
    # squares that overflow under a root
    "sqrt(a**2) -> abs(a)",
    "sqrt(a*a) -> abs(a)",
    "sqrt(1 + a**2) -> hypot(1, a)",
    "sqrt(p + a**2) -> hypot(sqrt(p), a)",
    "sqrt(p + q*a**2) -> hypot(sqrt(p), sqrt(q)*a)",
    "sqrt(a**2 + b**2) -> hypot(a, b)",
    # hyperbolic functions
    "sinh(a)/cosh(a) -> tanh(a)",
    "exp(a) - cosh(a) -> sinh(a)",
    "cosh(a) - exp(a) -> -sinh(a)",
    "exp(a) - sinh(a) -> cosh(a)",
    "sinh(a) - exp(a) -> -cosh(a)",
    "cosh(a) - sinh(a) -> exp(-a)",
    "sinh(a) - cosh(a) -> -exp(-a)",
    "cosh(a) + sinh(a) -> exp(a)",
    "(exp(a) - exp(-a))/(exp(a) + exp(-a)) -> tanh(a)",
    "log(cosh(a)) -> abs(a) + softplus(-2*abs(a)) - log(2)",
    "1 - tanh(a)**2 -> 4*(sigmoid(2*a)*sigmoid(-2*a))",
    "1 - 4*(sigmoid(2*a)*sigmoid(-2*a)) -> tanh(a)**2",
    "b*exp(a) + c*cosh(a) -> where(2*b + c == 0, c/2*exp(-a), (b + c/2)*exp(a) + c/2*exp(-a))",
    "b*exp(a) + c*sinh(a) -> where(abs(a) < 1, (b + c)*sinh(a) + b*cosh(a),"
    " where(2*b + c == 0, -c/2*exp(-a), (b + c/2)*exp(a) - c/2*exp(-a)))",
    # exponentials of opposite signs
    "exp(a)*exp(b) -> exp(a + b)",
    "exp(a)/exp(b) -> exp(a - b)",
    "a/exp(b) -> a*exp(-b)",
)


def stabilise(expressions: Iterable[Expression]) -> list[Expression]:
    """The expressions with every rule of `STABLE` applied, operands first."""
    return STABLE.rebuild(expressions)
