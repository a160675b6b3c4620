"""The `submitit` executor: every training is a job of Slurm (or, without Slurm, a process here).

Worth it where a training takes minutes or more. The jobs' files lie in the run directory, which
the nodes must see; a study in PostgreSQL and `actsearch worker` jobs are the other way.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from actsearch.studies.executors import Executor, ExecutorError, Report
from actsearch.studies.jobs import Job, TaskSpec
from actsearch.studies.ray_cluster import train

POLL_SECONDS = 0.1, 5.0
"""From one look at the jobs to the next: longer each time that nothing is new."""

BLAMELESS = frozenset({"NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "REQUEUED", "REVOKED"})
"""States of a job that ended for reasons of the cluster's own."""


class Submitit(Executor):
    """Trains in jobs of Slurm.

    Args:
        spec: the task.
        workers: jobs at a time.
        gpus: whole ones, that a job asks for.
        options: of submitit's `update_parameters`, such as slurm_partition; and cluster, "slurm",
            "local" or "debug", which is chosen by what there is where it is missing.
        folder: for the jobs' files.

    Raises:
        ExecutorError: submitit is not installed, or does not take these options.
    """

    def __init__(
        self,
        spec: TaskSpec,
        workers: int,
        gpus: float,
        options: Mapping[str, Any],
        folder: Path,
    ) -> None:
        try:
            import submitit
        except ImportError:
            message = "the executor submitit needs submitit: pip install 'actsearch[submitit]'"
            raise ExecutorError(message) from None
        given = {"timeout_min": 60, "cpus_per_task": 1, "name": "actsearch", **options}
        if gpus:
            given["gpus_per_node"] = int(gpus)
        try:
            self._executor = submitit.AutoExecutor(folder, cluster=given.pop("cluster", None))
            self._executor.update_parameters(**given)
        except (NameError, RuntimeError, TypeError, ValueError) as error:
            raise ExecutorError(f"cannot use submitit: {error}") from None
        self._spec = json.dumps(spec.to_dict())
        self._slots = [f"submitit-{number}" for number in range(workers)]
        self._running: list[tuple[Any, Job, str]] = []

    def free(self) -> list[str]:
        taken = {slot for _, _, slot in self._running}
        return [slot for slot in self._slots if slot not in taken]

    def submit(self, job: Job, worker: str) -> None:
        given = self._executor.submit(train, self._spec, job.to_dict(), sys.path)
        self._running.append((given, job, worker))

    def wait(self) -> list[Report]:
        pause, longest = POLL_SECONDS
        while self._running:
            done = [item for item in self._running if item[0].done()]
            if done:
                self._running = [item for item in self._running if item not in done]
                return [_report(given, job) for given, job, _ in done]
            time.sleep(pause)
            pause = min(1.5 * pause, longest)
        return []

    def close(self) -> None:
        for given, _, _ in self._running:
            with suppress(Exception):  # it has ended
                given.cancel()


def _report(given: Any, job: Job) -> Report:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    from actsearch.tasks import ChildResult

    try:
        answer = given.result()
    except UncompletedJobError:
        state = str(given.state)
        blamed = not any(state.startswith(cause) for cause in BLAMELESS)
        return Report(job, None, f"its job {given.job_id} ended as {state}", blamed=blamed)
    except FailedJobError as error:
        last_line = str(error).strip().rpartition("\n")[2]
        raise ExecutorError(f"job {given.job_id} cannot train: {last_line}") from None
    if "error" in answer:
        raise ExecutorError(answer["error"])
    return Report(job, ChildResult.from_dict(answer))
