"""Training on a real Ray: the same numbers, and nothing lost when a worker, the launcher or the head dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from atft.observe import events
from atft.observe.events import Event
from tests.integration.command import (
    SOURCES,
    Outcome,
    epochs_of,
    figures_of,
    run,
    steps_of,
    tree,
    weights_of,
)

pytestmark = pytest.mark.ray

SECONDS = 120.0


@contextmanager
def launched(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    """``atft arguments`` in a process of its own, ended with the context."""
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "atft", *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def ended(process: subprocess.Popen[str]) -> Outcome:
    out, err = process.communicate(timeout=SECONDS)
    return Outcome(process.returncode, out, err)


def wait_for(process: subprocess.Popen[str], path: Path, reached: Callable[[Event], bool]) -> list[Event]:
    """The run's events once one of them is ``reached``."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        found = events.read(path) if (path / "events.jsonl").exists() else []
        if any(map(reached, found)):
            return found
        time.sleep(0.02)
    raise AssertionError(f"{path}: waited {SECONDS} s in vain; {[event['kind'] for event in found][-5:]}")


def step_at_least(number: int) -> Callable[[Event], bool]:
    return lambda event: event["kind"] == "step" and event["step"] >= number


def worker_pids(log: list[Event]) -> list[int]:
    started = [event for event in log if event["kind"] == "run_started"][-1]
    return [int(worker.rpartition(":")[2]) for worker in started["workers"]]


def same_numbers(path: Path, other: Path) -> None:
    """Bit for bit, whatever is no time."""
    assert steps_of(path) == steps_of(other)
    assert epochs_of(path) == epochs_of(other)
    assert figures_of(path) == figures_of(other)
    assert weights_of(path) == weights_of(other)


def near(path: Path, other: Path, expected_std: float = 0.447) -> None:
    """Float32 on other workers: DESIGN §3's bound over the first 10 steps."""
    found, wanted = steps_of(path), steps_of(other)
    assert len(found) == len(wanted)
    for one, two in list(zip(found, wanted))[:10]:
        assert abs(one["loss"] - two["loss"]) <= 1e-5 * max(abs(two["loss"]), expected_std), (one, two)
        assert one["samples"] == two["samples"]


def test_two_workers_learn_what_one_process_learns(pair: Path, alone: Path) -> None:
    near(pair, alone)
    told, other = (json.loads((path / "result.json").read_text()) for path in (pair, alone))
    assert (told["world_size"], other["world_size"]) == (2, 1)
    for name in ("effective_batch", "steps", "samples", "parameters", "config_sha256", "data_sha256"):
        assert told[name] == other[name], name
    assert {event["world_size"] for event in events.steps(pair)} == {2}
    log = events.read(pair)
    started = next(event for event in log if event["kind"] == "run_started")
    assert started["shards"] == [2, 2]
    assert len(set(worker_pids(log))) == 2


def train(panel: Path, tier: Path, runs: Path, name: str, *more: object) -> list[object]:
    return ["train", "--accept=all", tier, "--data", panel, "--runs", runs, "--run", name, *more]


@pytest.mark.parametrize("rank", [pytest.param(0, marks=pytest.mark.faults), 1])
def test_a_worker_killed_in_mid_step_costs_no_number(
    rank: int, panel: Path, long_tier: Path, address: str, pair: Path, tmp_path: Path
) -> None:
    with launched(*train(panel, long_tier, tmp_path, "killed", "--workers", 2, "--address", address)) as process:
        log = wait_for(process, tmp_path / "killed", step_at_least(33))
        os.kill(worker_pids(log)[rank], signal.SIGKILL)
        done = ended(process)
    assert done.code == 0, done
    log = events.read(tmp_path / "killed")
    resumed = [event for event in log if event["kind"] == "resumed"]
    assert len(resumed) == 1
    before = [event["step"] for event in log[: log.index(resumed[0])] if event["kind"] == "step"]
    assert 0 <= before[-1] - resumed[0]["step"] <= 10  # at most two checkpoints' worth
    same_numbers(tmp_path / "killed", pair)


@pytest.mark.faults
def test_a_worker_that_is_told_to_go_loses_no_step(
    panel: Path, long_tier: Path, address: str, pair: Path, tmp_path: Path
) -> None:
    with launched(*train(panel, long_tier, tmp_path, "left", "--workers", 2, "--address", address)) as process:
        os.kill(worker_pids(wait_for(process, tmp_path / "left", step_at_least(33)))[1], signal.SIGTERM)
        done = ended(process)
    assert done.code == 0, done
    log = events.read(tmp_path / "left")
    assert [event["kind"] for event in log].count("resumed") == 1
    numbers = [event["step"] for event in log if event["kind"] == "step"]
    assert numbers == list(range(1, 121))
    same_numbers(tmp_path / "left", pair)


@pytest.mark.faults
def test_a_launcher_that_is_told_to_stop_leaves_a_run_that_goes_on(
    panel: Path, long_tier: Path, address: str, pair: Path, tmp_path: Path
) -> None:
    given = train(panel, long_tier, tmp_path, "stopped", "--workers", 2, "--address", address)
    with launched(*given) as process:
        wait_for(process, tmp_path / "stopped", step_at_least(20))
        process.terminate()
        done = ended(process)
    assert done.code == 1
    assert "stopped as asked after step" in done.err
    assert "--resume" in done.err
    stopped = [event for event in events.read(tmp_path / "stopped") if event["kind"] == "stopped"]
    assert len(stopped) == 1
    done = run("train", "long", "--runs", tmp_path, "--run", "stopped", "--workers", 2, "--resume")
    assert done.code == 0, done
    assert f"resumed after step {stopped[0]['step']}" in done.err
    same_numbers(tmp_path / "stopped", pair)


def test_an_early_warning_stops_all_workers_after_the_same_step_and_is_the_error_that_is_told(
    panel: Path, long_tier: Path, address: str, alone: Path, tmp_path: Path
) -> None:
    given = ("--workers", 2, "--address", address, "--against", alone, "--stop-on", "behind-baseline", "--lr", "1e-9")
    done = run(*train(panel, long_tier, tmp_path, "early", *given))
    assert done.code == 1, done
    assert "stopped by an early warning (behind-baseline: over the last 3 epochs" in done.err
    (ended,) = [event for event in events.read(tmp_path / "early") if event["kind"] == "stopped"]
    assert ended["reason"].startswith("behind-baseline")
    assert not (tmp_path / "early" / "result.json").exists()


@pytest.mark.faults
def test_a_run_goes_on_with_another_number_of_workers(
    panel: Path, long_tier: Path, address: str, alone: Path, tmp_path: Path
) -> None:
    given = train(panel, long_tier, tmp_path, "resized")
    with launched(*given) as process:
        wait_for(process, tmp_path / "resized", step_at_least(6))
        process.terminate()
        assert ended(process).code == 1
    done = run("train", "long", "--runs", tmp_path, "--run", "resized", "--workers", 2, "--resume")
    assert done.code == 0, done
    near(tmp_path / "resized", alone)
    assert [event["world_size"] for event in events.steps(tmp_path / "resized")][-1] == 2
    resumed = next(event for event in events.read(tmp_path / "resized") if event["kind"] == "resumed")
    assert (resumed["world_size_before"], resumed["world_size"]) == (1, 2)


@pytest.mark.faults
def test_what_another_try_would_only_repeat_is_not_tried_again(
    panel: Path, long_tier: Path, address: str, tmp_path: Path
) -> None:
    flags = ("--workers", 2, "--lr", 1e30, "--set", "optimizer.clip_norm=1e30")
    done = run(*train(panel, long_tier, tmp_path, "nan", *flags))
    assert done.code == 1, done
    assert "not finite" in done.err
    assert "phase baseline" in done.err
    log = events.read(tmp_path / "nan")
    assert [event["kind"] for event in log].count("run_started") == 1


@pytest.mark.faults
def test_one_worker_on_each_of_two_machines(panel: Path, long_tier: Path, alone: Path, tmp_path: Path) -> None:
    given = train(panel, long_tier, tmp_path, "nodes", "--workers", 2, "--address")
    with two_nodes() as there, launched(*given, there) as process:
        pids = worker_pids(wait_for(process, tmp_path / "nodes", step_at_least(1)))
        raylets = {parent_of(pid) for pid in pids}
        done = ended(process)
    assert done.code == 0, done
    assert len(raylets) == 2
    near(tmp_path / "nodes", alone)


@pytest.mark.faults
def test_a_killed_head_costs_no_number(panel: Path, long_tier: Path, pair: Path, tmp_path: Path) -> None:
    with (
        head(2) as (there, kill),
        launched(*train(panel, long_tier, tmp_path, "head", "--workers", 2, "--address", there)) as process,
    ):
        wait_for(process, tmp_path / "head", step_at_least(33))
        kill()
        done = ended(process)
    assert done.code == 1, done
    assert "Traceback" not in done.err
    given = ["train", "long", "--runs", tmp_path, "--run", "head", "--workers", 2, "--resume", "--address"]
    with head(2) as (there, _), launched(*given, there) as process:
        done = ended(process)
    assert done.code == 0, done
    same_numbers(tmp_path / "head", pair)


def submitted(port: int, job: list[object]) -> subprocess.CompletedProcess[str]:
    """What the job came to, once the head has an agent that takes jobs."""
    deadline = time.monotonic() + SECONDS
    while True:
        given = _ray("job", "submit", "--address", f"http://127.0.0.1:{port}", "--", *job)
        done = subprocess.run(**given, capture_output=True, text=True, timeout=2 * SECONDS)
        if "No available agent" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(1)


@pytest.mark.faults
def test_a_submitted_job_trains_and_submitted_again_changes_nothing(
    panel: Path, long_tier: Path, pair: Path, tmp_path: Path
) -> None:
    port = free_port()
    job = [sys.executable, SOURCES / "jobs/train.py", "--tier", long_tier, "--data", panel, "--runs", tmp_path, "--run",
           "job", "--workers", 2, "--accept=all"]  # fmt: skip
    with head(2, dashboard=port):
        wait_for_port(port)
        for again in (False, True):
            done = submitted(port, job)
            assert done.returncode == 0, done
            assert "Test Sharpe" in done.stdout
            if not again:
                before = tree(tmp_path / "job")
    assert tree(tmp_path / "job") == before
    same_numbers(tmp_path / "job", pair)


@pytest.mark.faults
def test_an_elastic_run_takes_the_workers_that_come(panel: Path, long_tier: Path, alone: Path, tmp_path: Path) -> None:
    """From one processor to two in the middle of a run."""
    tier = tmp_path / "longer.yaml"
    tier.write_text(
        long_tier.read_text().replace("2560", "128000").replace("checkpoint_steps: 5", "checkpoint_steps: 20")
    )
    with growing() as (there, grow):
        given = train(panel, tier, tmp_path, "elastic", "--workers", "1-2", "--address", there)
        with launched(*given, "--set", "runtime.resize_seconds=2") as process:
            wait_for(process, tmp_path / "elastic", step_at_least(50))
            grow()
            log = wait_for(
                process, tmp_path / "elastic", lambda event: event["kind"] == "step" and event["world_size"] == 2
            )
            process.terminate()
            done = ended(process)
    assert done.code == 1, done
    worlds = [event["world_size"] for event in log if event["kind"] == "step"]
    assert (worlds[0], worlds[-1]) == (1, 2)


def _ray(*arguments: object) -> dict[str, Any]:
    return {
        "args": [sys.executable, "-m", "ray.scripts.scripts", *map(str, arguments)],
        "env": {**os.environ, "PYTHONPATH": str(SOURCES)},
    }


@contextmanager
def head(cpus: int, dashboard: int | None = None) -> Iterator[tuple[str, Callable[[], None]]]:
    """A Ray head of its own as a group of processes; its address, and what kills all of it at once.

    With a ``dashboard`` port it takes jobs there.
    """
    port = free_port()
    jobs = (
        ("--include-dashboard", "true", "--dashboard-port", dashboard)
        if dashboard
        else ("--include-dashboard", "false")
    )
    process = subprocess.Popen(
        **_ray("start", "--head", "--block", "--port", port, "--num-cpus", cpus, *jobs, "--min-worker-port", 0,
               "--max-worker-port", 0, "--dashboard-agent-listen-port", free_port(),
               "--ray-client-server-port", free_port()),
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip

    def kill() -> None:
        subprocess.run(["pkill", "-KILL", "-s", str(process.pid)], check=False)

    try:
        wait_for_port(port)
        yield f"127.0.0.1:{port}", kill
    finally:
        kill()
        process.wait()


@contextmanager
def two_nodes() -> Iterator[str]:
    with growing() as (there, grow):
        grow()
        yield there


@contextmanager
def growing() -> Iterator[tuple[str, Callable[[], None]]]:
    """A head with one processor, and what adds a machine with another."""
    nodes: list[subprocess.Popen[bytes]] = []
    with head(1) as (there, _):

        def grow() -> None:
            nodes.append(
                subprocess.Popen(
                    **_ray("start", "--address", there, "--block", "--num-cpus", 1, "--min-worker-port", 0,
                           "--max-worker-port", 0),
                    start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip

        try:
            yield there, grow
        finally:
            for node in nodes:
                subprocess.run(["pkill", "-KILL", "-s", str(node.pid)], check=False)
                node.wait()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def wait_for_port(port: int) -> None:
    import socket

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"port {port} never answered")
