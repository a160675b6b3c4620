"""The `ray` executor: trainings as tasks of a Ray cluster, which has CPUs and GPUs to give.

Ray reads the cluster's address from RAY_ADDRESS, and starts one on this machine where it is not
set. ActSearch, and a task of the user's own, must be importable on every node.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any

from actsearch.studies.executors import Executor, ExecutorError, Report
from actsearch.studies.jobs import Job, TaskSpec, run, warm_up


class RayCluster(Executor):
    """Trains on a Ray cluster. A node that dies costs the trainings that it had, which start anew.

    Args:
        spec: the task.
        workers: trainings at a time.
        gpus: that one training holds; a fraction shares a GPU.
        options: of `ray.init`.

    Raises:
        ExecutorError: Ray is not installed, or the cluster has no such GPUs.
    """

    def __init__(
        self, spec: TaskSpec, workers: int, gpus: float, options: Mapping[str, Any]
    ) -> None:
        try:
            import ray
        except ImportError:
            raise ExecutorError(
                "the executor ray needs Ray: pip install 'actsearch[ray]'"
            ) from None
        self._ray = ray
        self._spec = json.dumps(spec.to_dict())
        self._own = not ray.is_initialized()
        if self._own:
            quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
            try:
                ray.init(**(quiet | dict(options)))
            except (ConnectionError, RuntimeError, TypeError, ValueError) as error:
                raise ExecutorError(f"cannot use the Ray cluster: {error}") from None
        there = ray.cluster_resources().get("GPU", 0)
        if gpus > there:
            self.close()
            raise ExecutorError(f"a training wants {gpus:g} GPUs, and the cluster has {there:g}")
        self._train = ray.remote(train).options(
            num_cpus=1, num_gpus=gpus, max_retries=0, name="actsearch"
        )
        self._slots = [f"ray-{number}" for number in range(workers)]
        self._running: dict[Any, tuple[Job, str]] = {}

    def free(self) -> list[str]:
        taken = {slot for _, slot in self._running.values()}
        return [slot for slot in self._slots if slot not in taken]

    def submit(self, job: Job, worker: str) -> None:
        reference = self._train.remote(self._spec, job.to_dict(), sys.path)
        self._running[reference] = job, worker

    def wait(self) -> list[Report]:
        references = list(self._running)
        if not references:
            return []
        self._ray.wait(references, num_returns=1)
        ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        return [self._report(reference) for reference in ready]

    def _report(self, reference: Any) -> Report:
        from actsearch.tasks import ChildResult

        job, _ = self._running.pop(reference)
        errors = self._ray.exceptions
        try:
            answer = self._ray.get(reference)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError) as error:
            return Report(job, None, f"its Ray worker died ({_first_line(error)})", blamed=True)
        except errors.RayTaskError as error:
            raise ExecutorError(f"a Ray worker cannot train: {_first_line(error.cause)}") from None
        except errors.RayError as error:  # a node, the store of results
            return Report(job, None, f"Ray lost it ({_first_line(error)})")
        if "error" in answer:
            raise ExecutorError(answer["error"])
        return Report(job, ChildResult.from_dict(answer))

    def close(self) -> None:
        for reference in getattr(self, "_running", {}):
            with suppress(Exception):  # it has ended, or its node has
                self._ray.cancel(reference, force=True)
        if self._own:
            self._ray.shutdown()


def train(spec: str, job: Mapping[str, Any], paths: Sequence[str]) -> dict[str, Any]:
    """One training in a worker of a cluster; its result, or why no training is possible there."""
    sys.path.extend(path for path in paths if path not in sys.path)
    from actsearch.tasks import TaskError

    try:
        made = TaskSpec(**json.loads(spec))
        return run(_task(spec), made, Job(**job)).to_dict()
    except TaskError as error:
        return {"error": str(error)}


@lru_cache(maxsize=4)
def _task(spec: str) -> Any:
    """The task, loaded once for each worker."""
    task = TaskSpec(**json.loads(spec)).make()
    warm_up(task)
    return task


def _first_line(error: object) -> str:
    return str(error).strip().partition("\n")[0]
