"""`simplify`: the cheapest form found of the same function, certified.

Candidates come from the normal form, written out again in several ways (common factors outside,
|a| taken back into relu, max and min), from the rules for stable code, and from the named
activations. What is returned has passed the equivalence certificate, domain included.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache

from actsearch.codegen.gradients import CLEAN
from actsearch.codegen.rewriting import Rules
from actsearch.codegen.stable import STABLE
from actsearch.equivalence.certificate import Certificate, Deadline, decide, rename
from actsearch.equivalence.normal_form import form_of, normal_form
from actsearch.equivalence.polynomial import (
    Form,
    Monomial,
    TooLarge,
    monomial,
    rational,
    to_expression,
    total,
)
from actsearch.grammar.expression import Apply, Expression, Input, Number, Parameter, call
from actsearch.grammar.language import as_expression
from actsearch.grammar.named import named_activations

_SECONDS = 1.0
_MAX_SIZE = 300
_MAX_PIECES = 3
_ROUNDS = 6
_PRODUCTS_TO = 64  # whole powers up to here are compiled to products

PRETTY = Rules(
    *STABLE.lines,
    # pieces
    "max(a, 0) -> relu(a)",
    "max(0, a) -> relu(a)",
    "min(a, 0) -> -relu(-a)",
    "max(a, -a) -> abs(a)",
    "max(-a, a) -> abs(a)",
    "min(a, -a) -> -abs(a)",
    "relu(relu(a)) -> relu(a)",
    "abs(-a) -> abs(a)",
    "abs(relu(a)) -> relu(a)",
    # signs and sums
    "-a + b -> b - a",
    "-a - b -> -(a + b)",
    "a*(-b) -> -(a*b)",
    # powers
    "a*a -> a**2",
    "a*a**2 -> a**3",
    "a**2*a -> a**3",
    "a**0.5 -> sqrt(a)",
    # functions
    "exp(a)**2 -> exp(2*a)",
    "sinh(a) + cosh(a) -> exp(a)",
    "cosh(a) + sinh(a) -> exp(a)",
    "cosh(a) - sinh(a) -> exp(-a)",
    "sin(a)**2 + cos(a)**2 -> 1",
    "cos(a)**2 + sin(a)**2 -> 1",
    "sin(a)/a -> sinc(a)",
)
"""Rules towards what people write; proved, with `STABLE`, in the tests."""


def simplify(expression: str | Expression) -> Expression:
    """The cheapest form found of the same function: same domain (up to isolated points), same
    values, same parameters.

    The result never costs more than what was given, by `evaluation_cost`, and simplifying it again
    changes nothing. Expressions with one normal form get one result, unless one of them was already
    cheaper than everything that the normal form leads to. Expressions of more than 300 nodes are
    returned as they are.

    Args:
        expression: an expression, or its text.

    Raises:
        ExpressionError: the text is no expression.

    Example:
        >>> str(simplify("x*(1/(1 + exp(-beta*x)))"))
        'x*sigmoid(beta*x)'
    """
    expression = as_expression(expression)
    if expression.size > _MAX_SIZE:
        return expression
    for _ in range(_ROUNDS):
        better = _simplified(expression)
        if better is expression:
            break
        expression = better
    return expression


@lru_cache(maxsize=4096)
def _simplified(expression: Expression) -> Expression:
    declared = {parameter.name: parameter for parameter in expression.parameters}
    plain = rename(expression, {})
    candidates = {_restored(c, declared) for c in _candidates(plain)} | {expression}
    ordered = sorted(candidates, key=_rank)
    cost = evaluation_cost(expression)
    named = [_restored(c, declared) for c in _named_form(plain) if evaluation_cost(c) <= cost]
    for candidate in named + ordered:
        if candidate is expression or _accepted(expression, candidate):
            return candidate
    return expression


def _rank(expression: Expression) -> tuple[float, int, int, int, str]:
    """Cheapest first, then fewest operators, fewest products (x**2, not x*x), then shortest."""
    names = [n.operator.name for n in expression.postorder() if isinstance(n, Apply)]
    text = str(expression)
    return evaluation_cost(expression), len(names), names.count("mul"), len(text), text


def evaluation_cost(expression: Expression) -> float:
    """`Expression.cost` of what is compiled: constants are computed beforehand, whole powers are
    products, and dividing by a constant is as cheap as multiplying by one.
    """
    constant: dict[Expression, bool] = {}
    cost = 0.0
    for node in expression.postorder():
        if not isinstance(node, Apply):
            constant[node] = not isinstance(node, Input | Parameter)
            continue
        constant[node] = all(constant[argument] for argument in node.arguments)
        if not constant[node]:
            cost += _node_cost(node, constant[node.arguments[-1]])
    return round(cost, 9)


def _node_cost(node: Apply, by_constant: bool) -> float:
    name, last = node.operator.name, node.arguments[-1]
    if name == "div" and by_constant:
        return 1.0
    if name == "pow" and isinstance(last, Number) and last.value in range(2, _PRODUCTS_TO + 1):
        return float((int(last.value) - 1).bit_length())
    return node.operator.cost


def _accepted(expression: Expression, candidate: Expression) -> bool:
    if {p.name for p in candidate.parameters} - {p.name for p in expression.parameters}:
        return False
    same = {parameter.name: parameter.name for parameter in candidate.parameters}
    decision = decide(expression, candidate, [same], Deadline(_SECONDS))
    return isinstance(decision, Certificate)


def _restored(expression: Expression, declared: dict[str, Parameter]) -> Expression:
    """The expression with its parameters declared as they were."""
    return expression.substitute(
        {p: declared[p.name] for p in expression.parameters if p.name in declared}
    )


def _candidates(expression: Expression) -> Iterator[Expression]:
    yield from _spellings(expression)
    form = normal_form(expression)
    yield from _spellings(form)
    try:
        written = _written(form_of(expression), _MAX_PIECES)
    except TooLarge:
        return
    for candidate in written:
        yield from _spellings(candidate)


def _named_form(expression: Expression) -> list[Expression]:
    """The formula of the named activation that the expression is by its normal form, if it is."""
    form, numbers = _numbered(normal_form(expression))
    found = _named().get(form)
    if found is None:
        return []
    return [rename(found, {number: name for name, number in numbers.items()})]


def _spellings(expression: Expression) -> Iterator[Expression]:
    yield expression
    yield _rebuilt(CLEAN, expression)
    pretty = expression
    for _ in range(_ROUNDS):
        tidier = _rebuilt(PRETTY, pretty)
        if tidier is pretty:
            break
        pretty = tidier
    yield pretty


def _rebuilt(rules: Rules, expression: Expression) -> Expression:
    return rules.rebuild([expression])[0]


@lru_cache(maxsize=1)
def _named() -> dict[Expression, Expression]:
    """Normal form with numbered parameters -> the named activation, parameters numbered alike."""
    found: dict[Expression, Expression] = {}
    for activation in named_activations().values():
        form, numbers = _numbered(normal_form(rename(activation.expression, {})))
        found.setdefault(form, rename(activation.expression, numbers))
    return found


def _numbered(form: Expression) -> tuple[Expression, dict[str, str]]:
    numbers = {p.name: f"_{place}" for place, p in enumerate(form.parameters, 1)}
    return normal_form(rename(form, numbers)), numbers


def _written(form: Form, pieces: int) -> list[Expression]:
    """The form as expressions: as it is, with |·| taken back, with common factors outside."""
    plain = to_expression(form)
    if not form.terms or form.single is not None:
        return [_inner(plain)]
    found = [plain, _inner(plain)]
    common, rest = _common_factor(form)
    if common:
        outside = to_expression(Form({common: Fraction(1)}))
        found += [outside * inner for inner in _written(rest, pieces)]
    if pieces > 0:
        found += _without_abs(form, pieces)
    content = abs(form.leading())
    if content != 1:
        unit = Form({m: c / content for m, c in form.terms.items()}, form.domain)
        found.append(rational(content) * to_expression(unit))
    return found


def _inner(expression: Expression) -> Expression:
    """The expression with the operands of functions written in their cheapest way."""

    def visit(node: Expression, arguments: tuple[Expression, ...]) -> Expression:
        if not isinstance(node, Apply):
            return node
        best = tuple(_cheapest_argument(argument) for argument in arguments)
        return node.with_arguments(best)

    return expression.fold(visit)


def _cheapest_argument(argument: Expression) -> Expression:
    if not isinstance(argument, Apply) or argument.operator.name not in ("add", "sub"):
        return argument
    try:
        form = form_of(argument)
    except TooLarge:
        return argument
    choices = [argument, *_without_abs(form, 1)]
    return min((_rebuilt(PRETTY, choice) for choice in choices), key=_rank)


def _common_factor(form: Form) -> tuple[Monomial, Form]:
    """The atoms that every term has, to their smallest power, and what is left of the sum."""
    shared: dict[Expression, int] | None = None
    for product in form.terms:
        powers = dict(product)
        if shared is None:
            shared = powers
        else:
            shared = {a: min(k, powers[a]) for a, k in shared.items() if a in powers}
    kept = shared or {}
    if not kept:
        return (), form
    terms: dict[Monomial, Fraction] = {}
    for product, coefficient in form.terms.items():
        powers = dict(product)
        for atom, k in kept.items():
            powers[atom] -= k
        terms[monomial(powers)] = coefficient
    return monomial(kept), Form(terms, form.domain)


def _without_abs(form: Form, pieces: int) -> list[Expression]:
    """r + c·|s| as max(r + c·s, r - c·s), or as min for negative c."""
    found: list[Expression] = []
    for product, coefficient in form.terms.items():
        if len(product) != 1 or product[0][1] != 1:
            continue
        atom = product[0][0]
        if not isinstance(atom, Apply) or atom.operator.name != "abs":
            continue
        inside = form_of(atom.arguments[0])
        rest = Form({m: c for m, c in form.terms.items() if m != product}, form.domain)
        sides = [total([(rest, Fraction(1)), (inside, coefficient * sign)]) for sign in (1, -1)]
        name = "max" if coefficient > 0 else "min"
        ways = [min(_written(side, pieces - 1), key=_rank) for side in sides]
        found += [call(name, *ways), call(name, *reversed(ways))]
    return found
