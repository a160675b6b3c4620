"""Exported activations: one file that runs without ActSearch."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from actsearch.codegen.programs import program
from actsearch.codegen.targets import target as find_target
from actsearch.grammar.errors import UsageError
from actsearch.grammar.expression import Expression
from actsearch.grammar.language import as_expression


def export(
    expression: str | Expression,
    target: str = "torch",
    path: str | os.PathLike[str] = "",
    num_parameters: int = 1,
    rank: int | None = None,
) -> Path:
    """Write an activation as a file that needs PyTorch only.

    Args:
        expression: an expression, or its text.
        target: "torch" (a Python file with a class `Activation`), "torchscript" (a file for
            `torch.jit.load`), or another row of `TARGETS`.
        path: the file to write, or a folder; in a folder, and by default in the current one, it is
            called `activation` with the target's suffix. An existing file is replaced, in one step.
        num_parameters: size of per-channel parameters in files that hold their values.
        rank: number of dimensions that the inputs of an ONNX graph are declared to have; by default
            they may have any.

    Returns:
        The path of the file.

    Raises:
        ExpressionError: the text is no expression.
        UnknownTarget: there is no such target; the message names the nearest.
        UsageError: a rank is given to another target than "onnx", or is not positive.
        OSError: the file cannot be written; the message says which.
    """
    compiled = program(as_expression(expression))
    row = find_target(target)
    if rank is not None and rank < 1:
        raise UsageError(f"rank is at least 1, not {rank}")
    options = {} if rank is None else {"rank": rank}
    destination = Path(path)
    if destination.is_dir():
        destination = destination / f"activation{row.suffix}"
    folder = destination.parent
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder to export into", str(folder))
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{destination.name}.")
    os.close(handle)
    try:
        row.write(compiled, Path(temporary), num_parameters, **options)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, destination)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return destination


def _umask() -> int:
    """The process's mask for new files, which only setting it reveals."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
