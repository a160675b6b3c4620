"""How tensors lie in memory, as the kernels of GPUs see them; generated Triton files copy this."""

from __future__ import annotations

from torch import Tensor

# ---- rows


def check_dimension(parameter: Tensor, x: Tensor, dimension: int) -> None:
    """Raise a ValueError where a parameter of shape (1,) or (C,) does not belong to a dimension."""
    inside = -x.dim() <= dimension < x.dim()
    if parameter.numel() != 1 and (
        parameter.dim() != 1 or (x.shape[dimension] if inside else 1) != parameter.numel()
    ):
        raise ValueError(
            f"a parameter of shape {list(parameter.shape)} does not fit dimension {dimension} "
            f"of an input of shape {list(x.shape)}"
        )


def rows_of(tensor: Tensor, y: Tensor) -> tuple[int, int]:
    """Length and distance of rows of contiguous elements in the order of y; (0, 0) if not so."""
    if tensor.stride() == y.stride():
        return y.numel(), y.numel()
    if not y.is_contiguous():
        return 0, 0
    columns, k = 1, tensor.dim()
    while k and (tensor.shape[k - 1] == 1 or tensor.stride(k - 1) == columns):
        k -= 1
        columns *= tensor.shape[k]
    if not k:
        return columns, columns
    pitch = distance = tensor.stride(k - 1)
    for d in range(k - 1, -1, -1):
        if tensor.shape[d] != 1 and tensor.stride(d) != distance:
            return 0, 0
        distance *= tensor.shape[d]
    return columns, pitch
