"""The functions of elementary.c and bessel.c: their text, what code needs of it, what they cost."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources

ELEMENTARY = "\n".join(
    resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
    for name in ("elementary.c", "bessel.c")
)
_DECLARED = re.compile(r"^(?:INLINE|LIBRARY) (?:float|double|int) (\w+)\((.*?)\)", re.MULTILINE)
_DEFINED = re.compile(r"^#define (\w+)", re.MULTILINE)
SIGNATURES: Mapping[str, str] = dict(_DECLARED.findall(ELEMENTARY))
"""Functions' formal arguments."""

_NUMBER = re.compile(r"\b\d[\w.]*(?:(?<=e)[-+]\d+f?)?")
_OPERATION = re.compile(r"fma32|__builtin_sqrt|[-+*/?&|<>]")
_SLOW = frozenset({"/", "__builtin_sqrt"})
_DIVISION = 8  # operations that one of these takes as long as


def may_lose(function: str) -> bool:
    """Whether a function asks for more digits for some arguments, as for NaN."""
    return "int *lost" in SIGNATURES[function]


def words(text: str) -> frozenset[str]:
    """The names in some C, and its numbers."""
    return frozenset(re.findall(r"\w+", text))


def needed_by(text: str) -> str:
    """What functions in C use of `ELEMENTARY`, so that a compiler need not read the rest."""
    needed = set(words(text))
    kept: list[str] = []
    for piece, defined, inside in reversed(_pieces()):  # a function calls those before it
        is_comment = piece.startswith("/*") and piece.endswith("*/")
        if is_comment and kept and not kept[-1].startswith("/*"):
            kept.append(piece)
        elif not is_comment and defined & needed:
            kept.append(piece)
            needed |= inside
    return "\n\n".join(reversed(kept))


@cache
def _pieces() -> list[tuple[str, frozenset[str], frozenset[str]]]:
    """The paragraphs of `ELEMENTARY`, what each defines, and the words in it."""
    return [
        (piece, frozenset(_DEFINED.findall(piece)).union(_names(piece)), words(piece))
        for piece in ELEMENTARY.rstrip().split("\n\n")[1:]
    ]


def _names(text: str) -> list[str]:
    return [name for name, _ in _DECLARED.findall(text)]


def instructions(text: str) -> int:
    """About how many instructions float32 code takes for an element, with those of its calls."""
    text = _NUMBER.sub("", text)
    inside = sum(_instructions_of(name) for name in re.findall(r"\w+", text) if name in _bodies())
    return inside + sum(_DIVISION if op in _SLOW else 1 for op in _OPERATION.findall(text))


@cache
def _instructions_of(name: str) -> int:
    return instructions(_bodies()[name])


@cache
def _bodies() -> Mapping[str, str]:
    """The functions of `ELEMENTARY` that are ours, by name, as they are without `FAST`."""
    text = re.sub(r"/\*.*?\*/", "", ELEMENTARY, flags=re.DOTALL)
    text = re.sub(r"#ifdef FAST.*?#else\n(.*?)#endif", r"\1", text, flags=re.DOTALL)
    functions = r"^INLINE \w+ (\w+)\([^{]*\) \{(.*?)(?:\n\}| \}$)"
    return dict(re.findall(functions, text, flags=re.DOTALL | re.MULTILINE))
