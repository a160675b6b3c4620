"""The structural normal form: expressions with equal normal forms are equal functions, proved.

Sums and products are flattened, sorted and collected with exact rational coefficients; operators
that others can spell are spelled out (`rules`); signs, even powers and constant factors move out of
functions. Nothing is cancelled that would enlarge the domain: √x − √x becomes `0*sqrt(x)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction

from actsearch.equivalence import functions, rules
from actsearch.equivalence.memo import Memo
from actsearch.equivalence.polynomial import (
    ONE,
    UNIT,
    Form,
    TooLarge,
    atom_form,
    number,
    to_expression,
    total,
)
from actsearch.equivalence.products import NOWHERE, multiply, nowhere, power
from actsearch.grammar.expression import (
    Apply,
    Constant,
    Expression,
    Input,
    Number,
    Parameter,
)
from actsearch.grammar.language import as_expression
from actsearch.grammar.operators import EVEN, ODD

_MAX_NODES = 20_000
_MAX_DEPTH = 150  # functions inside of functions
_MEMO_SIZE = 100_000
_forms: Memo[Expression, Form] = Memo(_MEMO_SIZE)
_ADDITIVE = frozenset({"add", "sub", "neg"})
_MULTIPLICATIVE = frozenset({"mul", "div"})


def normal_form(expression: str | Expression) -> Expression:
    """The canonical expression of the same partial function, up to isolated points.

    Equal normal forms prove equality; different ones prove nothing. It is made to be compared, not
    to be read or run: see `simplify`. Idempotent. An expression too large to be worth it (20,000
    nodes, functions nested 150 deep) is returned as it is.
    """
    expression = as_expression(expression)
    try:
        return to_expression(form_of(expression))
    except TooLarge:
        return expression


def form_of(expression: Expression) -> Form:
    """The normal form as a polynomial over atoms with its domain.

    Raises:
        TooLarge: more than 20,000 nodes, or functions nested deeper than 150.
    """
    known = _forms.get(expression)
    if known is not None:
        return known
    _forms.make_room()
    _check_size(expression)
    stack = [expression]
    while stack:
        node = stack[-1]
        if node in _forms:
            stack.pop()
            continue
        parts = _operands(node)
        missing = [part for part in parts if part not in _forms]
        if missing:
            stack.extend(missing)
        else:
            _forms[node] = _form(node, parts)
            stack.pop()
    return _forms[expression]


def _check_size(expression: Expression) -> None:
    depths: dict[Expression, int] = {}
    for node in expression.postorder():
        inner = max((depths[a] for a in node.arguments), default=0)
        flat = isinstance(node, Apply) and node.operator.name in _ADDITIVE | _MULTIPLICATIVE
        depths[node] = inner + (0 if flat or not node.arguments else 1)
        if len(depths) > _MAX_NODES or depths[node] > _MAX_DEPTH:
            raise TooLarge


def _operands(node: Expression) -> Mapping[Expression, Fraction]:
    """What has to be in normal form before `node`: operand -> its weight or exponent.

    Chains of sums, and of products, are taken in one step, however long.
    """
    if isinstance(node, Apply):
        for chain, weigh in ((_ADDITIVE, _added), (_MULTIPLICATIVE, _multiplied)):
            if node.operator.name in chain:
                return _frontier(node, chain, weigh)
        if node.operator.name == "where":
            comparison, *branches = node.arguments
            return dict.fromkeys((*comparison.arguments, *branches), Fraction(1))
    return {argument: Fraction(1) for argument in node.arguments}


def _frontier(
    root: Apply, chain: frozenset[str], weigh: Callable[[str], tuple[int, ...]]
) -> Mapping[Expression, Fraction]:
    inside: list[Expression] = []
    seen: set[Expression] = set()
    stack: list[tuple[Expression, bool]] = [(root, False)]
    while stack:  # postorder of the chain's own nodes
        node, expanded = stack.pop()
        if expanded:
            inside.append(node)
        elif node not in seen:
            seen.add(node)
            if isinstance(node, Apply) and node.operator.name in chain:
                stack.append((node, True))
                stack.extend((argument, False) for argument in node.arguments)
    weights: dict[Expression, Fraction] = {root: Fraction(1)}
    leaves: dict[Expression, Fraction] = {}
    within = set(inside)
    for node in reversed(inside):
        assert isinstance(node, Apply)
        for argument, sign in zip(node.arguments, weigh(node.operator.name), strict=True):
            target = weights if argument in within else leaves
            target[argument] = target.get(argument, Fraction(0)) + sign * weights[node]
    return _whole_powers(leaves) if chain is _MULTIPLICATIVE else leaves


def _whole_powers(factors: Mapping[Expression, Fraction]) -> Mapping[Expression, Fraction]:
    """Factors aⁿ as a to the exponent n, so that 1/(1 + a)² is (1 + a)⁻²."""
    found: dict[Expression, Fraction] = {}
    for factor, exponent in factors.items():
        if isinstance(factor, Apply) and factor.operator.name == "pow":
            base, power_ = factor.arguments
            if isinstance(power_, Number) and power_.value.denominator == 1 and power_.value:
                found[base] = found.get(base, Fraction(0)) + exponent * power_.value
                continue
        found[factor] = found.get(factor, Fraction(0)) + exponent
    return found


def _added(name: str) -> tuple[int, ...]:
    return {"add": (1, 1), "sub": (1, -1), "neg": (-1,)}[name]


def _multiplied(name: str) -> tuple[int, ...]:
    return {"mul": (1, 1), "div": (1, -1)}[name]


def _form(node: Expression, parts: Mapping[Expression, Fraction]) -> Form:
    if isinstance(node, Number):
        return number(node.value)
    if isinstance(node, Constant | Input | Parameter):
        return apply_form("exp", ONE) if node is Constant("e") else atom_form(node)
    assert isinstance(node, Apply)
    name = node.operator.name
    if name in _ADDITIVE:
        return nowhere(total((_forms[part], weight) for part, weight in parts.items()))
    if name in _MULTIPLICATIVE:
        return _product(node, parts)
    if name == "where":
        return functions.where(node, form_of)
    return apply_form(name, *(_forms[argument] for argument in node.arguments))


def _product(node: Apply, parts: Mapping[Expression, Fraction]) -> Form:
    """A chain of products; a factor that cancels leaves its domain behind."""
    result = ONE
    for part, exponent in parts.items():
        if exponent == 0:
            # a/a: 1 where a is defined and does not vanish on a whole piece
            result = multiply(result, multiply(_forms[part], power(_forms[part], -1)))
        else:
            result = multiply(result, power(_forms[part], int(exponent)))
    return result


def apply_form(name: str, *arguments: Form) -> Form:
    """An operator of the table applied to forms."""
    if any(argument is NOWHERE for argument in arguments):
        return NOWHERE
    definition = rules.definitions(rules.DEFINITIONS).get(name)
    if definition is not None:
        return expand(definition, *arguments)
    if name in _ARITHMETIC:
        return nowhere(_ARITHMETIC[name](*arguments))
    if name in functions.HANDLERS:
        return nowhere(functions.HANDLERS[name](*arguments))
    return nowhere(_function(name, *arguments))


def expand(template: Expression, *arguments: Form) -> Form:
    """A formula over the formal arguments a, b, c, evaluated on forms."""
    formals = dict(zip("abc", arguments, strict=False))

    def visit(node: Expression, parts: tuple[Form, ...]) -> Form:
        if isinstance(node, Parameter):
            return formals[node.name]
        if isinstance(node, Apply):
            return apply_form(node.operator.name, *parts)
        return form_of(node)

    return template.fold(visit)


def _function(name: str, argument: Form) -> Form:
    """A unary function defined everywhere: parity, value at 0, composition, else an atom."""
    if not argument.terms:
        at_zero = rules.definitions(rules.AT_ZERO).get(name)
        value = expand(at_zero) if at_zero is not None else number(0)
        if at_zero is None and name not in ODD:
            value = atom_form(Apply(name, Number(0)))
        return value.on(argument.domain)
    single = argument.single
    if single is not None and single[1] == 1 and len(single[0]) == 1 and single[0][0][1] == 1:
        inner = single[0][0][0]
        if isinstance(inner, Apply):
            template = rules.compositions().get((name, inner.operator.name))
            if template is not None:
                return expand(template, form_of(inner.arguments[0])).on(argument.domain)
    if argument.leading() < 0:
        mirrored = argument.scaled(Fraction(-1))
        if name in ODD:
            return _function(name, mirrored).scaled(Fraction(-1))
        if name in EVEN:
            return _function(name, mirrored)
        if name == "sigmoid":  # sigmoid(-a) -> 1 - sigmoid(a)
            return total([(ONE, Fraction(1)), (_function(name, mirrored), Fraction(-1))])
    return atom_form(Apply(name, to_expression(Form(argument.terms))), argument.domain)


_ARITHMETIC: Mapping[str, Callable[..., Form]] = {
    "add": lambda a, b: total([(a, Fraction(1)), (b, Fraction(1))]),
    "sub": lambda a, b: total([(a, Fraction(1)), (b, Fraction(-1))]),
    "neg": lambda a: a.scaled(Fraction(-1)),
    "mul": multiply,
    "div": lambda a, b: multiply(a, power(b, -1)),
}

__all__ = ["UNIT", "apply_form", "expand", "form_of", "normal_form"]
