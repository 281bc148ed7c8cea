"""Runs go into archives and come back, on a disk and in an object store; and into other programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from atft.experiment.index import RunIndex
from atft.storage import Store
from tests.integration.command import refused, run, tree, unchanged
from tests.s3_server import S3Server, served
from tests.unit.experiment.test_index import kill_while_recording


@pytest.fixture
def root(whole: Path, tmp_path: Path) -> Path:
    """A copy of a finished run with its index and registry."""
    shutil.copytree(whole.parent, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with served(tmp_path_factory.mktemp("s3")) as running:
        yield running


def states(root: Path | str, name: str) -> list[str]:
    return [entry.state for entry in RunIndex(Store(f"{root}/_runs")).runs()[name].history]


def test_a_run_is_archived_removed_and_restored_with_all_that_was_known(root: Path, tmp_path: Path) -> None:
    before, facts = tree(root / "whole"), RunIndex(Store(root / "_runs")).runs()["whole"].facts
    out = tmp_path / "whole.tar.gz"
    assert run("runs", "archive", root / "whole", "--out", out).code == 0
    assert tree(root / "whole") == before
    assert "archived, kept" in run("runs", "list", "--runs", root).out
    refused(run("runs", "restore", out, "--runs", root), "exists already")
    refused(run("runs", "archive", root / "whole", "--out", out, "--remove"), "exists already")
    again = tmp_path / "again.tar.gz"
    assert run("runs", "archive", root / "whole", "--out", again, "--remove").code == 0
    assert again.read_bytes() == out.read_bytes()
    assert not (root / "whole").exists()
    assert [each["label"] for each in run("runs", "list", "--runs", root, "--json").json["runs"]] == ["archived"]
    assert str(again) in run("runs", "show", "whole", "--runs", root).out
    refused(run("runs", "archive", "whole", "--runs", root), "its files are not there")

    assert run("runs", "restore", out, "--runs", root).code == 0
    assert tree(root / "whole") == before
    assert states(root, "whole") == ["running", "done", "archived", "archived", "done"]
    assert run("evaluate", root / "whole").code == 0

    elsewhere = tmp_path / "elsewhere"
    assert run("runs", "restore", out, "--runs", elsewhere).code == 0
    assert tree(elsewhere / "whole") == before
    found = RunIndex(Store(elsewhere / "_runs")).runs()["whole"]
    assert [entry.state for entry in found.history] == ["running", "done", "done"]
    assert {name: found.facts[name] for name in facts} == facts


def test_a_damaged_archive_leaves_nothing_of_the_run(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "whole.tar.gz"
    assert run("runs", "archive", root / "whole", "--out", out).code == 0
    whole = out.read_bytes()
    out.write_bytes(whole[: len(whole) // 2])
    (tmp_path / "elsewhere").mkdir()
    with unchanged(tmp_path):
        refused(run("runs", "restore", out, "--runs", tmp_path / "elsewhere"), "is damaged", "Mend")


def test_several_runs_in_one_directory_are_one_archive(root: Path, tmp_path: Path) -> None:
    for number in (0, 1):
        shutil.copytree(root / "whole", root / f"walk/fold-0{number}")
    (root / "walk/folds.json").write_text("{}")
    before = tree(root / "walk")
    done = run("runs", "archive", "walk", "--runs", root, "--out", tmp_path / "walk.tar.gz", "--remove")
    assert done.code == 0
    assert not (root / "walk").exists()
    assert states(root, "walk/fold-01") == ["archived"]
    assert run("runs", "restore", tmp_path / "walk.tar.gz", "--runs", root).code == 0
    assert tree(root / "walk") == before
    assert states(root, "walk/fold-01") == ["archived", "done"]
    refused(run("runs", "show", "walk", "--runs", root), "directory of 2 runs", "walk/fold-01")
    assert run("runs", "delete", "walk", "--runs", root, "--yes").code == 0
    assert not (root / "walk").exists()
    assert states(root, "walk/fold-00")[-1] == "deleted"


def test_all_of_it_works_in_an_object_store(
    server: S3Server, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATFT_CACHE", str(tmp_path / "cache"))
    uri = "s3://bucket/runs"
    for name in tree(root):
        if (root / name).is_file():
            Store(uri).upload(root / name, name)
    listed = run("runs", "list", "--runs", uri, "--json").json["runs"]
    here = run("runs", "list", "--runs", root, "--json").json["runs"]
    assert [each | {"age_seconds": 0} for each in listed] == [each | {"age_seconds": 0} for each in here]
    before = {name: Store(f"{uri}/whole").read(name) for name in Store(f"{uri}/whole").list()}
    assert before.keys() == run("runs", "show", f"{uri}/whole", "--json").json["files"].keys()
    archive = f"{uri}-archives/whole.atft"  # this server compresses what is called .gz once more
    done = run("runs", "archive", f"{uri}/whole", "--out", archive, "--remove")
    assert done.code == 0, done
    assert Store(f"{uri}/whole").list() == {}
    assert [each["label"] for each in run("runs", "list", "--runs", uri, "--json").json["runs"]] == ["archived"]
    assert "| whole | archived |" in Store(uri).read("EXPERIMENTS.md").decode()
    assert run("runs", "restore", archive, "--runs", uri).code == 0
    assert {name: Store(f"{uri}/whole").read(name) for name in Store(f"{uri}/whole").list()} == before
    assert run("runs", "delete", f"{uri}/whole", "--yes").code == 0
    assert Store(f"{uri}/whole").list() == {}
    assert states(uri, "whole") == ["running", "done", "archived", "done", "deleted"]


def test_writers_to_an_object_store_that_are_killed_lose_nothing(server: S3Server, tmp_path: Path) -> None:
    kill_while_recording("s3://bucket/killed/_runs", tmp_path, writers=2, least=20)


def test_tensorboard_reads_back_every_curve(root: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = run("runs", "export", root / "whole", "--to", "tensorboard", "--out", tmp_path / "tb")
    assert done.code == 0, done
    events = EventAccumulator(str(tmp_path / "tb/whole"))
    events.Reload()
    told = [json.loads(line) for line in (root / "whole/events.jsonl").read_text().splitlines()]
    losses = [(each["step"], each["loss"]) for each in told if each["kind"] == "step"]
    assert [(each.step, each.value) for each in events.Scalars("step/loss")] == [
        (step, pytest.approx(loss, rel=1e-6)) for step, loss in losses
    ]
    assert [each.step for each in events.Scalars("epoch/train_loss")] == [3, 6, 9, 12, 15, 18]
    test = json.loads((root / "whole/result.json").read_text())["test"]
    assert events.Scalars("test/ic")[0].value == pytest.approx(test["ic"], rel=1e-6)
    assert b"| model.hidden_size | 8 |" in events.Tensors("settings")[0].tensor_proto.string_val[0]
    refused(run("runs", "export", root / "whole", "--to", "tensorboard", "--out", tmp_path / "tb"), "exists already")


def test_mlflow_reads_back_every_curve(root: Path, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    done = run("runs", "export", "whole", "--runs", root, "--to", "mlflow", "--out", tmp_path / "ml")
    assert done.code == 0, done
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/ml/mlflow.db")
    experiment = client.get_experiment_by_name("atft")
    assert experiment is not None
    (found,) = client.search_runs([experiment.experiment_id])
    told = [json.loads(line) for line in (root / "whole/events.jsonl").read_text().splitlines()]
    losses = [(each["step"], each["loss"]) for each in told if each["kind"] == "step"]
    assert [(each.step, each.value) for each in client.get_metric_history(found.info.run_id, "step/loss")] == losses
    test = json.loads((root / "whole/result.json").read_text())["test"]
    assert found.data.metrics["test/ic"] == test["ic"]
    assert found.data.metrics["test/ic_low"] == test["ic_ci95"][0]
    assert found.data.params["model.hidden_size"] == "8"
    assert (found.info.run_name, found.info.status, found.data.tags["atft.tier"]) == ("whole", "FINISHED", "tiny")
    assert {each.path for each in client.list_artifacts(found.info.run_id)} >= {"config.json", "result.json"}
    refused(
        run("runs", "export", "whole", "--runs", root, "--to", "mlflow", "--out", tmp_path / "ml"), "has it already"
    )


@pytest.mark.parametrize("library", ["mlflow", "tensorboard"])
def test_a_library_that_is_missing_is_told_with_the_mend(
    root: Path, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [each for each in sys.modules if each.startswith((library, f"atft.experiment.export_{library}"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    refused(run("runs", "export", root / "whole", "--to", library), f"pip install 'atft[{library}]'")
