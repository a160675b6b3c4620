"""The bridge to sympy: `to_sympy` and `from_sympy` invert each other on the operator table.

Operators that sympy knows become sympy's own functions. The others are sympy Functions whose
derivatives are the table's stable ones and whose `definition` is the formula in sympy's terms.
Symbols are real. sympy simplifies as it builds (`sqrt(x)*sqrt(x)` becomes `x`), so what comes back
from it may be defined on more of the line than what went in: check before you merge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any

import sympy
from sympy.core.function import ArgumentIndexError

from actsearch.grammar.expression import (
    INPUTS,
    Apply,
    Constant,
    Expression,
    Input,
    Number,
    Parameter,
    call,
)
from actsearch.grammar.language import as_expression, parse_template
from actsearch.grammar.operators import CONSTANTS, FORMALS, OPERATORS


class TableFunction(sympy.Function):  # type: ignore[misc]
    """An operator of the table that sympy does not have."""

    @classmethod
    def definition(cls, *arguments: Any) -> Any:
        """The operator's formula in sympy's own functions."""
        raise NotImplementedError

    def fdiff(self, argindex: int = 1) -> Any:
        derivatives = OPERATORS[type(self).__name__].derivative
        if not 1 <= argindex <= len(derivatives):
            raise ArgumentIndexError(self, argindex)
        template = parse_template(derivatives[argindex - 1])
        return _convert(template, dict(zip(FORMALS, self.args, strict=False)), elementary=False)

    def _eval_evalf(self, prec: int) -> Any:
        return self.definition(*self.args)._eval_evalf(prec)

    def _eval_is_extended_real(self) -> Any:
        return all(argument.is_extended_real for argument in self.args) or None


def _table_function(name: str, definition: Callable[..., Any]) -> type[TableFunction]:
    """A sympy Function that bears an operator's name, so that printing and `srepr` show it."""
    return type(name, (TableFunction,), {"definition": staticmethod(definition)})


_DEFINITIONS: dict[str, Callable[..., Any]] = {
    "relu": lambda a: sympy.Max(a, 0),
    "cbrt": lambda a: sympy.sign(a) * sympy.Abs(a) ** sympy.Rational(1, 3),
    "hypot": lambda a, b: sympy.sqrt(a**2 + b**2),
    "expm1": lambda a: sympy.exp(a) - 1,
    "log1p": lambda a: sympy.log(1 + a),
    "j1": lambda a: sympy.Piecewise(
        (0, sympy.Eq(a, 0)), (sympy.sin(a) / a**2 - sympy.cos(a) / a, True)
    ),
    "sigmoid": lambda a: 1 / (1 + sympy.exp(-a)),
    "softplus": lambda a: sympy.log(1 + sympy.exp(a)),
    "i0e": lambda a: sympy.besseli(0, a) * sympy.exp(-sympy.Abs(a)),
    "i1e": lambda a: sympy.besseli(1, a) * sympy.exp(-sympy.Abs(a)),
}
_EXTRA = {name: _table_function(name, function) for name, function in _DEFINITIONS.items()}

_TO_SYMPY: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "neg": lambda a: -a,
    "pow": lambda a, b: a**b,
    "abs": sympy.Abs,
    "sign": sympy.sign,
    "max": sympy.Max,
    "min": sympy.Min,
    "where": lambda c, a, b: sympy.Piecewise((a, c), (b, True)),
    "lt": sympy.Lt,
    "le": sympy.Le,
    "gt": sympy.Gt,
    "ge": sympy.Ge,
    "eq": sympy.Eq,
    "ne": sympy.Ne,
    "sqrt": sympy.sqrt,
    "exp": sympy.exp,
    "log": sympy.log,
    "sin": sympy.sin,
    "cos": sympy.cos,
    "tan": sympy.tan,
    "asin": sympy.asin,
    "acos": sympy.acos,
    "atan": sympy.atan,
    "sinc": sympy.sinc,
    "sinh": sympy.sinh,
    "cosh": sympy.cosh,
    "tanh": sympy.tanh,
    "asinh": sympy.asinh,
    "acosh": sympy.acosh,
    "atanh": sympy.atanh,
    "erf": sympy.erf,
    "erfc": sympy.erfc,
    **_EXTRA,
}

if _missing := set(OPERATORS) - set(_TO_SYMPY):
    raise NotImplementedError(f"sympy has no line for {', '.join(sorted(_missing))}")

_FROM_SYMPY: dict[Any, str] = {
    cls: name
    for name, cls in _TO_SYMPY.items()
    if isinstance(cls, type) and name not in ("max", "min")
}


@cache
def symbol(name: str) -> sympy.Symbol:
    """The sympy symbol of an input or a parameter: a real one."""
    return sympy.Symbol(name, real=True)


def to_sympy(expression: str | Expression, elementary: bool = False) -> Any:
    """The expression in sympy.

    Args:
        expression: an expression, or its text.
        elementary: spell operators that sympy lacks by their definition (`sigmoid(x)` as
            `1/(1 + exp(-x))`), so that sympy can work with them.

    Raises:
        ValueError: the expression is deeper than sympy's recursion reaches (some hundred levels).
    """
    try:
        return _convert(as_expression(expression), {}, elementary)
    except RecursionError:
        raise ValueError("this expression is too deep for sympy, which works recursively") from None


def _convert(expression: Expression, replaced: Mapping[str, Any], elementary: bool) -> Any:
    def visit(node: Expression, arguments: tuple[Any, ...]) -> Any:
        if isinstance(node, Apply):
            function = _TO_SYMPY[node.operator.name]
            if elementary and node.operator.name in _EXTRA:
                function = _EXTRA[node.operator.name].definition
            return function(*arguments)
        if isinstance(node, Number):
            return sympy.Rational(node.value.numerator, node.value.denominator)
        if isinstance(node, Constant):
            return sympy.pi if node.name == "pi" else sympy.E
        assert isinstance(node, Input | Parameter)
        return replaced[node.name] if node.name in replaced else symbol(node.name)

    return expression.fold(visit)


def from_sympy(expression: Any, parameters: Iterable[Parameter] = ()) -> Expression:
    """The expression of the language that a sympy expression stands for.

    Args:
        expression: a sympy expression over real symbols.
        parameters: declarations for symbols that are parameters; an undeclared one is `shared`.

    Raises:
        ValueError: sympy has a function here that the language does not.
    """
    declared = {parameter.name: parameter for parameter in parameters}
    results: dict[Any, Expression] = {}
    stack = [sympy.sympify(expression)]
    while stack:
        node = stack[-1]
        operands = [operand for operand in _operands(node) if operand not in results]
        if operands:
            stack.extend(operands)
            continue
        stack.pop()
        if node not in results:
            results[node] = _from_node(node, results, declared)
    return results[sympy.sympify(expression)]


def _operands(node: Any) -> list[Any]:
    """The sympy nodes that have to be converted before `node`."""
    if node.is_Atom:
        return []
    if isinstance(node, sympy.Mul):
        numerator, denominator = _fraction(node)
        return [*numerator, *denominator]
    if isinstance(node, sympy.Add):
        return [_positive(term)[1] for term in node.as_ordered_terms()]
    if isinstance(node, sympy.Pow):
        base, exponent = node.as_base_exp()
        if exponent == sympy.S.Half:
            return [base]
        if _is_negative(exponent):
            return [base**-exponent]
        return [base, exponent]
    if isinstance(node, sympy.Piecewise):
        return [part for pair in node.args for part in pair.args if part is not sympy.true]
    return list(node.args)


def _is_negative(value: Any) -> bool:
    return bool(value.could_extract_minus_sign()) and value.is_number


def _positive(term: Any) -> tuple[bool, Any]:
    """Whether a term carries a minus sign, and the term without it."""
    coefficient, rest = term.as_coeff_Mul()
    if coefficient.is_negative:
        return True, -coefficient * rest
    return False, term


def _fraction(node: Any) -> tuple[list[Any], list[Any]]:
    """The factors of a product above and below the fraction bar; the sign is left to the caller."""
    numerator: list[Any] = []
    denominator: list[Any] = []
    for factor in node.as_ordered_factors():
        if isinstance(factor, sympy.Rational):
            top, bottom = abs(factor.p), factor.q
            if top != 1:
                numerator.append(sympy.Integer(top))
            if bottom != 1:
                denominator.append(sympy.Integer(bottom))
        elif isinstance(factor, sympy.Float):
            numerator.append(abs(factor))
        elif isinstance(factor, sympy.Pow) and _is_negative(factor.exp):
            denominator.append(factor.base**-factor.exp)
        else:
            numerator.append(factor)
    return numerator, denominator


def _chain(name: str, nodes: Iterable[Expression]) -> Expression:
    first, *rest = nodes
    for node in rest:
        first = call(name, first, node)
    return first


def _from_node(
    node: Any, results: Mapping[Any, Expression], declared: Mapping[str, Parameter]
) -> Expression:
    if node.is_Atom:
        return _from_atom(node, declared)
    if isinstance(node, sympy.Add):
        total: Expression | None = None
        for term in node.as_ordered_terms():
            negative, magnitude = _positive(term)
            value = results[magnitude]
            if total is None:
                total = -value if negative else value
            else:
                total = total - value if negative else total + value
        assert total is not None
        return total
    if isinstance(node, sympy.Mul):
        numerator, denominator = _fraction(node)
        value = _chain("mul", [results[f] for f in numerator] or [Number(1)])
        if denominator:
            value = value / _chain("mul", [results[f] for f in denominator])
        return -value if _positive(node)[0] else value
    if isinstance(node, sympy.Pow):
        base, exponent = node.as_base_exp()
        if exponent == sympy.S.Half:
            return call("sqrt", results[base])
        if _is_negative(exponent):
            return 1 / results[base**-exponent]
        return call("pow", results[base], results[exponent])
    if isinstance(node, sympy.Piecewise):
        return _from_piecewise(node, results)
    if isinstance(node, sympy.Max | sympy.Min):
        name = "max" if isinstance(node, sympy.Max) else "min"
        ordered = sorted(node.args, key=sympy.default_sort_key)
        return _chain(name, (results[argument] for argument in ordered))
    name = _FROM_SYMPY.get(node.func, "")
    if not name:
        raise ValueError(f"the language has nothing for sympy's {node.func.__name__}")
    return call(name, *(results[argument] for argument in node.args))


def _from_piecewise(node: Any, results: Mapping[Any, Expression]) -> Expression:
    *pieces, (last, condition) = node.args
    if condition is not sympy.true:
        raise ValueError(f"{node} is undefined outside of its pieces")
    value = results[last]
    for piece, condition in reversed(pieces):
        value = call("where", results[condition], results[piece], value)
    return value


def _from_atom(node: Any, declared: Mapping[str, Parameter]) -> Expression:
    if isinstance(node, sympy.Symbol):
        if node.name in INPUTS:
            return Input(node.name)
        return declared.get(node.name) or Parameter(node.name)
    if isinstance(node, sympy.Integer):
        return Number(int(node))
    if isinstance(node, sympy.Rational):
        return Number(int(node.p)) / Number(int(node.q))
    if isinstance(node, sympy.Float):
        return Number(str(node))
    for name in CONSTANTS:
        if node == (sympy.pi if name == "pi" else sympy.E):
            return Constant(name)
    raise ValueError(f"the language has nothing for sympy's {node}")
