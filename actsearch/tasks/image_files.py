"""Data sets in the user's own files: CIFAR binary, Fashion-MNIST idx, a folder of class folders.

Nothing is downloaded and nothing is unpickled. Images stay uint8 in memory, (N, C, H, W). The
published test set is the test split; the last tenth of the published training set validates.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from actsearch.tasks.base import TaskError
from actsearch.tasks.data import Dataset

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]

CIFAR_PIXELS = 3 * 32 * 32
IMAGE_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"}


@cache
def cifar10(path: str) -> Dataset:
    """CIFAR-10 (Krizhevsky 2009), "binary version": data_batch_1.bin .. _5.bin and test_batch.bin.

    A record is 3,073 bytes: the label, then 3 planes of 32x32.

    Raises:
        TaskError: a file is missing, truncated, or holds a label above 9.
    """
    folder = _folder(path, "cifar-10-batches-bin")
    parts = [_cifar_records(folder / f"data_batch_{i}.bin", 1, 10) for i in range(1, 6)]
    images = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    test = _cifar_records(folder / "test_batch.bin", 1, 10)
    return _published("cifar10", 10, (images, labels), test)


@cache
def cifar100(path: str) -> Dataset:
    """CIFAR-100 (Krizhevsky 2009), "binary version": train.bin and test.bin, the 100 fine labels.

    A record is 3,074 bytes: coarse label, fine label, then 3 planes of 32x32.

    Raises:
        TaskError: a file is missing, truncated, or holds a label above 99.
    """
    folder = _folder(path, "cifar-100-binary")
    train = _cifar_records(folder / "train.bin", 2, 100)
    test = _cifar_records(folder / "test.bin", 2, 100)
    return _published("cifar100", 100, train, test)


@cache
def fashion_mnist(path: str) -> Dataset:
    """Fashion-MNIST (Xiao et al. 2017), or MNIST itself: the four idx files, gzipped or not.

    Raises:
        TaskError: a file is missing, truncated, or not an idx file of bytes.
    """
    folder = _folder(path, "raw")
    sets = []
    for prefix in ("train", "t10k"):
        images = _idx(folder, f"{prefix}-images-idx3-ubyte", dimensions=3)
        labels = _idx(folder, f"{prefix}-labels-idx1-ubyte", dimensions=1)
        if len(images) != len(labels):
            raise TaskError(
                f"{folder}: {len(images)} {prefix} images but {len(labels)} {prefix} labels"
            )
        _check_labels(folder / f"{prefix}-labels-idx1-ubyte", labels, 10)
        sets.append((images[:, None], labels.astype(np.int64)))
    return _published("fashion-mnist", 10, sets[0], sets[1])


@cache
def image_folder(path: str, size: int = 32) -> Dataset:
    """A folder with one folder of images for each class, its name being the class.

    Images are made RGB and `size` x `size` pixels. A fixed permutation of each class's files, in
    the order of their names, gives a tenth (at least one) each to validation and test.

    Raises:
        TaskError: no such folder, fewer than two classes, a class of fewer than three images, or
            an image that cannot be read.
    """
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise TaskError(f"size must be a whole number of pixels of at least 1, not {size!r}")
    root = _folder(path)
    classes = sorted(child for child in root.iterdir() if child.is_dir())
    if len(classes) < 2:
        raise TaskError(f"{root} holds {len(classes)} folders, but wants one for each class")
    images: list[Images] = []
    labels: list[int] = []
    splits: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for label, folder in enumerate(classes):
        files = sorted(f for f in folder.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES)
        if len(files) < 3:
            raise TaskError(f"{folder} holds {len(files)} images; each class needs at least 3")
        order = (len(images) + np.random.default_rng(0).permutation(len(files))).tolist()
        tenth = max(1, len(files) // 10)
        splits["test"] += order[:tenth]
        splits["validation"] += order[tenth : 2 * tenth]
        splits["train"] += order[2 * tenth :]
        images += [_read_image(file, size) for file in files]
        labels += [label] * len(files)
    index = {name: np.array(sorted(rows), dtype=np.int64) for name, rows in splits.items()}
    return _standardised(
        "imagefolder", np.stack(images), np.array(labels, dtype=np.int64), len(classes), index
    )


def _published(
    name: str, classes: int, train: tuple[Images, Labels], test: tuple[Images, Labels]
) -> Dataset:
    """A data set that comes as a training and a test set."""
    images, labels = np.concatenate([train[0], test[0]]), np.concatenate([train[1], test[1]])
    order = np.arange(len(labels))
    first = len(train[1]) - max(1, len(train[1]) // 10)
    splits = {
        "train": order[:first],
        "validation": order[first : len(train[1])],
        "test": order[len(train[1]) :],
    }
    return _standardised(name, images, labels, classes, splits)


def _standardised(
    name: str, images: Images, labels: Labels, classes: int, splits: dict[str, NDArray[np.int64]]
) -> Dataset:
    """With mean and deviation of each channel over the training images.

    Both come exactly from counts of the 256 values, a batch of images at a time: float copies of
    a whole data set would take gigabytes.
    """
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for rows in np.array_split(splits["train"], math.ceil(len(splits["train"]) / 1000)):
        batch = images[rows]
        for channel in range(len(counts)):
            counts[channel] += np.bincount(batch[:, channel].ravel(), minlength=256)
    share = counts / counts.sum(1, keepdims=True)
    mean = share @ np.arange(256.0)
    deviation = np.sqrt(np.maximum(share @ np.arange(256.0) ** 2 - mean**2, 0.0))
    deviation[deviation == 0.0] = 1.0
    return Dataset(
        name,
        images,
        labels,
        classes,
        splits,
        mean=mean.astype(np.float32),
        deviation=deviation.astype(np.float32),
    )


def _folder(path: str, usual: str | None = None) -> Path:
    """The folder of the data, which may lie under its usual name in the folder that was given."""
    folder = Path(path).expanduser()
    if usual is not None and (folder / usual).is_dir():
        folder = folder / usual
    if not folder.is_dir():
        raise TaskError(f"path={path!r} is not a folder")
    return folder


def _cifar_records(file: Path, label_bytes: int, classes: int) -> tuple[Images, Labels]:
    """Images (N, 3, 32, 32) and the last label of each record of a CIFAR binary file."""
    record = label_bytes + CIFAR_PIXELS
    content = np.frombuffer(_read(file, lambda: file.read_bytes()), dtype=np.uint8)
    if len(content) == 0 or len(content) % record:
        raise TaskError(
            f"{file} is truncated or of another format: {len(content)} bytes are no whole number "
            f"of records of {record} bytes"
        )
    records = content.reshape(-1, record)
    labels = records[:, label_bytes - 1].astype(np.int64)
    _check_labels(file, labels, classes)
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), labels


def _idx(folder: Path, name: str, dimensions: int) -> NDArray[np.uint8]:
    """The array in an idx file: two zero bytes, type 8 (bytes), dimensions, sizes, then values."""
    file = folder / name
    opener: Callable[[Path], IO[bytes]] = Path.open  # type: ignore[assignment]
    if not file.exists():
        file = folder / f"{name}.gz"
        opener = cast("Callable[[Path], IO[bytes]]", gzip.open)
        if not file.exists():
            raise TaskError(f"{folder} holds neither {name} nor {name}.gz")

    def content() -> tuple[bytes, tuple[int, ...], bytes]:
        with opener(file, "rb") as stream:  # type: ignore[call-arg]
            magic = stream.read(4)
            sizes = tuple(int.from_bytes(stream.read(4), "big") for _ in range(dimensions))
            # One byte more than the header promises, never all that a damaged file could unpack.
            return magic, sizes, stream.read(min(math.prod(sizes), 2**32) + 1)

    magic, sizes, values = _read(file, content)
    if magic != bytes([0, 0, 8, dimensions]):
        raise TaskError(f"{file} is no idx file of bytes in {dimensions} dimensions: {magic.hex()}")
    if len(values) != math.prod(sizes) or not values:
        shape = "x".join(map(str, sizes))
        few = "ends early" if len(values) < math.prod(sizes) else "is longer than its header says"
        raise TaskError(f"{file} {few}: the header promises {shape} bytes")
    return np.frombuffer(values, dtype=np.uint8).reshape(sizes)


def _read_image(file: Path, size: int) -> Images:
    """(3, size, size) of one image file."""
    try:
        from PIL import Image
    except ImportError:
        raise TaskError("reading images needs Pillow: pip install pillow") from None

    def pixels() -> Images:
        with Image.open(file) as image:
            square = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(square, dtype=np.uint8).transpose(2, 0, 1)

    return cast("Images", _read(file, pixels))


def _read(file: Path, content: Callable[[], Any]) -> Any:
    """`content()`, with every way in which a file can fail to be read told as a TaskError."""
    try:
        return content()
    except FileNotFoundError:
        raise TaskError(f"{file} is missing") from None
    except EOFError:
        raise TaskError(f"{file} is truncated") from None
    except (OSError, ValueError, SyntaxError, zlib.error) as error:  # Pillow raises each of them
        raise TaskError(f"{file} cannot be read: {error}") from None


def _check_labels(file: Path, labels: NDArray[Any], classes: int) -> None:
    if labels.max() >= classes:
        where = int(labels.argmax())
        raise TaskError(
            f"{file}: the label of record {where} is {labels[where]}, "
            f"but there are {classes} classes, counted from 0"
        )
