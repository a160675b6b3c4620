"""Whole numbers on a command line, refused where they are read."""

from __future__ import annotations

from argparse import ArgumentTypeError


def positive(text: str) -> int:
    """A whole number from 1 up, which may be written as `1e6`.

    Raises:
        ArgumentTypeError: it is smaller, or not whole.
        ValueError: it is no number.
    """
    return _whole(text, 1)


def natural(text: str) -> int:
    """The same from 0 up."""
    return _whole(text, 0)


positive.__name__ = natural.__name__ = "whole number"  # in argparse's own messages


def _whole(text: str, least: int) -> int:
    try:
        value: float = int(text)
    except ValueError:
        value = float(text)
    if not (value >= least and float(value).is_integer()):
        raise ArgumentTypeError(f"expected a whole number from {least} up, not {text}")
    return int(value)
