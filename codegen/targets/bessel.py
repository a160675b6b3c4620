"""Scaled Bessel functions as polynomials, for targets whose libraries lack them.

exp(-|a|) I0(a) and exp(-|a|) I1(a) are computed as

    exp(-|a|) * p(a²/4), times a/2 for I1    where |a| < 8: p is the power series
    q(16/|a| - 1)/sqrt(|a|)                  elsewhere: q is a minimax fit, 2^-52
"""

from __future__ import annotations

import itertools

NEAR = 8.0
TERMS = 23  # of the power series, for float64; float32 needs 15

FAR: dict[int, tuple[float, ...]] = {
    0: (
        9.36508689281819e-11, 3.629355229718733e-11, -6.633287112547084e-10,
        -2.8033819978869995e-10, 2.1968921378829006e-09, 1.1050558794424347e-09,
        -4.575553424534973e-09, -3.1346276429240787e-09, 6.560138746917057e-09,
        7.3359687108161536e-09, -5.0381064879032845e-09, -1.3326094405766387e-08,
        -6.8493381882867694e-09, 7.534355843803342e-09, 2.1566251453104354e-08,
        3.932889375114634e-08, 8.872034383314144e-08, 2.973596046562712e-07,
        1.4838476651250266e-06, 1.1143033800708978e-05, 0.00013621607438984735,
        0.0033605519836677504, 0.4021765094450081,
    ),
    1: (
        -9.752397204138195e-11, -3.365431853180176e-11, 6.917089294193807e-10,
        2.6340771095136483e-10, -2.297004161885201e-09, -1.0594544160443166e-09,
        4.810597405089944e-09, 3.086886736722725e-09, -6.983839624895866e-09,
        -7.44444147719727e-09, 5.59337010179061e-09, 1.3958551001385955e-08,
        6.8401389977069586e-09, -8.409182040442918e-09, -2.339250374801858e-08,
        -4.313196489977733e-08, -1.000109565963654e-07, -3.4838534380376333e-07,
        -1.8349102358955385e-06, -1.5038547209501858e-05, -0.0002192357638317243,
        -0.009749577193235635, 0.38939845902587233,
    ),
}  # fmt: skip
"""Coefficients of q, for each order, from the highest power down."""


def near(order: int, terms: int = TERMS) -> list[str]:
    """Lines, in Python, that compute p(s) as `q` for s = a²/4: factors 1/(k*(k + order))."""
    factors = (1.0 / (k * (k + order)) for k in range(terms, 0, -1))
    return ["q = 1.0", *(f"q = 1.0 + s * {factor!r} * q" for factor in factors)]


def far(order: int, smallest: float = 0.0) -> list[str]:
    """Lines, in Python, that compute q(t) as `q`, from the first coefficient of that size on."""
    first, *rest = itertools.dropwhile(lambda c: abs(c) < smallest, FAR[order])
    terms = (f"q = q * t {'-' if c < 0 else '+'} {abs(c)!r}" for c in rest)
    return [f"q = {first!r}", *terms]
