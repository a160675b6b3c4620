"""Floor 2: from an expression to code.

Names are imported on first use, so that what needs no torch does not load it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actsearch.codegen.export import export
    from actsearch.codegen.gradient import gradient
    from actsearch.codegen.module import Activation, compile, parameter_groups
    from actsearch.codegen.program import Program, program
    from actsearch.codegen.targets import TARGETS, UnknownTarget

_HOME = {
    "Activation": "module",
    "Program": "program",
    "TARGETS": "targets",
    "UnknownTarget": "targets",
    "compile": "module",
    "export": "export",
    "gradient": "gradient",
    "parameter_groups": "module",
    "program": "program",
}

__all__ = [
    "TARGETS",
    "Activation",
    "Program",
    "UnknownTarget",
    "compile",
    "export",
    "gradient",
    "parameter_groups",
    "program",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
