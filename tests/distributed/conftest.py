"""A small market, a tier of some hundred steps, and one real Ray for the whole suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.command import Outcome, run
from tests.integration.conftest import TINY, market, panel, plain_environment, tier_file, tiny

__all__ = ["market", "panel", "plain_environment", "tier_file", "tiny"]

LONG = (
    TINY.replace("epoch_stock_days: 384", "epoch_stock_days: 2560")
    .replace("runtime: {threads: 1}", "runtime: {threads: 1, checkpoint_steps: 5}")
    .replace("Seconds on one core.", "120 steps of four blocks.")
)


@pytest.fixture(scope="session")
def long_tier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiers") / "long.yaml"
    path.write_text(LONG)
    return path


@pytest.fixture(scope="session")
def alone(long_tier: Path, panel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process that all others are compared with."""
    runs = tmp_path_factory.mktemp("alone")
    done = run("train", "--accept=all", long_tier, "--data", panel, "--runs", runs, "--run", "alone", "--json")
    assert done.code == 0, done
    return runs / "alone"


@pytest.fixture(scope="session", autouse=True)
def ray_environment() -> Iterator[None]:
    """For the Rays of the tests, all of this machine: no tokens, and peers found on loopback."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.setenv("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")
        patch.setenv("GLOO_SOCKET_IFNAME", "lo")
        yield


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """A Ray of two processors in this process, started once and stopped at the end."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="session")
def pair(long_tier: Path, panel: Path, address: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The undisturbed run of two workers."""
    runs = tmp_path_factory.mktemp("pair")
    done = run(
        "train", "--accept=all", long_tier, "--data", panel, "--runs", runs, "--run", "pair", "--workers", 2, "--json"
    )
    assert done.code == 0, done
    return runs / "pair"


__all__ += ["Outcome"]
