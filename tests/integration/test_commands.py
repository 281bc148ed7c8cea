"""Every command answers, in words or as one JSON object, and says in one line what it cannot do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import atft
from atft.experiment.tiers import names
from tests.integration.command import refused, run, run_apart, unchanged
from tests.integration.conftest import Train

COMMANDS = {
    (): ("train", "data", "evaluate", "report", "baselines", "tiers", "--debug", "--version"),
    ("data",): ("build", "synth"),
    ("data", "build"): ("SOURCE", "OUT", "--roles", "--strict", "--most-bad", "--overwrite", "--json"),
    ("data", "synth"): ("OUT", "--stocks", "--days", "--ic", "--seed", "--json"),
    ("baselines",): ("PANEL", "--tier", "--only", "--seeds", "--runs", "--set", "--json"),
    ("predict",): ("RUN", "--data", "--period", "--from", "--to", "--out", "--overwrite", "--workers", "--json"),
    ("backtest",): (
        "RUN",
        "--strategy",
        "--quantile",
        "--k",
        "--cost-bps",
        "--impact",
        "--capital",
        "--borrow-bps",
        "--neutralise",
        "--neutralise-what",
        "--execution",
        "--lag",
        "--drift / --no-drift",
        "--delisting-return",
        "--out",
        "--json",
    ),
    ("verify",): ("exactness", "determinism"),
    ("verify", "exactness"): ("TIER", "--data", "--workers", "--micro-batches", "--dtype", "--step", "--set", "--json"),
    ("verify", "determinism"): ("TIER", "--data", "--workers", "--steps", "--dtype", "--set", "--json"),
    ("train",): (
        "TIER",
        "--data",
        "--run",
        "--resume",
        "--again",
        "--workers",
        "--address",
        "--batch-size",
        "--lr",
        "--max-epochs",
        "--set",
        "--json",
    ),
    ("evaluate",): ("RUN", "--protocol", "--json"),
    ("report",): ("RUN", "--out", "--json"),
    ("power",): (
        "RUN",
        "--difference",
        "--ic-difference",
        "--against",
        "--common-days",
        "--level",
        "--power",
        "--json",
    ),
    ("trials",): ("RUN", "--json"),
    ("tiers",): ("--json",),
}


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_explains_itself(command: tuple[str, ...], flag: str) -> None:
    shown = run(*command, flag)
    assert (shown.code, shown.err) == (0, "")
    assert shown.out.startswith(f"Usage: {' '.join(('atft', *command))} ")
    for each in COMMANDS[command]:
        assert each in shown.out


@pytest.mark.parametrize("group", [(), ("data",)])
def test_a_group_without_a_command_shows_what_there_is(group: tuple[str, ...]) -> None:
    shown = run(*group)
    assert (shown.code, shown.out) == (2, "")
    assert "Commands:" in shown.err


def test_the_module_runs_as_a_program() -> None:
    shown = run_apart("--version")
    assert (shown.code, shown.out, shown.err) == (0, f"atft, version {atft.__version__}\n", "")
    refused(run_apart("trian"), "No such command 'trian'", "Mend")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("trian",), "No such command 'trian'"),
        (("train", "--dta", "x"), "No such option"),
        (("evaluate",), "Missing argument 'RUN'"),
        (("evaluate", "a", "b"), "unexpected extra argument"),
        (("data", "synth", "x", "--start", "soon"), "'soon'"),
        (("data", "build", "a", "b", "--most-bad", 2), "--most-bad"),
        (("data", "build", "a", "b", "--normalise", "no"), "'rank', 'zscore'"),
    ],
)
def test_wrong_use_is_told_in_one_line(given: tuple[object, ...], told: str, tmp_path: Path) -> None:
    outcome = run(*given)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("atft: ")
    assert outcome.err.count("\n") == 1
    assert told in outcome.err
    assert "--help` shows" in outcome.err
    if given[0] not in ("trian", "data"):
        assert told in run(*given, "--json").json["error"]


def test_tiers_are_listed_with_their_batches() -> None:
    shown = run("tiers")
    assert (shown.code, shown.err) == (0, "")
    assert [line.split()[0] for line in shown.out.splitlines()] == names()
    assert "1,024 = 16 days × 64 stocks" in shown.out
    told = run("tiers", "--json").json
    assert sorted(told) == names()
    assert told["tier2"]["batch"] == {"days": 4, "stocks_per_day": 64, "block_days": 4}


def test_a_market_of_no_signal_says_so(tmp_path: Path) -> None:
    made = run("data", "synth", tmp_path / "m", "--stocks", 30, "--days", 120, "--ic", 0)
    assert (made.code, made.err) == (0, "")
    assert "planted IC 0\n" in made.out
    assert "best reachable: IC 0.0000; held in proportion to the true signal, Sharpe 0.0 a year" in made.out
    assert f"panel: {tmp_path / 'm/panel'}" in made.out
    assert json.loads((tmp_path / "m/truth.json").read_text())["reachable"]["ic"] == 0


def test_the_same_market_is_made_twice_and_another_seed_makes_another(tmp_path: Path) -> None:
    made = [
        run("data", "synth", tmp_path / f"m{number}", "--stocks", 30, "--days", 60, "--seed", seed, "--json").json
        for number, seed in enumerate((3, 3, 4))
    ]
    assert [each["options"]["seed"] for each in made] == [3, 3, 4]
    first, again, other = ((tmp_path / f"m{number}/market.parquet").read_bytes() for number in range(3))
    assert first == again != other


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--stocks", 5), "--stocks = 5"),
        (("--ic", 0.95), "--ic = 0.95"),
        (("--stocks", 15), "industries = 12"),
        (("--execution-lag", -1), "--execution-lag = -1"),
    ],
)
def test_a_market_that_cannot_be_is_refused(given: tuple[object, ...], told: str, tmp_path: Path) -> None:
    with unchanged(tmp_path):
        refused(run("data", "synth", tmp_path / "m", *given), told)


def test_a_report_is_written_where_it_is_asked_for(whole: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    with unchanged(whole):
        shown = run("report", whole, "--out", page)
    assert (shown.code, shown.out, shown.err) == (0, f"report: {page}\n", "")
    assert page.read_text().startswith("<!")
    with unchanged(tmp_path):
        refused(run("report", whole, "--out", tmp_path / "no/page.html"), str(tmp_path / "no/page.html"), "Mend")


def test_a_run_that_has_not_finished_is_reported_as_such(stopped: Path, tmp_path: Path) -> None:
    shutil.copytree(stopped, tmp_path / "part")
    shown = run("report", tmp_path / "part", "--json")
    assert (shown.code, shown.err) == (0, "")
    page = Path(shown.json["report"]).read_text()
    assert "Not finished" in page
    assert "step 5 of 18" in page
    assert "result.json is not there" in page


def test_what_is_no_run_is_not_reported_or_evaluated(panel: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    with unchanged(tmp_path), unchanged(panel):
        for place in (tmp_path / "empty", tmp_path / "none", tmp_path / "file", panel):
            refused(run("report", place), str(place), "Mend")
            refused(run("evaluate", place), str(place), "Mend")


def test_debug_shows_where_an_error_came_from(tmp_path: Path) -> None:
    plain, shown = run("evaluate", tmp_path), run("--debug", "evaluate", tmp_path)
    refused(plain, "no run there")
    assert shown.code == 2
    assert "Traceback (most recent call last)" in shown.err
    assert shown.err.endswith(plain.err)


def test_an_error_of_ours_is_no_traceback_either(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: object, **more: object) -> None:
        raise ZeroDivisionError("by a test")

    monkeypatch.setattr("atft.launch.local.prepare", broken)
    with unchanged(tmp_path):
        failed = train(tmp_path, "x")
    assert failed.code == 1
    assert failed.err.endswith("\natft: unexpected ZeroDivisionError: by a test (atft --debug … shows where).\n")


def test_an_interrupted_run_says_how_to_go_on(train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("atft.train.loop.validate", interrupted)
    failed = train(tmp_path, "x")
    assert failed.code == 1
    assert "interrupted" in failed.err
    assert "--resume" in failed.err
    assert "Traceback" not in failed.err


@pytest.mark.parametrize("check", ["exactness", "determinism"])
@pytest.mark.parametrize("passed", [True, False])
def test_a_check_tells_its_report_and_fails_with_it(
    check: str, passed: bool, tier_file: Path, panel: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = {"passed": passed, "failure": "3 partitions beyond their bound. Mend: …", "text": "the table"}
    monkeypatch.setattr(f"atft.launch.verify.{check}", lambda *given, **named: report)
    told = run("verify", check, tier_file, "--data", panel, "--json")
    assert (told.code, told.json["passed"]) == (0 if passed else 1, passed)
    shown = run("verify", check, tier_file, "--data", panel)
    assert (shown.code, shown.out) == (0 if passed else 1, "the table\n")
    assert shown.err == ("" if passed else "atft: 3 partitions beyond their bound. Mend: …\n")
