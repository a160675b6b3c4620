"""The activations that people call by a name: the lines of `spaces/named.lark`.

Each line of that file is `| "expression" -> name // title`; the file is a search space like any
other, and this module reads the names and titles from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

from actsearch.grammar.expression import Expression

_LINE = re.compile(
    r'^\s*(start:|\|)\s*"(?P<text>[^"]+)"\s*->\s*(?P<name>\w+)\s*//\s*(?P<title>.+?)\s*$'
)


@dataclass(frozen=True)
class NamedActivation:
    """An activation with a name.

    Attributes:
        name: what it is called in the language, `silu`.
        text: its formula in the language.
        title: its name as people write it, with the source of the formula.
    """

    name: str
    text: str
    title: str

    @cached_property
    def expression(self) -> Expression:
        """The formula, parsed."""
        from actsearch.grammar.language import parse

        return parse(self.text)


@cache
def named_activations() -> Mapping[str, NamedActivation]:
    """Every named activation by its name, in the order of the file."""
    text = resources.files("actsearch.grammar").joinpath("spaces/named.lark").read_text("utf8")
    found = (_LINE.match(line) for line in text.splitlines())
    return {m["name"]: NamedActivation(m["name"], m["text"], m["title"]) for m in found if m}
