"""Loaders of the user's files, on small files of the published formats, whole and damaged."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from actsearch.tasks import TaskError, task
from actsearch.tasks.data import Dataset

RANDOM = np.random.default_rng(0)


def write_cifar10(folder: Path) -> Path:
    for name in [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]:
        records = RANDOM.integers(0, 256, (20, 3073), dtype=np.uint8)
        records[:, 0] = np.arange(20) % 10
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def write_cifar100(folder: Path) -> Path:
    for name, count in (("train", 200), ("test", 100)):
        records = RANDOM.integers(0, 256, (count, 3074), dtype=np.uint8)
        records[:, 0] = np.arange(count) % 20
        records[:, 1] = np.arange(count) % 100
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + struct.pack(f">{array.ndim}I", *array.shape)
        + (array.tobytes())
    )


def write_fashion_mnist(folder: Path) -> Path:
    for prefix, count, zipped in (("train", 100, True), ("t10k", 30, False)):
        images = RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = (np.arange(count) % 10).astype(np.uint8)
        for name, array in (
            (f"{prefix}-images-idx3-ubyte", images),
            (f"{prefix}-labels-idx1-ubyte", labels),
        ):
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))
    return folder


def write_images(folder: Path) -> Path:
    for label, name in enumerate(("ants", "bees", "wasps")):
        (folder / name).mkdir()
        for i in range(20):
            pixels = np.full((11 + i, 17, 3), 40 + 60 * label, dtype=np.uint8)
            pixels[i % 11, :, label] = 255
            suffix = ("png", "jpg", "JPEG", "bmp")[i % 4]
            Image.fromarray(pixels).save(folder / name / f"{i:02}.{suffix}")
        (folder / name / "notes.txt").write_text("not an image")
    (folder / "README").write_text("not a class")
    return folder


WRITERS: dict[str, Callable[[Path], Path]] = {
    "cifar10-resnet20": write_cifar10,
    "cifar100-resnet20": write_cifar100,
    "fashion-mnist-cnn": write_fashion_mnist,
    "fashion-mnist-mlp": write_fashion_mnist,
    "imagefolder-cnn": write_images,
}


@pytest.mark.parametrize("name", WRITERS)
def test_tasks_on_files_train(name: str, tmp_path: Path) -> None:
    subject = task(name, path=WRITERS[name](tmp_path), steps=2, batch_size=4, width=4)
    assert subject.options["path"] == str(tmp_path)
    result = subject.train("relu(x)", seed=0)
    assert result.status == "done"
    assert result.loss is not None
    assert result.loss == subject.train("relu(x)", seed=0).loss
    assert subject.train("log(x)", seed=0).reason == "loss is nan at step 1"


def check(data: Dataset, sizes: tuple[int, int, int]) -> None:
    assert tuple(len(data.splits[s]) for s in ("train", "validation", "test")) == sizes
    assert sorted(np.concatenate(list(data.splits.values())).tolist()) == list(range(sum(sizes)))
    assert data.inputs.dtype == np.uint8
    assert data.mean is not None
    assert data.deviation is not None
    train = data.inputs[data.splits["train"]].astype(np.float64)
    np.testing.assert_allclose(data.mean, train.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(data.deviation, train.std((0, 2, 3)), rtol=1e-5)


def test_cifar10(tmp_path: Path) -> None:
    data = task("cifar10-resnet20", path=write_cifar10(tmp_path)).load()
    check(data, (90, 10, 20))
    second = np.frombuffer((tmp_path / "data_batch_2.bin").read_bytes(), np.uint8)
    assert data.inputs[23, 2, 5, 7] == second[3 * 3073 + 1 + 2 * 1024 + 5 * 32 + 7]
    assert data.labels[:12].tolist() == [*range(10), 0, 1]
    assert data.classes == 10


def test_cifar100_reads_fine_labels(tmp_path: Path) -> None:
    (tmp_path / "cifar-100-binary").mkdir()
    write_cifar100(tmp_path / "cifar-100-binary")
    data = task("cifar100-resnet20", path=tmp_path).load()
    check(data, (180, 20, 100))
    assert data.labels[:100].tolist() == list(range(100))
    assert data.classes == 100


def test_fashion_mnist(tmp_path: Path) -> None:
    data = task("fashion-mnist-cnn", path=write_fashion_mnist(tmp_path)).load()
    check(data, (90, 10, 30))
    assert data.inputs.shape == (130, 1, 28, 28)
    raw = (tmp_path / "t10k-images-idx3-ubyte").read_bytes()
    assert data.inputs[100].tobytes() == raw[16 : 16 + 784]


def test_image_folder(tmp_path: Path) -> None:
    data = task("imagefolder-cnn", path=write_images(tmp_path), size=8).load()
    check(data, (48, 6, 6))
    assert data.inputs.shape == (60, 3, 8, 8)
    assert data.classes == 3
    for index in data.splits.values():
        assert len(set(np.bincount(data.labels[index]).tolist())) == 1, "each class in proportion"
    assert data.inputs[data.labels == 2].mean() > data.inputs[data.labels == 0].mean() + 50


def test_damaged_cifar_files_are_named(tmp_path: Path) -> None:
    file = write_cifar10(tmp_path) / "data_batch_3.bin"
    whole = file.read_bytes()

    def fails(match: str) -> None:
        with pytest.raises(TaskError, match=match):
            task("cifar10-resnet20", path=tmp_path).train("x", seed=0)

    file.write_bytes(whole[:-1])
    fails(r"data_batch_3.bin is truncated.*61459 bytes.*3073")
    file.write_bytes(b"")
    fails("truncated")
    file.write_bytes(whole[: 3073 * 4] + b"\x0a" + whole[3073 * 4 + 1 :])
    fails("label of record 4 is 10, but there are 10 classes")
    file.unlink()
    fails("data_batch_3.bin is missing")
    with pytest.raises(TaskError, match="is not a folder"):
        task("cifar10-resnet20", path=tmp_path / "nowhere").load()


def test_damaged_idx_files_are_named(tmp_path: Path) -> None:
    write_fashion_mnist(tmp_path)
    zipped, plain = tmp_path / "train-images-idx3-ubyte.gz", tmp_path / "t10k-labels-idx1-ubyte"
    whole_zipped, whole_plain = zipped.read_bytes(), plain.read_bytes()

    def fails(match: str) -> None:
        with pytest.raises(TaskError, match=match):
            task("fashion-mnist-cnn", path=tmp_path).load()

    for damaged in (whole_zipped[:500], b"not gzip", whole_zipped[:50] + b"?" * 100):
        zipped.write_bytes(damaged)
        fails("train-images-idx3-ubyte.gz (is truncated|cannot be read)")
    zipped.write_bytes(gzip.compress(gzip.decompress(whole_zipped)[:-1]))
    fails("ends early: the header promises 100x28x28 bytes")
    zipped.write_bytes(gzip.compress(gzip.decompress(whole_zipped) + b"0"))
    fails("longer than its header says")
    zipped.write_bytes(whole_zipped)
    plain.write_bytes(b"\x00\x00\x0d" + whole_plain[3:])
    fails("no idx file of bytes in 1 dimensions: 00000d01")
    plain.write_bytes(idx(np.zeros(29, np.uint8)))
    fails("30 t10k images but 29 t10k labels")
    plain.write_bytes(whole_plain[:-1] + b"\xff")
    fails("label of record 29 is 255")
    plain.write_bytes(b"\x00")
    fails("no idx file")
    plain.unlink()
    fails("holds neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte.gz")


def test_damaged_image_folders_are_named(tmp_path: Path) -> None:
    def fails(match: str, **options: object) -> None:
        with pytest.raises(TaskError, match=match):
            task("imagefolder-cnn", path=tmp_path, **options).load()

    fails("holds 0 folders")
    write_images(tmp_path)
    fails("size must be", size=0)
    picture = tmp_path / "bees" / "04.png"
    whole = picture.read_bytes()
    for damaged in (whole[:60], b"", b"text"):
        picture.write_bytes(damaged)
        fails("04.png cannot be read")
    picture.write_bytes(whole)
    (tmp_path / "empty").mkdir()
    fails("empty holds 0 images; each class needs at least 3")
