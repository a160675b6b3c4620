"""Floor 2: from an expression to code.

What needs torch is imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from actsearch.codegen.exporting import export
from actsearch.codegen.gradients import gradient
from actsearch.codegen.programs import Program, program
from actsearch.codegen.targets import TARGETS, UnknownTarget

if TYPE_CHECKING:
    from actsearch.codegen.certificates import certificate
    from actsearch.codegen.module import Activation, compile, compile_all, parameter_groups, prepare
    from actsearch.codegen.population import Population, compile_population

_NEEDS_TORCH = {
    "Activation": "module",
    "Population": "population",
    "certificate": "certificates",
    "compile": "module",
    "compile_all": "module",
    "compile_population": "population",
    "parameter_groups": "module",
    "prepare": "module",
}

__all__ = [
    "TARGETS",
    "Activation",
    "Population",
    "Program",
    "UnknownTarget",
    "certificate",
    "compile",
    "compile_all",
    "compile_population",
    "export",
    "gradient",
    "parameter_groups",
    "prepare",
    "program",
]


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"actsearch.codegen.{_NEEDS_TORCH[name]}"), name)


def __dir__() -> list[str]:
    return __all__
