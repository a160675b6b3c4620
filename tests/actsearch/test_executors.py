"""Executors: same results everywhere; workers that die are replaced, and end with their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from actsearch.grammar.errors import UsageError
from actsearch.studies.executors import Executor, ExecutorError, Inline, Report, executor
from actsearch.studies.jobs import Job, TaskSpec
from actsearch.studies.local import Local
from tests.actsearch.synthetic_task import NAME, SyntheticTask, read_log

JOBS = [Job(n, 1, f"x + {n}", 7, "validation") for n in range(8)]


def run_all(engine: Executor, jobs: list[Job]) -> list[Report]:
    """Everything once; jobs whose worker was lost are not given again."""
    waiting, reports = list(reversed(jobs)), []
    while len(reports) < len(jobs):
        while waiting and (free := engine.free()):
            engine.submit(waiting.pop(), free[0])
        reports.extend(engine.wait())
    return sorted(reports, key=lambda report: report.job.id)


def alive(process: int) -> bool:
    """Whether a process runs (one that is dead but not yet waited for does not)."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        return sys.platform != "linux"
    return state != "Z"


def await_end(processes: set[int]) -> None:
    while any(alive(process) for process in processes):
        time.sleep(0.01)


def test_every_executor_gives_the_same_results() -> None:
    spec = TaskSpec(NAME, {})
    expected = [SyntheticTask().train(job.expression, 7, "validation", "auto") for job in JOBS]
    for workers in (0, 1, 2):
        with executor(spec, workers) as engine:
            reports = run_all(engine, JOBS)
        assert [report.result for report in reports] == expected
        assert [report.job for report in reports] == JOBS


def test_work_is_spread_and_workers_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with executor(TaskSpec(NAME, {"log": str(log), "delay": 0.02}), 2) as engine:
        run_all(engine, JOBS)
    processes = {process for _, process, _ in read_log(log)}
    assert len(processes) == 2
    assert os.getpid() not in processes
    await_end(processes)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_exception_is_a_failed_child(workers: int) -> None:
    with executor(TaskSpec(NAME, {"broken": "x + 3"}), workers) as engine:
        reports = run_all(engine, JOBS)
    results = [report.result for report in reports]
    assert [r.status for r in results if r] == ["done"] * 3 + ["failed"] + ["done"] * 4
    assert results[3] is not None
    assert results[3].reason == "ArithmeticError: cannot train x + 3"


def test_a_task_that_prints_does_no_harm() -> None:
    with executor(TaskSpec(NAME, {"prints": True}), 1) as engine:
        assert all(report.result for report in run_all(engine, JOBS))


def test_a_worker_that_dies_is_replaced_and_its_job_reported() -> None:
    with executor(TaskSpec(NAME, {"fatal": "x + 3"}), 1) as engine:
        reports = run_all(engine, JOBS)
    blamed = [report for report in reports if report.blamed]
    assert [report.job.id for report in blamed] == [3]
    assert blamed[0].reason == "the worker process died (SIGKILL)"
    # what the dead worker had not begun comes back without blame
    assert all(report.result or report.job.id >= 3 for report in reports)


@pytest.mark.parametrize("workers", [0, 2])
def test_an_unusable_task_ends_everything_with_its_own_message(workers: int) -> None:
    with (
        executor(TaskSpec(NAME, {"unusable": True}), workers) as engine,
        pytest.raises(ExecutorError, match="the synthetic data cannot be found"),
    ):
        run_all(engine, JOBS)


def test_workers_that_never_start_end_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])  # actsearch cannot be imported in the workers
    with (
        executor(TaskSpec(NAME, {}), 1) as engine,
        pytest.raises(ExecutorError, match="3 worker processes died before they were ready"),
    ):
        run_all(engine, JOBS)


def test_real_tasks_train_on_one_thread_with_equal_results() -> None:
    spec = TaskSpec("digits-mlp", {"steps": 5})
    job = Job(1, 1, "x*sigmoid(beta*x)", 3, "validation")
    metrics = set()
    for workers in (0, 1):
        with executor(spec, workers) as engine:
            (report,) = run_all(engine, [job])
        assert report.result is not None
        assert report.result.status == "done"
        metrics.add((report.result.metric, report.result.loss))
    assert len(metrics) == 1


def test_interrupts_do_not_reach_workers(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with executor(TaskSpec(NAME, {"log": str(log), "delay": 0.1}), 1) as engine:
        for job, worker in zip(JOBS, engine.free(), strict=False):
            engine.submit(job, worker)
        reports = engine.wait()
        (process,) = {process for _, process, _ in read_log(log)}
        os.kill(process, signal.SIGINT)
        while len(reports) < 2:
            reports += engine.wait()
    assert all(report.result for report in reports)
    assert {process for _, process, _ in read_log(log)} == {process}


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    """Also in the midst of a training that would take long."""
    log = tmp_path / "log"
    program = f"""
from actsearch.studies.executors import executor
from actsearch.studies.jobs import Job, TaskSpec
spec = TaskSpec({NAME!r}, {{"log": {str(log)!r}, "delay": 600}})
with executor(spec, 2) as engine:
    for number in range(4):
        engine.submit(Job(number, 1, "x", 1, "validation"), engine.free()[0])
    engine.wait()
"""
    with subprocess.Popen([sys.executable, "-c", program]) as parent:
        while len(read_log(log)) < 2 and parent.poll() is None:
            time.sleep(0.02)
        processes = {process for _, process, _ in read_log(log)}
        parent.kill()
    assert len(processes) == 2
    await_end(processes)


def test_the_number_of_workers_is_checked() -> None:
    assert isinstance(executor(TaskSpec(NAME, {}), 0), Inline)
    with executor(TaskSpec(NAME, {}), 1) as engine:
        assert isinstance(engine, Local)
    with pytest.raises(UsageError, match="0 or more"):
        executor(TaskSpec(NAME, {}), -1)
