"""How a kernel sees tensors: a matrix in the memory order of the result.

Contiguous and channels-last tensors are such a matrix as they lie; so are the two halves of a gated
input, whose rows lie apart. Anything else is copied into the result's order first.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from actsearch.codegen.targets.rows import rows_of

_FEW_COLUMNS = 32  # channels nearer than this are columns, others are rows
_BLOCKS = 2048  # enough to fill a GPU; more partial sums than these are not needed
_MOST_STEPS = 16
_ALIGNED = 16  # bytes that are read and written at once


class Sizes(ctypes.Structure):
    """`Sizes` of kernels.cuh."""

    _fields_ = [
        *((name, ctypes.c_longlong) for name in ("rows", "columns", "column_blocks")),
        *((name, ctypes.c_longlong) for name in ("channels", "inner")),
        *((name, ctypes.c_int) for name in ("row_steps", "column_steps", "shift")),
    ]


@dataclass(frozen=True)
class Matrix:
    """Tensors as rows and columns.

    Attributes:
        tensors: in the order of the result.
        pitches: for each of them how far apart its rows are, in elements.
        rows, columns: of all.
        channels: how many channels the parameters have; 1 where none is per channel.
        inner: neighbouring columns of one channel; 0 where each row has one channel.
    """

    tensors: list[Tensor]
    pitches: list[int]
    rows: int
    columns: int
    channels: int
    inner: int


def matrix(y: Tensor, tensors: Sequence[Tensor], channels: int, dimension: int) -> Matrix:
    """The matrix of a result and of what it is computed from.

    Args:
        y: the result, whose elements are dense.
        tensors: of y's shape.
        channels, dimension: how many channels the parameters have, and where; 1 if none is
            per channel.
    """
    rows, columns, inner = 1, y.numel(), 0
    if channels > 1:
        apart = y.stride(dimension)
        rows, columns = y.numel() // apart, apart
        if apart < _FEW_COLUMNS:
            rows, columns, inner = y.numel() // (channels * apart), channels * apart, apart
    found = [rows_of(tensor, y) for tensor in tensors]
    if channels == 1:
        columns = min([columns, *(width for width, _ in found if width)])
        rows = y.numel() // columns
    laid, pitches = [], []
    for tensor, (width, pitch) in zip(tensors, found, strict=True):
        if width == y.numel():
            pitch = columns
        elif width != columns:
            tensor, pitch = torch.empty_like(y, dtype=tensor.dtype).copy_(tensor), columns
        laid.append(tensor)
        pitches.append(pitch)
    return Matrix(laid, pitches, rows, columns, channels, inner)


def width_of(matrix: Matrix, results: Sequence[Tensor]) -> int:
    """Elements that a thread takes at once: 128 bits where all tensors are aligned, else one."""
    wide = _ALIGNED // results[0].element_size()
    aligned = all(t.data_ptr() % _ALIGNED == 0 for t in (*matrix.tensors, *results))
    fits = matrix.columns % wide == 0 and all(pitch % wide == 0 for pitch in matrix.pitches)
    return wide if aligned and fits else 1


def sizes_of(matrix: Matrix, width: int, threads: int) -> tuple[Sizes, int]:
    """How blocks of threads go over a matrix, and how many there are."""
    wanted = -(-matrix.columns // width)
    shift = min(threads.bit_length() - 1, max(0, (wanted - 1).bit_length()))
    if matrix.inner:
        shift = min(shift, 5)
    lanes = 1 << shift
    row_blocks = -(-matrix.rows // (threads // lanes))
    column_blocks = -(-wanted // lanes)
    row_steps = column_steps = 1
    steps = max(1, row_blocks * column_blocks // _BLOCKS)
    if matrix.inner:
        row_steps = min(steps, row_blocks)
    else:
        column_steps = min(steps, _MOST_STEPS, column_blocks)
    row_blocks = -(-row_blocks // row_steps)
    column_blocks = -(-column_blocks // column_steps)
    sizes = Sizes(
        matrix.rows, matrix.columns, column_blocks, matrix.channels, matrix.inner,
        row_steps, column_steps, shift,
    )  # fmt: skip
    return sizes, row_blocks * column_blocks


def partial_shape(matrix: Matrix, sizes: Sizes, blocks: int, is_channels: bool) -> tuple[int, ...]:
    """The shape of a parameter's partial sums; channels are in the middle."""
    if not is_channels:
        return (blocks,)
    if matrix.inner:
        return blocks // sizes.column_blocks, matrix.channels, matrix.inner
    return matrix.rows // matrix.channels, matrix.channels, sizes.column_blocks
