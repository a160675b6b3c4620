"""Rewrite rules, written in the language: `"a + 0 -> a"` is a rule.

In a rule `a` to `g` stand for any expression, `u` for one that is no number, `m` and `n` for
numbers, `p` and `q` for positive ones, `k` for a negative one. A rule looks at the top of an
expression only; `Rules.build` is the constructor that applies them, so that expressions are clean
from the leaves up, in one pass.
"""

from __future__ import annotations

import itertools
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from fractions import Fraction

from actsearch.grammar.errors import BadNumber
from actsearch.grammar.expression import Apply, Expression, Number, Parameter, call
from actsearch.grammar.language import parse_template
from actsearch.grammar.operators import COMMUTATIVE, COMPARISONS

FORMALS = ("a", "b", "c", "d", "f", "g", "m", "n", "p", "q", "k", "u")
_NUMBERS: Mapping[str, Callable[[Fraction], bool]] = {
    "m": lambda value: True,
    "n": lambda value: True,
    "p": lambda value: value > 0,
    "q": lambda value: value > 0,
    "k": lambda value: value < 0,
}
_NO_NUMBER = "u"
_ARROW = re.compile("[-=]>")
_LARGEST_EXPONENT = 64  # whole powers of numbers are computed up to here

_FOLDS: Mapping[str, Callable[..., Fraction | bool]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
    "div": operator.truediv,
    "abs": abs,
    "max": max,
    "min": min,
    "relu": lambda value: max(value, Fraction(0)),
    "sign": lambda value: Fraction((value > 0) - (value < 0)),
}
_COMPARE: Mapping[str, Callable[[Fraction, Fraction], bool]] = {
    name: getattr(operator, name) for name in COMPARISONS
}


class Rules:
    """An ordered list of rules; the first that matches is applied, again and again.

    Args:
        lines: the rules. In `"pattern -> result"` commutative operators match their operands in
            either order; `"pattern => result"` matches in the order written.
    """

    def __init__(self, *lines: str) -> None:
        self.lines = lines
        self._by_operator: dict[str, list[tuple[Apply, Expression]]] = {}
        self._by_shape: dict[tuple[object, ...], list[tuple[Apply, Expression]]] = {}
        for line in lines:
            sides = _ARROW.split(line)
            left, right = (parse_template(side.strip(), FORMALS) for side in sides)
            for pattern in _orders(left) if "->" in line else [left]:
                assert isinstance(pattern, Apply), f"a rule rewrites an operator: {line}"
                self._by_operator.setdefault(pattern.operator.name, []).append((pattern, right))

    def build(self, name: str, *operands: Expression | int) -> Expression:
        """`call(name, *operands)`, rewritten."""
        arguments = tuple(o if isinstance(o, Expression) else Number(o) for o in operands)
        folded = fold_numbers(name, arguments)
        if folded is not None:
            return folded
        if all(isinstance(argument, Number) for argument in arguments):
            return call(name, *arguments)
        for pattern, result in self._candidates(name, arguments):
            bound: dict[str, Expression] = {}
            if all(map(_match, pattern.arguments, arguments, itertools.repeat(bound))) and (
                _product_fits(bound)
            ):
                return self.instantiate(result, bound)
        return call(name, *arguments)

    def _candidates(
        self, name: str, arguments: tuple[Expression, ...]
    ) -> list[tuple[Apply, Expression]]:
        """The rules whose pattern has the operands' own operators, found once for each shape."""
        shape = (name, *map(_shape, arguments))
        if shape not in self._by_shape:
            self._by_shape[shape] = [
                (pattern, result)
                for pattern, result in self._by_operator.get(name, ())
                if all(map(_may_match, pattern.arguments, shape[1:]))
            ]
        return self._by_shape[shape]

    def results(self, node: Expression, constructor: Rules) -> Iterator[Expression]:
        """What each rule that matches the top of `node` makes of it, once, by another's rules."""
        if isinstance(node, Apply):
            for pattern, result in self._by_operator.get(node.operator.name, ()):
                bound: dict[str, Expression] = {}
                if _match(pattern, node, bound):
                    yield constructor.instantiate(result, bound)

    def instantiate(self, template: Expression, bound: Mapping[str, Expression]) -> Expression:
        """A template with its formal arguments replaced, built by these rules."""
        if isinstance(template, Parameter):
            return bound[template.name]
        if not isinstance(template, Apply):
            return template
        arguments = (self.instantiate(argument, bound) for argument in template.arguments)
        return self.build(template.operator.name, *arguments)

    def rebuild(self, expressions: Iterable[Expression]) -> list[Expression]:
        """The expressions built anew by these rules, operands first; what they share only once."""
        built: dict[Expression, Expression] = {}
        found = []
        for expression in expressions:
            for node in expression.postorder():
                if node not in built:
                    built[node] = (
                        self.build(node.operator.name, *(built[a] for a in node.arguments))
                        if isinstance(node, Apply)
                        else node
                    )
            found.append(built[expression])
        return found


def fold_numbers(name: str, arguments: tuple[Expression, ...]) -> Expression | None:
    """What an operator makes of numbers, where that is an exact decimal; else None."""
    if name == "where":
        return _fold_where(*arguments)
    values = [argument.value for argument in arguments if isinstance(argument, Number)]
    if len(values) != len(arguments):
        return None
    try:
        if name in _FOLDS:
            return Number(Fraction(_FOLDS[name](*values)))
        if name == "pow" and values[1].denominator == 1 and abs(values[1]) <= _LARGEST_EXPONENT:
            return Number(Fraction(values[0] ** int(values[1])))
    except (BadNumber, ZeroDivisionError):
        pass  # 1/3 has no finite decimal, 1/0 no value: they stay as they are written
    return None


def _fold_where(condition: Expression, left: Expression, right: Expression) -> Expression | None:
    """`where` with equal branches, or with a comparison of numbers."""
    if left is right:
        return left
    if isinstance(condition, Apply):
        values = [side.value for side in condition.arguments if isinstance(side, Number)]
        if len(values) == 2:
            return left if _COMPARE[condition.operator.name](*values) else right
    return None


def _product_fits(bound: Mapping[str, Expression]) -> bool:
    """Whether two numbers have a product: rules that bring numbers together never end without."""
    numbers = [value for value in bound.values() if isinstance(value, Number)]
    return len(numbers) != 2 or fold_numbers("mul", tuple(numbers)) is not None


def _orders(pattern: Expression) -> list[Expression]:
    """The pattern with the operands of its commutative operators in every order."""
    if not isinstance(pattern, Apply):
        return [pattern]
    name = pattern.operator.name
    choices = itertools.product(*(_orders(argument) for argument in pattern.arguments))
    found: dict[Expression, None] = {}
    for arguments in choices:
        found[Apply(name, *arguments)] = None
        if name in COMMUTATIVE:
            found[Apply(name, *reversed(arguments))] = None
    return list(found)


def _shape(node: Expression) -> object:
    """What a pattern can tell at a glance: an operand's operator, or its kind."""
    return node.operator if isinstance(node, Apply) else type(node)


def _may_match(pattern: Expression, shape: object) -> bool:
    if isinstance(pattern, Parameter):
        return pattern.name not in _NUMBERS or shape is Number
    return _shape(pattern) is shape


def _match(pattern: Expression, node: Expression, bound: dict[str, Expression]) -> bool:
    """Whether `node` has the shape of `pattern`; `bound` receives what its formals stand for."""
    if isinstance(pattern, Parameter):
        name = pattern.name
        if name in bound:
            return bound[name] is node
        if name in _NUMBERS and not (isinstance(node, Number) and _NUMBERS[name](node.value)):
            return False
        if name == _NO_NUMBER and isinstance(node, Number):
            return False
        bound[name] = node
        return True
    if not isinstance(pattern, Apply):
        return pattern is node
    if not isinstance(node, Apply) or node.operator is not pattern.operator:
        return False
    return all(map(_match, pattern.arguments, node.arguments, itertools.repeat(bound)))
