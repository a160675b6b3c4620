"""A task without a network: its metric is how close a function is to a hidden one.

It is used as "tests.actsearch.synthetic_task:SyntheticTask", in worker processes too. It can keep a
log of what was trained by which process, take its time, and do what goes wrong in practice.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np

from actsearch.grammar import as_expression, parse
from actsearch.grammar.evaluate import evaluate_numpy
from actsearch.tasks import ChildResult, TaskError

NAME = "tests.actsearch.synthetic_task:SyntheticTask"
GRID = np.linspace(-3, 3, 61)
TARGET = "x*sigmoid(x)"


class SyntheticTask:
    """Closeness to `TARGET`, with a little noise from the seed.

    Args:
        log: a file to which a line "begin|end, process, expression, seed, split" is appended.
        delay: seconds a training takes.
        fatal: a training whose expression contains this text kills its process.
        broken: one whose expression contains this text raises an exception.
        hangs: one whose expression contains this text never ends.
        hoards: one whose expression contains this text allocates memory until there is no more.
        unusable: the task cannot be made at all.
        prints: print to stdout, as a careless task may.
    """

    name = "synthetic"

    def __init__(
        self,
        log: str = "",
        delay: float = 0.0,
        fatal: str = "",
        broken: str = "",
        hangs: str = "",
        hoards: str = "",
        unusable: bool = False,
        prints: bool = False,
    ) -> None:
        if unusable:
            raise TaskError("the synthetic data cannot be found")
        self.log = log
        self.delay = delay
        self.fatal = fatal
        self.broken = broken
        self.hangs = hangs
        self.hoards = hoards
        self.prints = prints

    def train(self, expression: Any, seed: int, split: str, device: str) -> ChildResult:
        self._note("begin", expression, seed, split)
        time.sleep(self.delay)
        if self.prints:
            print("this line is not a message")
        if self.fatal and self.fatal in expression:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.broken and self.broken in expression:
            raise ArithmeticError(f"cannot train {expression}\nand a second line")
        while self.hangs and self.hangs in expression:
            time.sleep(1)
        hoard = []
        while self.hoards and self.hoards in expression:
            hoard.append(bytearray(10_000_000))
        with np.errstate(all="ignore"):
            values = evaluate_numpy(as_expression(expression), {"x": GRID})
            target = evaluate_numpy(parse(TARGET), {"x": GRID})
            error = float(np.sqrt(np.mean((values - target) ** 2)))
        digest = hashlib.sha256(f"{expression}/{seed}/{split}".encode()).digest()
        metric = 1 / (1 + error) + digest[0] / 1e4
        self._note("end", expression, seed, split)
        if not np.isfinite(metric):
            return ChildResult(None, None, "failed", "loss is nan at step 1", (), 0.01, seed, 1)
        return ChildResult(metric, error, "done", None, ((1, error),), 0.01, seed, 1)

    def _note(self, what: str, *facts: object) -> None:
        if self.log:
            line = "\t".join(map(str, (what, os.getpid(), *facts))) + "\n"
            with Path(self.log).open("ab", buffering=0) as file:
                file.write(line.encode())


def read_log(path: Path) -> list[tuple[str, int, tuple[str, ...]]]:
    """(begin or end, process, (expression, seed, split)) in the order of writing."""
    lines = path.read_text().splitlines() if path.exists() else []
    fields = (line.split("\t") for line in lines)
    return [(what, int(process), tuple(facts)) for what, process, *facts in fields]
