"""What every generated Triton file holds: elementary functions, and how kernels are laid out.

The text below the line is copied into the file. Tensors are seen as a matrix of rows and columns
in the memory order of the result, because a tile of it belongs to few channels: either a row has
one channel (BY_ROW), or each column has.
"""

import contextlib

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton
from triton.language.extra import libdevice

from actsearch.codegen.targets.rows import rows_of

# ---- elementary functions

_LARGEST = tl.constexpr(3.4028234663852886e38)
_SMALLEST = tl.constexpr(1.1754943508222875e-38)  # libdevice takes what is smaller for 0


@triton.jit
def _div_tile(a, b):
    if a.dtype == tl.float32:
        return tl.div_rn(a, b)
    return a / b


@triton.jit
def _sqrt_tile(a):
    if a.dtype == tl.float32:
        return tl.sqrt_rn(a)
    return tl.sqrt(a)


@triton.jit
def _relu_tile(a):
    return tl.where(a <= 0.0, 0.0, a)


@triton.jit
def _sign_tile(a):
    return tl.where(a > 0.0, 1.0, tl.where(a < 0.0, -1.0, a))


@triton.jit
def _max_tile(a, b):
    return tl.where(a > b, a, tl.where(b > a, b, tl.where(a == b, a, a + b)))


@triton.jit
def _min_tile(a, b):
    return tl.where(a < b, a, tl.where(b < a, b, tl.where(a == b, a, a + b)))


@triton.jit
def _log_tile(a):
    tiny = a < _SMALLEST
    value = libdevice.log(tl.where(tiny, a * 16777216.0, a))
    return tl.where(tiny, value - 16.635532333438686, value)


@triton.jit
def _pow_tile(a, b):
    tiny = tl.abs(a) < _SMALLEST
    value = libdevice.pow(tl.where(tiny, a * 16777216.0, a), b)
    return tl.where(tiny, value * libdevice.exp2(-24.0 * b), value)


@triton.jit
def _cbrt_tile(a):
    tiny = tl.abs(a) < _SMALLEST
    value = libdevice.cbrt(tl.where(tiny, a * 16777216.0, a))
    return tl.where(tiny, value * 0.00390625, value)


@triton.jit
def _sigmoid_tile(a):
    t = libdevice.exp(-tl.abs(a))
    return _div_tile(tl.where(a > 0.0, 1.0, t), 1.0 + t)


@triton.jit
def _softplus_tile(a):
    return _relu_tile(a) + libdevice.log1p(libdevice.exp(-tl.abs(a)))


@triton.jit
def _sinc_tile(a):
    value = _div_tile(libdevice.sin(a), a)
    value = tl.where(a == 0.0, 1.0, value)
    return tl.where(tl.abs(a) > _LARGEST, 0.0, value)


@triton.jit
def _j1_tile(a):
    x = a.to(tl.float64)
    s = x * x
    q = 1.0 - s / 550.0
    q = 1.0 - s / 460.0 * q
    q = 1.0 - s / 378.0 * q
    q = 1.0 - s / 304.0 * q
    q = 1.0 - s / 238.0 * q
    q = 1.0 - s / 180.0 * q
    q = 1.0 - s / 130.0 * q
    q = 1.0 - s / 88.0 * q
    q = 1.0 - s / 54.0 * q
    q = 1.0 - s / 28.0 * q
    near = x / 3.0 * (1.0 - s / 10.0 * q)
    far = (libdevice.sin(x) / x - libdevice.cos(x)) / x
    far = tl.where(tl.abs(x) > 1.7976931348623157e308, 0.0, far)
    return tl.where(tl.abs(x) < 1.5, near, far).to(a.dtype)


_INTERPRETED = not isinstance(_div_tile, triton.JITFunction)


# ---- layout


def _direct(x: Tensor) -> bool:
    """Whether the kernels can take x; what looks into a function gets PyTorch's operators."""
    if not (x.is_cuda or _INTERPRETED) or x.is_meta:
        return False
    if torch.compiler.is_compiling():
        return not torch.compiler.is_exporting()
    return torch._C._functorch.peek_interpreter_stack() is None


def _one_dimension(x: Tensor, parameters: list) -> bool:
    """Whether all per-channel parameters, given with their dimensions, belong to the same one."""
    return len({d % max(x.dim(), 1) for p, d in parameters if p.numel() > 1}) < 2


def _layout(y: Tensor, tensors: list, parameters: list) -> tuple:
    """The matrix: tensors in its order, the distance of their rows, its sizes, and its tiles.

    Returns:
        tensors, pitches, rows, columns, channels, columns for one channel (0 where a row has one),
        rows and columns of a tile.
    """
    channels, rows, columns, inner = 1, 1, y.numel(), 0
    for parameter, dimension in parameters:
        if parameter.numel() > 1:
            channels = parameter.numel()
            inside = y.stride(dimension)
            if inside >= 32:
                rows, columns, inner = y.numel() // inside, inside, 0
            else:
                rows, columns, inner = y.numel() // (channels * inside), channels * inside, inside
    if channels == 1:
        for t in tensors:
            found = rows_of(t, y)[0]
            if 0 < found < columns:
                rows, columns = y.numel() // found, found
    laid, pitches = [], []
    for t in tensors:
        found, pitch = rows_of(t, y)
        if found == 0 or (found < y.numel() and (channels > 1 or found != columns)):
            t, found = torch.empty_like(y, dtype=t.dtype).copy_(t), y.numel()
        laid.append(t)
        pitches.append(columns if found == y.numel() else pitch)
    wide = 1024 if columns > 512 else 256 if columns > 128 else 64 if columns > 32 else 32
    if inner:
        wide = min(wide, 64)
    return laid, pitches, rows, columns, channels, inner, 1024 // wide, wide


def _blocks(whole: int, part: int) -> int:
    return (whole + part - 1) // part


def _steps(rows: int, tile: int, column_blocks: int) -> int:
    """Tiles, one below the other, that a program adds up: many programs, few partial sums."""
    most = max(1, 2048 // column_blocks)
    return max(1, _blocks(_blocks(rows, tile), most))


def _total(partial: Tensor, parameter: Tensor, shape: list) -> Tensor:
    """The second stage of a parameter's gradient: partial sums [..., channels, ...] added up."""
    if parameter.numel() > 1:
        total = partial.view(shape).sum((0, 2), dtype=torch.float64)
    else:
        total = partial.sum(dtype=torch.float64)
    return total.to(parameter.dtype).reshape(parameter.shape)


def _partials(x: Tensor, count: int) -> Tensor:
    """Room for partial sums, in the type that is computed with."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return torch.empty(count, device=x.device, dtype=wide)


def _launched(kernel):
    """A kernel as Inductor can trace it; Triton's interpreter has its own."""
    return kernel if _INTERPRETED else wrap_triton(kernel)


def _device(x: Tensor):
    """Kernels are launched on the current device."""
    real = x.is_cuda and torch.cuda.is_available()
    return torch.cuda.device(x.device) if real else contextlib.nullcontext()
