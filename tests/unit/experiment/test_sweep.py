"""Sweep files: one variable, values that differ, and everything wrong said at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from atft.errors import UseError
from atft.experiment import sweep
from atft.experiment.tiers import resolve

WHOLE = {
    "description": "A test.",
    "tier": "tier1",
    "variable": "model.hidden_size",
    "values": [64, 128],
    "seeds": [1],
    "metric": "validation",
}


def read(folder: Path, **stated: object) -> sweep.Sweep:
    path = folder / "mine.yaml"
    whole = {key: value for key, value in {**WHOLE, **stated}.items() if value != "left out"}
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    return sweep.read(str(path))


def test_the_shipped_sweeps_are_those_that_the_original_analysis_asked_for() -> None:
    found = {name: sweep.read(name) for name in sweep.names()}
    assert found.keys() == {"lr", "batch", "epochs", "batch-256", "middle-trap"}
    assert found["lr"].values == (1e-4, 2e-4, 3e-4, 5e-4)
    assert found["batch"].values == (1024, 2048, 4096)
    assert found["epochs"].values[-1] == 50
    assert found["batch-256"].values == tuple(256 * 2**n for n in range(6))
    assert resolve(found["batch-256"].tier).tier.model.hidden_size == 256
    assert found["middle-trap"].values == (64, 128, 256)
    assert all(len(each.seeds) >= 3 and each.hold is None for each in found.values())


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UseError, match=r"no sweep named 'midle-trap'\. Nearest: middle-trap"):
        sweep.read("midle-trap")


@pytest.mark.parametrize(
    "stated",
    [
        {"variable": ["model.hidden_size", "batch.days"]},
        {"variable": {"model.hidden_size": [1], "batch.days": [2]}},
        {"variables": ["model.hidden_size", "batch.days"], "variable": "left out"},
        {"values": {"model.hidden_size": [1], "batch.days": [2]}},
        {"values": [{"model.hidden_size": 64, "batch.days": 16}, {"model.hidden_size": 128, "batch.days": 32}]},
    ],
    ids=str,
)
def test_two_variables_are_refused_however_they_are_written(stated: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(
        UseError, match=r"more than one variable \(model\.hidden_size, batch\.days\).*sweep file for each"
    ):
        read(tmp_path, **stated)


@pytest.mark.parametrize(
    ("stated", "told"),
    [
        ({"values": []}, "nothing would be trained"),
        ({"values": [64]}, "one value is no sweep"),
        ({"values": [64, 128, 64]}, "64 stands there twice"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [1, 1]}, "1 stands there twice"),
        ({"metric": "test"}, "metric"),
        ({"metric": "left out"}, "metric: not stated"),
        ({"valuess": [1]}, "Nearest: values"),
        ({"variable": "seed"}, "every point has its seeds"),
        ({"variable": "runtime.threads"}, "nothing that is learned depends on it"),
        ({"variable": "split.embargo_days"}, "changes what is measured"),
        ({"variable": "modle.hidden_size"}, "no such setting"),
        ({"range": {"low": 2, "high": 1, "trials": 3}}, "must be below"),
        ({"range": {"low": 0, "high": 1, "log": True, "trials": 3}}, "above 0"),
    ],
    ids=str,
)
def test_what_a_file_may_not_say_is_refused_by_name(stated: dict[str, object], told: str, tmp_path: Path) -> None:
    with pytest.raises(UseError) as refused:
        read(tmp_path, **stated)
    assert told in str(refused.value)


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(UseError) as refused:
        read(tmp_path, values=[64, 64], variable="seed", seeds=[2, 2])
    for told in ("64 stands there twice", "every point has its seeds", "2 stands there twice"):
        assert told in str(refused.value)


def test_a_batch_sweep_has_to_say_what_it_holds_and_no_other_may() -> None:
    batch, rates = sweep.read("batch"), sweep.read("lr")
    with pytest.raises(UseError, match=r"--hold samples .* or --hold steps"):
        sweep.changed(batch)
    assert sweep.changed(batch, hold="steps").hold == "steps"
    with pytest.raises(UseError, match="changes no batch"):
        sweep.changed(rates, hold="samples")


@pytest.mark.parametrize(("text", "seeds"), [("3", [1, 2, 3]), ("4,9", [4, 9]), ("7,", [7])])
def test_seeds_are_a_number_or_a_list(text: str, seeds: list[int]) -> None:
    assert sweep.seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "a", "1,b", "", ","])
def test_seeds_that_are_neither_are_refused(text: str) -> None:
    with pytest.raises(UseError, match="--seeds"):
        sweep.seeds_of(text)
