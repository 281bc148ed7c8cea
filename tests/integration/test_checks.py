"""Checks before a run, differences and modes as a user meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from atft.experiment.rules import BELOW_MINIMUM, REASONS
from tests.integration.command import SOURCES, Outcome, refused, run, unchanged
from tests.integration.conftest import Train


def test_the_failed_tier_is_refused_with_its_table_and_runs_when_accepted(tmp_path: Path) -> None:
    found = run("validate", "tier2", "--runs", tmp_path)
    assert (found.code, found.err) == (2, "")
    assert found.out.count("FAIL ") == 3
    assert "tier2 is refused, 3 reason(s):" in found.out
    told = run("validate", "tier2", "--runs", tmp_path, "--json")
    assert (told.code, told.json["passed"], told.json["refused"]) == (2, False, list(REASONS))
    for given in (("--accept",), ("--accept=all",), [part for name in REASONS for part in ("--accept", name)]):
        accepted = run("validate", "tier2", *given, "--json")
        assert (accepted.code, accepted.json["accepted"]) == (0, list(REASONS))
    assert run("validate", "tier2", "--accept", BELOW_MINIMUM, "--json").json["refused"] == list(REASONS[1:])


def test_the_retry_passes_with_warnings_and_one_step_of_it_is_causal() -> None:
    found = run("validate", "tier2-retry")
    assert found.code == 0
    assert "check: warn differs from it" in found.out
    step = run("validate", "tier2-retry", "--against", "tier2", "--json")
    assert step.json["figures"]["variables"] == ["batch.days"]
    assert run("validate", "tier1", "--against", "nothing").code == 2


def test_a_reason_that_is_none_is_told_with_the_nearest() -> None:
    refused(run("validate", "tier2", "--accept", "batch-below-minimun"), "Nearest: batch-below-minimum", "Mend")
    refused(run("validate", "--accept", "tier2", "tier2"), "--accept tier2", "before another option")


def test_parameters_are_counted_by_the_manifest_of_a_panel_whose_tensors_are_not_there(
    panel: Path, tmp_path: Path
) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare/manifest.json").write_bytes((panel / "manifest.json").read_bytes())
    found = run("validate", "tier1", "--data", tmp_path / "bare", "--json")
    count = len(json.loads((panel / "manifest.json").read_text())["features"])
    assert found.json["figures"]["features"] == count != 306
    assert f"the panel has {count} features, and the tier is meant for 306" in run(
        "validate", "tier1", "--data", tmp_path / "bare"
    ).out  # fmt: skip


def test_a_run_that_a_check_refuses_is_not_made(panel: Path, tier_file: Path, tmp_path: Path) -> None:
    given = ("train", tier_file, "--data", panel, "--runs", tmp_path, "--run", "no")
    with unchanged(tmp_path):
        refused(
            run(*given), "tiny is refused, 1 reason(s)", BELOW_MINIMUM, "128 stock-days", "Mend: --set batch.days=64"
        )
        refused(run(*given, "--accept", REASONS[2]), BELOW_MINIMUM)


def test_a_run_records_its_checks_and_a_resumed_one_keeps_what_was_accepted(whole: Path, stopped: Path) -> None:
    told = json.loads((whole / "config.json").read_text())["checks"]
    assert told["accepted"] == [BELOW_MINIMUM]
    assert {row["status"] for row in told["rows"]} >= {"pass", "accepted"}
    assert "accepted: batch-below-minimum" in (whole / "report.html").read_text()
    assert json.loads((stopped / "config.json").read_text())["checks"]["accepted"] == [BELOW_MINIMUM]


def test_a_run_is_resumed_without_accepting_again(
    stopped: Path, tier_file: Path, tmp_path: Path, no_report: None
) -> None:
    import shutil

    shutil.copytree(stopped, tmp_path / "part")
    done = run("train", tier_file, "--runs", tmp_path, "--run", "part", "--resume")
    assert done.code == 0, done
    assert f"check: accepted {BELOW_MINIMUM}" in done.err


def test_what_does_not_pass_is_said_before_a_run_and_not_in_json(train: Train, tmp_path: Path) -> None:
    done: Outcome = train(tmp_path, "no", "--set", "split.test.first=2030-01-01", "--set", "split.test.last=2030-02-01")
    assert done.code == 2
    assert done.err.startswith("check: ")


def test_safe_mode_is_one_process(panel: Path, tier_file: Path, tmp_path: Path) -> None:
    for workers in ("2", "1-2"):
        with unchanged(tmp_path):
            given = ("train", "--accept=all", tier_file, "--data", panel, "--runs", tmp_path, "--set", "mode=safe")
            refused(run(*given, "--workers", workers), "mode safe is one process", "Mend: --workers 1")


def test_differences_of_tiers_files_and_runs_in_any_mix(whole: Path, tier_file: Path) -> None:
    found = run("diff", "tier1", "tier2", "--json").json
    assert (found["named"], found["causal"]) == (["batch.days", "model.hidden_size"], False)
    same = run("diff", tier_file, whole, "--json").json
    assert (same["learning"], same["data"]) == ([], None)
    itself = run("diff", whole, whole)
    assert "panel data: the same" in itself.out
    assert "nothing that learning depends on differs" in itself.out
    assert run("diff", "tier2", "tier2-retry", "--json").json["causal"] is True
    refused(run("diff", "tier1", "teir2"), "Nearest: tier2", "directory of a run")


def test_differences_are_of_what_files_state_whatever_the_environment_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIDDEN_SIZE", "256")
    assert run("diff", "tier1", "tier1", "--json").json["variables"] == 0
    assert run("validate", "tier1", "--json").json["figures"]["variables"] == ["model.hidden_size"]


def test_modes_are_told_with_the_table_and_its_caveats() -> None:
    found = run("modes").out
    for each in ("debugging", "reproducibility", "final experiments", "production", "a mode does not set it"):
        assert each in found
    told = run("modes", "--json").json
    assert [(each["scenario"], each["mode"]) for each in told["decisions"]] == [
        ("debugging", "safe"), ("reproducibility", "safe"), ("final experiments", "optimized"),
        ("production", "optimized"),
    ]  # fmt: skip
    assert told["modes"]["safe"]["loader_workers"] == 0
    assert told["modes"]["safe"]["deterministic"] is True


def test_validate_loads_nothing_heavy_but_torch() -> None:
    heavy = {"polars", "ray", "sklearn", "scipy", "pandas", "torch_geometric", "torch._dynamo", "jinja2"}
    code = (
        "import sys; from atft.commands.validate import validate; "
        "validate.main(['tier1'], standalone_mode=False); "
        f"print('loaded', *({heavy!r} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCES)
    assert done.stdout.splitlines()[-1] == "loaded"
