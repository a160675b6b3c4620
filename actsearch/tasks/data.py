"""Data sets held in memory with fixed splits, and the two that need no download.

A split is fixed once for all: a search must never see the examples that its final re-test uses.
"""

from __future__ import annotations

import hashlib
import os
import random
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from actsearch.cache import cache_folder
from actsearch.tasks.base import TaskError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Arrays = tuple[NDArray[np.float32], NDArray[np.int64]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples in memory, and which of them train, validate and test.

    Attributes:
        name: distinguishes data sets within a process.
        inputs: (N, ...) float32, ready to use, or uint8 images (N, C, H, W) that are standardised
            batch by batch with `mean` and `deviation`.
        labels: (N,) int64 in [0, classes).
        classes: number of classes.
        splits: "train", "validation" and "test" -> indices into `inputs`, disjoint.
        mean, deviation: (C,) of the training images on the scale 0..255, for uint8 inputs.
    """

    name: str
    inputs: NDArray[Any]
    labels: NDArray[np.int64]
    classes: int
    splits: Mapping[str, NDArray[np.int64]]
    mean: NDArray[np.float32] | None = None
    deviation: NDArray[np.float32] | None = None


@cache
def mnist1d() -> Dataset:
    """MNIST-1D of Greydanus (2020, arXiv 2011.14439): 5,000 signals of 40 samples, 10 classes.

    Generated with the package's default arguments and seed, then kept as plain arrays in the
    user's cache folder. The package's own test set (the last 1,000) is the test split, the 1,000
    before it validate, 3,000 train.
    """
    try:
        version = metadata.version("mnist1d")
    except ImportError:
        raise TaskError("MNIST-1D needs a package of that name: pip install mnist1d") from None
    inputs, labels = _cached_arrays(f"mnist1d-{version}", _generate_mnist1d)
    order = np.arange(len(labels))
    splits = {"train": order[:3000], "validation": order[3000:4000], "test": order[4000:]}
    return Dataset("mnist1d", inputs, labels, 10, splits)


@cache
def digits() -> Dataset:
    """The 1,797 handwritten digits of 8x8 pixels that come with scikit-learn, 10 classes.

    Neighbours in the file are by the same hand, so a fixed permutation precedes the split into
    797 for training and 500 each for validation and test: so few that activations differ.
    Inputs are (N, 1, 8, 8), standardised by the training split.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise TaskError("digits come with scikit-learn: pip install scikit-learn") from None

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(1797).permutation(len(labels))
    splits = {"train": order[:797], "validation": order[797:1297], "test": order[1297:]}
    train = images[splits["train"]]
    inputs = ((images - train.mean()) / train.std()).astype(np.float32).reshape(-1, 1, 8, 8)
    return Dataset("digits", inputs, labels.astype(np.int64), 10, splits)


def _generate_mnist1d() -> Arrays:
    from mnist1d.data import (
        get_dataset_args,
        make_dataset,
    )

    with _global_random_state():  # the package seeds and draws from the global generators
        made = make_dataset(get_dataset_args())
    inputs = np.concatenate([made["x"], made["x_test"]]).astype(np.float32)
    labels = np.concatenate([made["y"], made["y_test"]]).astype(np.int64)
    return inputs, labels


@contextmanager
def _global_random_state() -> Iterator[None]:
    """Give the caller's global random generators back as they were."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)


def _cached_arrays(name: str, generate: Callable[[], Arrays]) -> Arrays:
    """`generate()`, or what an earlier process kept of it; a damaged file is written anew."""
    path = cache_folder() / f"{name}.npz"
    unreadable = suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)
    with unreadable, path.open("rb") as file, np.load(file, allow_pickle=False) as kept:
        inputs, labels = kept["inputs"], kept["labels"]
        if str(kept["digest"]) == _digest(inputs, labels):
            return inputs, labels
    inputs, labels = generate()
    with suppress(OSError):  # a read-only home costs a few seconds a process, nothing more
        _write_atomically(path, inputs, labels)
    return inputs, labels


def _write_atomically(path: Path, inputs: NDArray[Any], labels: NDArray[Any]) -> None:
    """Workers may do this at the same time: each writes its own file, the last rename stands."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            np.savez(file, inputs=inputs, labels=labels, digest=np.array(_digest(inputs, labels)))
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _digest(inputs: NDArray[Any], labels: NDArray[Any]) -> str:
    return hashlib.sha256(inputs.tobytes() + labels.tobytes()).hexdigest()
