"""Parsing: from a text to an interned expression, or to an error that points at the mistake.

The text is data. Nothing of it is evaluated; names mean what the operator table, the named
activations and the declarations say.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from actsearch.grammar import errors
from actsearch.grammar.expression import (
    INPUTS,
    Apply,
    Constant,
    Expression,
    Input,
    Number,
    Parameter,
    call,
    plural,
)
from actsearch.grammar.operators import (
    ALIASES,
    COMPARISONS,
    CONSTANTS,
    DEFINED_FUNCTIONS,
    EPSILON,
    FORMALS,
    OPERATORS,
)
from actsearch.grammar.parsing import END, BadCharacter, BadToken, LalrParser

MAX_LENGTH = 1_000_000
"""The longest text that is parsed, in characters."""
_MAX_NUMBER_LENGTH = 1_200

_COMPARISON_NAMES = {OPERATORS[name].infix: name for name in COMPARISONS}
_PARENTHESIS = re.compile(r"[()]")
_EXPLICIT_HOLE = re.compile(r"_[0-9]+")
_EXPECTATIONS = {
    "NUMBER": "a number",
    "NAME": "a name",
    "LPAR": "'('",
    "RPAR": "')'",
    "COMMA": "','",
    "SEMICOLON": "';'",
    "EQUAL": "'='",
    "COMPARISON": "a comparison",
    "PER": "'per channel'",
    "CHANNEL": "'channel'",
    "SHARED": "'shared'",
    "LR": "'lr'",
    "DIM": "'dim'",
    "$END": "the end",
}
_OPERATOR_TOKENS = frozenset({"PLUS", "MINUS", "STAR", "SLASH", "__ANON_0"})


def parse(text: str) -> Expression:
    """The expression that `text` denotes.

    Args:
        text: an expression of the language, with declarations of its parameters after `;`.

    Returns:
        The interned expression: equal structure is the same object.

    Raises:
        ExpressionError: one of the classes of `actsearch.grammar.errors`, each with the position of
            the mistake, what was expected and the nearest known name.
        TypeError: `text` is no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"an expression is written as a string, not {type(text).__name__}")
    return _Parser.shared().parse(text, _Meaning(text))


def as_expression(expression: str | Expression) -> Expression:
    """An expression as it is, a string parsed."""
    return expression if isinstance(expression, Expression) else parse(expression)


@cache
def parse_template(text: str, formals: tuple[str, ...] = FORMALS) -> Expression:
    """Parse a formula of the operator table, in which `formals` stand for arguments.

    They become parameters of those names; `instantiate` puts the arguments in their places.
    """
    return _Parser.shared().parse(text, _TemplateMeaning(text, formals))


def instantiate(
    template: Expression,
    arguments: Sequence[Expression],
    formals: tuple[str, ...] = FORMALS,
) -> Expression:
    """A template with its formal arguments replaced."""
    places = zip(formals, arguments, strict=False)
    return template.substitute({Parameter(name): argument for name, argument in places})


@cache
def function_names() -> frozenset[str]:
    """Every name that can be called: operators, aliases, defined functions, named activations."""
    from actsearch.grammar.named import named_activations

    return (
        frozenset(OPERATORS) - COMPARISONS
        | set(ALIASES)
        | set(DEFINED_FUNCTIONS)
        | set(named_activations())
    )


def check_parentheses(text: str) -> None:
    """Raise for the first `)` without a partner or, failing that, the last `(` without one."""
    open_positions: list[int] = []
    for match in _PARENTHESIS.finditer(text):
        if match.group() == "(":
            open_positions.append(match.start())
        elif not open_positions:
            raise errors.UnbalancedParentheses("this ')' closes nothing", text, match.start())
        else:
            open_positions.pop()
    if open_positions:
        others = len(open_positions) - 1
        rest = f", nor are {others} others" if others else ""
        raise errors.UnbalancedParentheses(
            f"this '(' is never closed{rest}", text, open_positions[-1]
        )


class _Parser:
    """Lark's LALR tables, built once; each parse gets its own meaning of names."""

    _instance: _Parser | None = None
    _lock = threading.RLock()

    @classmethod
    def shared(cls) -> _Parser:
        with cls._lock:
            if cls._instance is None:
                cls._instance = cls()
            return cls._instance

    def __init__(self) -> None:
        grammar = resources.files("actsearch.grammar").joinpath("activation.lark").read_text("utf8")
        self._builder = _Builder()
        self._tables = LalrParser(grammar, self._builder.as_transformer())

    def parse(self, text: str, meaning: _Meaning) -> Expression:
        if len(text) > MAX_LENGTH:
            raise errors.TextTooLong(
                f"an expression has at most {MAX_LENGTH:,} characters, not {len(text):,}"
            )
        if not text.strip():
            raise errors.EmptyExpression("expected an expression such as x*sigmoid(x), got nothing")
        if text.count("(") != text.count(")"):
            check_parentheses(text)
        with self._lock:
            outer, self._builder.meaning = self._builder.meaning, meaning
            try:
                return self._tables.parse(text)  # type: ignore[no-any-return]
            except BadCharacter as error:
                raise _unexpected_character(text, error.position) from None
            except BadToken as error:
                check_parentheses(text)
                raise _unexpected_token(text, error) from None
            finally:
                self._builder.meaning = outer


def _unexpected_character(text: str, position: int) -> errors.ExpressionError:
    character = text[position]
    shown = repr(character) if character.isprintable() else f"U+{ord(character):04X}"
    hint = "; write ** for a power" if character == "^" else ""
    return errors.UnexpectedCharacter(
        f"the character {shown} is not part of the language{hint}", text, position
    )


def _unexpected_token(text: str, error: BadToken) -> errors.ExpressionError:
    at_end = error.kind == END
    position = len(text.rstrip()) if at_end else error.position
    if error.kind == "COMPARISON":
        return errors.MisplacedComparison(
            "a comparison stands only as the first argument of where(comparison, a, b)",
            text,
            position,
        )
    found = "the text ends here" if at_end else f"unexpected {error.text[:40]!r}"
    expected = sorted({_EXPECTATIONS[t] for t in error.expected if t in _EXPECTATIONS})
    if error.expected & _OPERATOR_TOKENS and "'('" not in expected:
        expected.insert(0, "an operator")
    listed = " or ".join(filter(None, [", ".join(expected[:-1]), *expected[-1:]]))
    return errors.UnexpectedToken(f"{found}; expected {listed}", text, position)


class _Meaning:
    """What the names in one text stand for."""

    checks_comparisons = True

    def __init__(self, text: str) -> None:
        self.text = text
        self._taken = set(_EXPLICIT_HOLE.findall(text))
        self._holes = 0
        self.holes: list[Parameter] = []

    def name(self, name: str, position: int) -> Expression:
        if name in INPUTS:
            return Input(name)
        if name in CONSTANTS:
            return Constant(name)
        if name == "eps":
            return Number(EPSILON)
        if name == "_":
            self._holes += 1
            while f"_{self._holes}" in self._taken:
                self._holes += 1
            hole = Parameter(f"_{self._holes}")
            self.holes.append(hole)
            return hole
        if name in function_names():
            raise errors.UnexpectedToken(
                f"{name!r} is a function; write {name}(…), or give the parameter another name",
                self.text,
                position,
            )
        return Parameter(name)


class _TemplateMeaning(_Meaning):
    """Formulas of the table: formal names stand for arguments, comparisons among them."""

    checks_comparisons = False

    def __init__(self, text: str, formals: tuple[str, ...]) -> None:
        super().__init__(text)
        self._formals = formals

    def name(self, name: str, position: int) -> Expression:
        if name in self._formals:
            return Parameter(name)
        return super().name(name, position)


class _Builder:
    """Builds interned nodes as the parser reduces: no parse tree is ever made."""

    meaning: _Meaning

    def __init__(self) -> None:
        self.meaning = _Meaning("")

    def as_transformer(self) -> Any:
        from lark import Transformer

        rules = {name: staticmethod(rule) for name, rule in self._rules().items()}
        return type("ExpressionBuilder", (Transformer,), rules)()

    def _rules(self) -> dict[str, Any]:
        """What each grammar rule builds from the list of its children."""
        infix = {
            name: (lambda operands, name=name: call(name, *operands))
            for name in ("add", "sub", "mul", "div", "neg", "pow")
        }
        return infix | {
            "plus": lambda children: children[0],
            "number": lambda children: self._number(children[0]),
            "name": lambda children: self.meaning.name(str(children[0]), children[0].start_pos),
            "function": lambda children: self._function(*children),
            "comparison": lambda c: Apply(_COMPARISON_NAMES[str(c[1])], c[0], c[2]),
            "value": lambda children: self._value(*children),
            "shared": lambda children: {"scope": "shared"},
            "per_channel": lambda children: self._per_channel(children[0]),
            "rate": lambda children: self._rate(children[0]),
            "declaration": lambda c: (c[0], {"initial": c[1][0]} | (c[2] or {}) | (c[3] or {})),
            "start": lambda children: self._start(*children),
        }

    def _number(self, token: Any) -> Expression:
        position, text = token.start_pos, self.meaning.text
        if len(token) > _MAX_NUMBER_LENGTH or len(token.lower().partition("e")[2]) > 5:
            raise errors.BadNumber("this number has more digits than any float64", text, position)
        try:
            return Number(str(token))
        except errors.BadNumber as error:
            raise errors.BadNumber(error.message, text, position) from None

    def _value(self, sign: Any, token: Any) -> tuple[float, int]:
        """A signed float of a declaration, and where it stands."""
        self._number(token)  # refuses what float64 cannot hold
        return float(token) * (-1 if sign else 1), token.start_pos

    def _per_channel(self, value: tuple[float, int] | None) -> dict[str, Any]:
        dimension, position = value or (1.0, 0)
        if dimension != int(dimension):
            raise errors.BadDeclaration(
                f"a dimension is a whole number, not {dimension}", self.meaning.text, position
            )
        return {"scope": "per channel", "dimension": int(dimension)}

    def _rate(self, token: Any) -> dict[str, Any]:
        rate, position = self._value(None, token)
        if rate == 0:
            raise errors.BadDeclaration(
                "a learning-rate multiplier is positive", self.meaning.text, position
            )
        return {"learning_rate": rate}

    def _function(self, token: Any, *arguments: Expression | None) -> Expression:
        given = tuple(argument for argument in arguments if argument is not None)
        name = ALIASES.get(str(token), str(token))
        try:
            if name in OPERATORS and name not in COMPARISONS:
                self._check_comparisons(token, given, OPERATORS[name].arity)
                return call(name, *given)
            return self._expand(token, given)
        except errors.WrongArity as error:
            raise errors.WrongArity(error.message, self.meaning.text, token.start_pos) from None

    def _expand(self, token: Any, arguments: tuple[Expression, ...]) -> Expression:
        """A defined function or a named activation, with its arguments put in."""
        from actsearch.grammar.named import named_activations

        name = str(token)
        formals: tuple[str, ...]
        if name in DEFINED_FUNCTIONS:
            formals, formula = DEFINED_FUNCTIONS[name]
            template = parse_template(formula, formals)
            replaced: list[Expression] = [Parameter(formal) for formal in formals]
        elif name in named_activations():
            template = named_activations()[name].expression
            formals = tuple(INPUTS[: len(template.inputs)]) or ("x",)
            replaced = [Input(formal) for formal in formals]
        else:
            hint = errors.did_you_mean(name, function_names())
            raise errors.UnknownFunction(
                f"there is no function {name!r}{hint}", self.meaning.text, token.start_pos
            )
        self._check_comparisons(token, arguments, len(formals))
        if len(arguments) != len(formals):
            expected = f"{plural(len(formals))} ({', '.join(formals)})"
            raise errors.WrongArity(f"{name} takes {expected}, not {len(arguments)}")
        return template.substitute(dict(zip(replaced, arguments, strict=True)))

    def _check_comparisons(self, token: Any, arguments: tuple[Expression, ...], arity: int) -> None:
        """Comparisons stand first in `where`, and nowhere else."""
        if not self.meaning.checks_comparisons or len(arguments) != arity:
            return
        for place, argument in enumerate(arguments):
            wanted = str(token) == "where" and place == 0
            if is_comparison(argument) != wanted:
                raise errors.MisplacedComparison(
                    "where wants a comparison such as x > 0 as its first argument"
                    if wanted
                    else "a comparison stands only as the first argument of where(…)",
                    self.meaning.text,
                    token.start_pos,
                )

    def _start(self, body: Expression, *declarations: Any) -> Expression:
        declared: dict[str, dict[str, Any]] = {}
        tokens: dict[str, Any] = {}
        for item in declarations:
            if item is None:
                continue
            token, fields = item
            if str(token) in declared:
                raise errors.BadDeclaration(
                    f"the parameter {str(token)!r} is declared twice",
                    self.meaning.text,
                    token.start_pos,
                )
            declared[str(token)] = fields
            tokens[str(token)] = token
        if not declared:
            return body
        replacements: dict[Expression, Expression] = {}
        for parameter in (node for node in body.postorder() if isinstance(node, Parameter)):
            source = parameter.name
            if source not in declared and parameter in self.meaning.holes:
                source = "_"
            if source in declared:
                replacements[parameter] = Parameter(parameter.name, **declared[source])
                tokens.pop(source, None)
        for name, token in tokens.items():
            known = {node.name for node in body.postorder() if isinstance(node, Parameter)}
            raise errors.BadDeclaration(
                f"{name!r} is declared, but the expression does not use it"
                + errors.did_you_mean(name, known),
                self.meaning.text,
                token.start_pos,
            )
        return body.substitute(replacements)


def is_comparison(node: Expression) -> bool:
    """Whether the node is a truth value rather than a number."""
    return isinstance(node, Apply) and node.operator.name in COMPARISONS
