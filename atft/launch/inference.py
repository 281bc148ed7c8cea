"""What finished runs say about what a test can show: power and paired tests, and all trials of a test period."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atft.errors import UseError
from atft.evaluate import multiple, result
from atft.evaluate.inference import YEAR
from atft.evaluate.metrics import LEAST_OBSERVATIONS
from atft.evaluate.multiple import Family
from atft.evaluate.paired import Paired
from atft.evaluate.pairing import check_comparable, common_rows
from atft.evaluate.result import Result
from atft.experiment import plan
from atft.experiment.names import run_path
from atft.experiment.plan import Level, Row, Seeds
from atft.experiment.registry import Evaluation, Trials, recipe_sha256
from atft.experiment.runs import Run
from atft.launch import places
from atft.launch.places import Place
from atft.schemes import is_fold
from atft.storage import Store, is_remote


def power_run(
    path: Path, *, difference: float = 0.5, ic_difference: float | None = None, against: Path | None = None,
    common_days: bool = False, level: float = 0.05, power: float = 0.8,
) -> dict[str, Any]:  # fmt: skip
    """Days and seeds that it takes to see a difference, from what a run has seen; with another run, the paired test.

    Args:
        path: directory or URI of the run.
        difference: of annual Sharpe ratios, that is to be seen.
        ic_difference: of mean information coefficients; not planned for where None.
        against: the other run.
        common_days: compare on the days that both have, also where panels or days differ.
        level: of the tests, two-sided.
        power: chance to see what is there.

    Raises:
        UseError: runs that cannot be compared or are not evaluated, or values that make no sense.
    """
    _check(difference, ic_difference, level, power)
    if common_days and against is None:
        raise UseError("--common-days: there is no other run. Mend: --against RUN2, or leave it out.")
    told, wanted = Level(level, power), {"sharpe": difference, "ic": ic_difference}
    units = {unit: value for unit, value in wanted.items() if value is not None}
    run, found = _evaluated(path)
    seeds = _seeds(path, run, found)
    rows: list[Row] = []
    tests: dict[str, Paired] = {}
    if against is None:
        for unit, value in units.items():
            rows += plan.planned(found, seeds, unit, value, told)
    else:
        other, its = _evaluated(against)
        check_comparable(found, its, common_days=common_days)
        both = (seeds, _seeds(against, other, its))
        for unit in wanted:
            row, tests[unit] = plan.planned_against(found, its, both, unit, units.get(unit, 1.0), told)
            rows += [row] if unit in units else []
    report = {
        "run": found.run, "against": str(against) if against else None, "level": level, "power": power,
        "seeds": len(seeds.sharpes), "rows": [row.plain() for row in rows],
        "tests": {unit: _plain(test) for unit, test in tests.items()},
    }  # fmt: skip
    return report | {"text": "\n".join([*_of_tests(tests), *_of_rows(rows, told), _of_seeds(found, seeds)])}


def trials_run(path: Path) -> dict[str, Any]:
    """Every registered evaluation of a run's test period, and what remains of each after the search among them.

    Raises:
        UseError: no evaluated run there, or an entry of the registry that cannot be read.
    """
    _, found = _evaluated(path)
    if found.test.inference is None:
        raise UseError(f"{path}: was evaluated before there was a registry. Mend: a run that is trained anew.")
    place = places.place_of(path)
    known = place.registry.trials(found.data_sha256, found.test.inference.test_sha256)
    there = {each.identity: _result_of(place, each) for each in known.trials}
    # A day of another horizon is no day of this one.
    held = {name: each for name, each in there.items() if each and each.test.horizon == found.test.horizon}
    family = _family(list(held.values())) if len(held) >= 2 else None
    rows = _trial_rows(known, list(held), family)
    report = {
        "trials": rows, "looks": known.looks, "elsewhere": known.elsewhere,
        "reality_check": family and family.reality_check, "superior_ability": family and family.superior,
        "first_date": str(found.test.first_date), "last_date": str(found.test.last_date),
    }  # fmt: skip
    return report | {"text": "\n".join(_of_trials(report, rows, family))}


def _check(difference: float, ic_difference: float | None, level: float, power: float) -> None:
    for name, value in (("--difference", difference), ("--ic-difference", ic_difference)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise UseError(f"{name} {value}: must be above 0. Mend: {name} {0.5 if name == '--difference' else 0.01}.")
    if not 0 < level < 0.5:
        raise UseError(f"--level {level}: must be between 0 and 0.5. Mend: --level 0.05.")
    if not 0.5 <= power < 1:
        raise UseError(f"--power {power}: must be from 0.5 to below 1. Mend: --power 0.8.")


def _evaluated(path: Path) -> tuple[Run, Result]:
    run = places.open_run(path)
    if not run.result.exists():
        raise UseError(f"run {path}: is not evaluated yet. Mend: `atft evaluate {path}` once it is trained.")
    return run, result.read(run.result)


def _seeds(path: Path, run: Run, found: Result) -> Seeds:
    """Figures over the seeds of the run's recipe, as the registry beside it knows them."""
    if found.test.inference is None or found.ensemble is not None:
        return Seeds((), ())
    place = places.place_of(path)
    known = place.registry.trials(found.data_sha256, found.test.inference.test_sha256)
    own = known.over_seeds(recipe_sha256(run.tier)).values()
    held = [there for each in own if (there := _result_of(place, each)) is not None]
    return Seeds(
        [each.sharpe_daily * YEAR for each in own if each.sharpe_daily is not None],
        [each.ic for each in own if each.ic is not None],
        [plan.series_of(each) for each in held],
    )


def _result_of(place: Place, evaluation: Evaluation) -> Result | None:
    """The result of a trial's run, where the run is still there and its result that of the trial.

    Args:
        place: of a run that shares its registry with the trial's.
        evaluation: the trial.
    """
    if evaluation.kind != "network":
        return None
    # An entry of before names the run of a fold without its directory: it can only be looked for beside this one.
    bare = is_fold(evaluation.run) and place.folder
    name = f"{place.folder}/{evaluation.run}" if bare else evaluation.run
    if is_remote(place.root):
        store = Store(f"{places.as_uri(place.root)}/{name}")
        if not store.exists("result.json"):
            return None
        with tempfile.TemporaryDirectory() as folder:
            store.download("result.json", Path(folder, "result.json"))
            found = result.read(Path(folder, "result.json"))
    else:
        file = run_path(place.root, name)
        if not (file / "result.json").exists():
            return None
        found = result.read(file / "result.json")
    same = found.config_sha256 == evaluation.config_sha256 and found.test.sharpe_daily == evaluation.sharpe_daily
    return found if same and found.test.series is not None and found.test.sharpe_daily is not None else None


def _family(found: Sequence[Result]) -> Family | None:
    """All of them against a ratio of 0, on the days that all have; None where these are too few."""
    series = [plan.series_of(each) for each in found]
    dates = list(series[0].dates)
    for each in series[1:]:
        dates = [dates[row] for row in common_rows(dates, each.dates)[0]]
    columns = [np.array(each.gross)[common_rows(dates, each.dates)[1]] for each in series]
    if len(dates) < LEAST_OBSERVATIONS:
        return None
    return multiple.compared_sharpes(np.column_stack(columns), horizon=found[0].test.horizon)


def _trial_rows(known: Trials, held: list[str], family: Family | None) -> list[dict[str, Any]]:
    rows = []
    tested = {} if family is None else _corrected(held, family, len(known.trials))
    for each in known.trials:
        told = each.model_dump(mode="json", include={"time", "run", "tier", "seed", "kind", "variant", "days", "ic"})
        annual = None if each.sharpe_daily is None else each.sharpe_daily * YEAR
        rows.append(told | {"sharpe_annual": annual, **tested.get(each.identity, {})})
    return rows


def _corrected(held: list[str], family: Family, trials: int) -> dict[str, dict[str, float]]:
    """One-sided p-values of each trial: alone, and corrected for the others.

    Holm and FDR count all ``trials``, those whose daily series are gone with p = 1, so that no deletion helps.
    """
    all_of_them = np.concatenate([family.p_values, np.ones(trials - len(held))])
    columns = {
        "p_value": family.p_values, "p_value_holm": multiple.holm(all_of_them),
        "p_value_stepdown": family.stepdown, "q_value": multiple.benjamini_hochberg(all_of_them),
    }  # fmt: skip
    return {
        identity: {name: float(values[row]) for name, values in columns.items()} for row, identity in enumerate(held)
    }


def _of_trials(report: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], family: Family | None) -> list[str]:
    lines = [
        f"test period {report['first_date']}..{report['last_date']}: {_counted(len(rows), 'different evaluation')} in "
        f"{_counted(report['looks'], 'look')}",
        f"elsewhere: {_counted(report['elsewhere'], 'different evaluation')} on overlapping dates, of other panels or "
        "other test periods; not in this list",
        "",
        f"{'run':24} {'seed':>5} {'what':16} {'days':>5} {'Sharpe/year':>12} {'IC':>8} {'p alone':>8} {'Holm':>7} "
        f"{'stepdown':>9} {'FDR':>7}",
    ]
    for row in rows:
        p = [row.get(name) for name in ("p_value", "p_value_holm", "p_value_stepdown", "q_value")]
        lines.append(
            f"{row['run']:24} {row['seed']:>5} {row['variant']:16} {row['days']:>5} "
            f"{_number(row['sharpe_annual'], 2):>12} {_number(row['ic'], 4):>8} {_number(p[0], 4):>8} "
            f"{_number(p[1], 4):>7} {_number(p[2], 4):>9} {_number(p[3], 4):>7}"
        )
    return [*lines, "", *_of_family(len(rows), sum("p_value" in row for row in rows), family)]


def _of_family(trials: int, tested: int, family: Family | None) -> list[str]:
    """What the p-values are, and what they say of the search as a whole."""
    if family is None:
        return ["no p-values: fewer than two of these runs are still there with their daily series"]
    gone = trials - tested
    lines = [
        "p: chance of a Sharpe ratio as high as this where the true one is 0. alone: as if the run were the only one.",
        "Holm, stepdown: chance that any of them gets as high where no true one is above 0.",
        "FDR: share of mere chance to expect among the findings, where this one and all below it in p are called some.",
    ]
    if gone:
        lines.append(
            f"{gone} without p-values (run deleted, a backtest, or another horizon): in Holm and FDR as p = 1, not in "
            "stepdown and below"
        )
    return [
        *lines,
        f"the whole search: where no true Sharpe ratio is above 0, the best of {tested} looks as good as this one with",
        f"probability {family.reality_check:.4f} (White's reality check), {family.superior:.4f} (Hansen's SPA); "
        f"blocks of {family.block_days:.1f} days",
    ]


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _of_tests(tests: Mapping[str, Paired]) -> list[str]:
    """The paired tests in columns; nothing where there are none."""
    if not tests:
        return []
    names = {"sharpe": "Sharpe ratio, a year", "ic": "mean IC"}
    some = next(iter(tests.values()))
    lines = [
        f"paired on {some.days} common days",
        f"{'':24} {'difference':>11} {'95 % interval':>20} {'corr.':>6} {'p, HAC':>8} {'p, bootstrap':>13}",
    ]
    for unit, each in tests.items():
        digits, found = (2 if unit == "sharpe" else 4), each.bootstrap
        span = f"{_number(found.low, digits)} .. {_number(found.high, digits)}"
        lines.append(
            f"{names[unit]:24} {_number(found.estimate, digits):>11} {span:>20} {each.correlation:>6.2f} "
            f"{_number(each.p_value_hac, 4):>8} {_number(each.p_value, 4):>13}"
        )
    return [*lines, f"({some.bootstrap.method})", ""]


def _of_rows(rows: Sequence[Row], level: Level) -> list[str]:
    lines: list[str] = []
    for unit in dict.fromkeys(row.unit for row in rows):
        lines += [*plan.as_text([row for row in rows if row.unit == unit], level), ""]
    return [*lines, *plan.legend(rows), ""] if rows else lines


def _of_seeds(found: Result, seeds: Seeds) -> str:
    if found.ensemble is not None:
        return (
            f"chance in training is left out: this is an ensemble of {len(found.ensemble.seeds)}, and one ensemble "
            "tells nothing of how others would differ"
        )
    if not seeds.known:
        number = "1 seed" if len(seeds.sharpes) == 1 else "no seed"
        return (
            f"chance in training is left out, since {number} of this recipe is registered on these test days. "
            "Train it under other seeds (--seed) to know."
        )
    spread, alike = math.sqrt(seeds.variance("sharpe")), seeds.correlation("sharpe")
    count = len(seeds.sharpes)
    told = f"over {count} seeds of {found.tier} the annual Sharpe ratio has a standard deviation of {spread:.2f}"
    if math.isnan(alike):
        return (
            f"{told}; fewer than two of their runs are still there, so that all of it counts as chance in training, "
            "which more days do not take away"
        )
    return f"{told}; the daily returns of two seeds have a correlation of {alike:.2f}"


def _plain(test: Paired) -> dict[str, Any]:
    def interval(name: str) -> dict[str, Any]:
        each = getattr(test, name)
        return {part: _null(getattr(each, part)) for part in ("estimate", "standard_error", "low", "high", "method")}

    return {
        "days": test.days, "correlation": _null(test.correlation), "hac": interval("hac"),
        "p_value_hac": _null(test.p_value_hac), "bootstrap": interval("bootstrap"), "p_value": _null(test.p_value),
        "block_days": test.block_days,
    }  # fmt: skip


def _null(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
