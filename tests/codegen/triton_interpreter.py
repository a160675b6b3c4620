"""A pytest plugin for TRITON_INTERPRET=1: libdevice's functions by numpy and scipy.

Triton's interpreter knows no external functions. With this plugin (`-p`) the generated kernels
run on the CPU as they are, and the contract suite's rows of the target `triton` with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.special
import triton.language as tl
from triton.language.extra import libdevice
from triton.runtime.interpreter import TensorHandle

NUMPY: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in "exp exp2 expm1 log log1p sin cos tan cbrt".split()},
    **{name: getattr(np, name) for name in "sinh cosh tanh hypot".split()},
    **{f"a{name}": getattr(np, f"arc{name}") for name in "sin cos tan sinh cosh tanh".split()},
    **{name: getattr(scipy.special, name) for name in ("erf", "erfc")},
    "pow": np.power,
}


def _replacement(function: Callable[..., Any]) -> Callable[..., Any]:
    def replaced(*tensors: Any, **unused: Any) -> Any:
        like = max(tensors, key=lambda tensor: tensor.handle.data.size)
        with np.errstate(all="ignore"):
            values = function(*(tensor.handle.data for tensor in tensors))
        data = np.asarray(values, like.handle.data.dtype)
        return tl.tensor(TensorHandle(data, like.dtype), like.type)

    return replaced


for _name, _function in NUMPY.items():
    setattr(libdevice, _name, _replacement(_function))
