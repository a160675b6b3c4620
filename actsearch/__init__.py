"""ActSearch: a symbolic search engine for neural-network activation functions.

    import actsearch as acts

    acts.parse("x*sigmoid(beta*x)")          the expression, interned
    acts.gradient("x*sigmoid(beta*x)")       {"x": …, "beta": …}
    acts.compile("x*sigmoid(beta*x)")        a torch.nn.Module
    acts.compile_population([…])             one module that applies K of them to K slices
    acts.search("swish", trials=200)         a finished Study

Names are imported when they are first used: `import actsearch` loads neither torch nor sympy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "Expression": "actsearch.grammar",
    "ExpressionError": "actsearch.grammar",
    "SearchSpace": "actsearch.grammar",
    "SpaceError": "actsearch.grammar",
    "Study": "actsearch.studies.study",
    "certificate": "actsearch.codegen",
    "compile": "actsearch.codegen",
    "compile_all": "actsearch.codegen",
    "compile_population": "actsearch.codegen",
    "deduplicate": "actsearch.equivalence",
    "equivalent": "actsearch.equivalence",
    "export": "actsearch.codegen",
    "gain": "actsearch.moments",
    "gradient": "actsearch.codegen",
    "parameter_groups": "actsearch.codegen",
    "parse": "actsearch.grammar",
    "properties": "actsearch.analysis",
    "search": "actsearch.studies.study",
    "simplify": "actsearch.simplification",
    "space": "actsearch.grammar",
    "table": "actsearch.tasks.tables",
    "task": "actsearch.tasks",
}
"""Where each public name lives; `__all__` says the same for tools that only read."""

__all__ = [
    "Expression",
    "ExpressionError",
    "SearchSpace",
    "SpaceError",
    "Study",
    "__version__",
    "certificate",
    "compile",
    "compile_all",
    "compile_population",
    "deduplicate",
    "equivalent",
    "export",
    "gain",
    "gradient",
    "parameter_groups",
    "parse",
    "properties",
    "search",
    "simplify",
    "space",
    "table",
    "task",
]

if TYPE_CHECKING:
    from actsearch.analysis import properties
    from actsearch.codegen import (
        certificate,
        compile,
        compile_all,
        compile_population,
        export,
        gradient,
        parameter_groups,
    )
    from actsearch.equivalence import deduplicate, equivalent
    from actsearch.grammar import (
        Expression,
        ExpressionError,
        SearchSpace,
        SpaceError,
        parse,
        space,
    )
    from actsearch.moments import gain
    from actsearch.simplification import simplify
    from actsearch.studies.study import Study, search
    from actsearch.tasks import task
    from actsearch.tasks.tables import table


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'actsearch' has no attribute {name!r}")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})
