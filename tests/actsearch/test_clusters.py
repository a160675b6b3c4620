"""Ray and submitit: the same study as on one machine, and a worker that dies costs its training.

They run where the extras are installed; what needs neither runs everywhere.
"""

from __future__ import annotations

import builtins
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from actsearch.grammar.errors import UsageError
from actsearch.studies.executors import Engine, Executor, ExecutorError, executor
from actsearch.studies.jobs import TaskSpec
from actsearch.studies.local import shared_out, visible_gpus
from tests.actsearch.synthetic_task import NAME, SyntheticTask, read_log
from tests.actsearch.test_executors import JOBS, run_all
from tests.actsearch.test_study import essence, small_search

ROOT = Path(__file__).parents[2]
CLUSTERS = ("ray", "submitit")


@pytest.fixture(params=CLUSTERS)
def cluster(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of an executor whose extra is installed, and whose workers find the tests."""
    name = str(request.param)
    pytest.importorskip(name, reason=f"pip install 'actsearch[{name}]'")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    yield name
    if name == "ray":
        import ray

        ray.shutdown()


def engine(cluster: str, workers: int = 2) -> Engine:
    options: dict[str, Any] = {"cluster": "local"}
    if cluster == "ray":
        options = {"num_cpus": 2, "include_dashboard": False, "object_store_memory": 80_000_000}
    return Engine(cluster, workers, options=options)


def opened(cluster: str, folder: Path, workers: int = 2, **options: Any) -> Executor:
    return executor(
        TaskSpec(NAME, options), workers, engine=engine(cluster, workers), folder=folder
    )


@pytest.mark.filterwarnings("default")
def test_a_cluster_gives_the_same_results(cluster: str, tmp_path: Path) -> None:
    log = tmp_path / "log"
    jobs = JOBS[: 8 if cluster == "ray" else 3]
    expected = [SyntheticTask().train(job.expression, 7, "validation", "auto") for job in jobs]
    with opened(cluster, tmp_path, log=str(log)) as trained:
        reports = run_all(trained, jobs)
    assert [report.result for report in reports] == expected
    assert os.getpid() not in {process for _, process, _ in read_log(log)}


@pytest.mark.filterwarnings("default")
def test_a_worker_that_dies_costs_its_own_training(cluster: str, tmp_path: Path) -> None:
    with opened(cluster, tmp_path, fatal="x + 1") as trained:
        reports = run_all(trained, JOBS[:3])
    assert [report.job.id for report in reports if report.result is None] == [1]
    assert reports[1].blamed
    assert reports[1].reason


@pytest.mark.filterwarnings("default")
def test_an_unusable_task_ends_everything_with_its_own_message(
    cluster: str, tmp_path: Path
) -> None:
    with (
        opened(cluster, tmp_path, unusable=True) as trained,
        pytest.raises(ExecutorError, match="the synthetic data cannot be found"),
    ):
        run_all(trained, JOBS[:1])


@pytest.mark.filterwarnings("default")
def test_the_same_study_on_a_cluster(cluster: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {"trials": 3, "retest": 1, "retest_seeds": 1, "baseline_seeds": 1}
    options |= {"window": 2, "baselines": ("relu(x)",)}
    here = small_search(tmp_path / "a", **options)
    chosen = engine(cluster)
    there = small_search(
        tmp_path / "b",
        executor=chosen.kind,
        workers=2,
        executor_options=chosen.options,
        **options,
    )
    assert essence(there) == essence(here)
    assert there.leaderboard() == here.leaderboard()


def test_a_ray_node_that_dies_costs_its_running_trainings(tmp_path: Path) -> None:
    """A second node is killed with trainings on it; they come back, and are not blamed for it."""
    pytest.importorskip("ray", reason="pip install 'actsearch[ray]'")
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    node.pop("include_dashboard")
    other = cluster.add_node(**node)
    try:
        log = tmp_path / "log"
        spec = TaskSpec(NAME, {"log": str(log), "delay": 3.0})
        chosen = Engine("ray", 2, options={"address": cluster.address})
        with executor(spec, 2, engine=chosen) as trained:
            for job, worker in zip(JOBS, trained.free(), strict=False):
                trained.submit(job, worker)
            while len(read_log(log)) < 2:
                pass
            cluster.remove_node(other, allow_graceful=False)
            reports = trained.wait()
            while len(reports) < 2:
                reports += trained.wait()
            assert sorted(report.result is None for report in reports) == [False, True]
            (lost,) = [report.job for report in reports if report.result is None]
            trained.submit(lost, trained.free()[0])
            (again,) = trained.wait()
            assert again.result is not None
    finally:
        cluster.shutdown()


@pytest.mark.parametrize("name", CLUSTERS)
def test_without_the_extra_it_says_what_to_install(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported = builtins.__import__

    def without(module: str, *rest: Any) -> Any:
        if module.partition(".")[0] == name:
            raise ImportError(module)
        return imported(module, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ExecutorError, match=rf"pip install 'actsearch\[{name}\]'"):
        opened(name, tmp_path)


def test_gpus_are_shared_out() -> None:
    assert shared_out(["0", "1"], 4, 0.5) == [["0"], ["0"], ["1"], ["1"]]
    assert shared_out(["3", "7"], 3, 1 / 3) == [["3"]] * 3
    assert shared_out(["0", "1", "2", "3"], 2, 2) == [["0", "1"], ["2", "3"]]
    assert shared_out(["0", "1"], 2, 1) == [["0"], ["1"]]
    assert shared_out(["0", "1"], 2, 0.7) == [["0"], ["1"]], "two of 0.7 do not fit on one"
    with pytest.raises(ExecutorError, match="need 2, and there are 1"):
        shared_out(["0"], 3, 0.5)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_see_their_gpus_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert visible_gpus() == ["4", "6"]
    with executor(TaskSpec(NAME, {}), 0, engine=Engine("local", 2, gpus=1.0)) as trained:
        for devices, worker in zip((b"4", b"6"), trained._workers, strict=True):
            assert b"CUDA_VISIBLE_DEVICES=" + devices + b"\0" in _environment(worker.process.pid)


def _environment(process: int) -> bytes:
    """What the process started with; Linux gives nothing while it still loads the program."""
    until = time.monotonic() + 60
    while not (text := Path(f"/proc/{process}/environ").read_bytes()):
        assert time.monotonic() < until, "the process has not started"
        time.sleep(0.01)
    return text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kind": "rya", "workers": 2}, "did you mean 'ray'"),
        ({"kind": "ray", "workers": 0}, "do not go together"),
        ({"kind": "local", "workers": 2, "gpus": 1.5}, "whole number"),
        ({"kind": "local", "workers": 2, "gpus": -1.0}, "whole number"),
        ({"kind": "inline", "workers": 0, "gpus": 1.0}, "shares out no GPUs"),
        ({"kind": "submitit", "workers": 2, "gpus": 0.5}, "whole GPUs"),
        ({"kind": "local", "workers": 2, "options": {"a": 1}}, "no options"),
    ],
)
def test_what_cannot_be_kept_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Engine(**wrong).check()
