"""Variables that look like settings are refused, and what has nothing to do with us is left alone."""

from __future__ import annotations

import pytest

from atft.errors import UseError
from atft.experiment.tiers import resolve
from atft.experiment.variables import SHORT_NAMES, lookalike, read

MISSPELT = {
    "SHARPE_WIEGHT": "SHARPE_WEIGHT", "SHARPE_WEIGTH": "SHARPE_WEIGHT", "BATCHSIZE": "BATCH_SIZE",
    "BATCH_SIEZ": "BATCH_SIZE", "BATCH_SIZES": "BATCH_SIZE", "batch_size": "BATCH_SIZE", "HIDEN_SIZE": "HIDDEN_SIZE",
    "RANK_IC_WEIGHT": "RANKIC_WEIGHT", "CSIC_WEIGHT": "CS_IC_WEIGHT", "lr": "LR", "LEARNING_RATE": "LR",
    "LEARNING_RATES": "LR", "MAX_EPOCHS": "ATFT_MAX_EPOCHS", "AFTF_SEED": "ATFT_SEED",
    "ATF_BATCH__DAYS": "ATFT_BATCH__DAYS",
    "FORCE_SINGLE_PROCES": "ATFT_MODE=safe",
}  # fmt: skip
UNRELATED = ["PATH", "LRU", "L", "LRS", "HOME", "PATCH_SIZE", "BATCH", "SIZE", "FONT_SIZE", "WEIGHT", "SEED", "MODE",
             "HIDDEN", "OMP_NUM_THREADS", "SHARPE", "KUBERNETES_SERVICE_HOST", "RAY_BATCH_SIZE",
             "ATOM_HOME", "FAST_MODE",
             "LC_ALL", "BATCH_JOB_ID", "MAX_JOBS", "AUTH_MODE"]  # fmt: skip


@pytest.mark.parametrize(("variable", "meant"), MISSPELT.items())
def test_a_variable_that_is_almost_ours_is_refused_with_the_nearest_name(variable: str, meant: str) -> None:
    assert lookalike(variable) == meant
    with pytest.raises(UseError, match=rf"environment {variable}: no such setting.*Nearest: {meant}"):
        resolve("tier1", environ={variable: "1"})


@pytest.mark.parametrize("variable", [*UNRELATED, *SHORT_NAMES])
def test_what_is_not_ours_and_what_is_exactly_ours_is_no_lookalike(variable: str) -> None:
    assert lookalike(variable) is None


def test_variables_of_others_say_nothing() -> None:
    found = read(dict.fromkeys(UNRELATED, "1"))
    assert (found.layers, found.problems) == ((), ())


def test_a_misspelt_setting_under_our_prefix_is_told_with_its_source_and_nearest_name() -> None:
    with pytest.raises(
        UseError, match=r"batch\.dayz: no such setting \(environment ATFT_BATCH__DAYZ\)\. Nearest: days"
    ):
        resolve("tier1", environ={"ATFT_BATCH__DAYZ": "8"})
    with pytest.raises(UseError, match=r"ATFT_BACTH__DAYS: no such setting\. Nearest: ATFT_BATCH"):
        resolve("tier1", environ={"ATFT_BACTH__DAYS": "8"})


def test_all_problems_of_environment_flags_and_values_are_told_together() -> None:
    environ = {"SHARPE_WIEGHT": "1", "FORCE_SINGLE_PROCESS": "1", "ATFT_NO": "1", "BATCH_SIZE": "7"}
    with pytest.raises(UseError) as refused:
        resolve("tier1", environ=environ, flags={"seed": "one", "model.hiden_size": 3})
    told = str(refused.value)
    assert "6 problem(s)" in told
    for each in (*environ, "seed = 'one'", "model.hiden_size"):
        assert each in told


def test_a_tier_that_is_not_there_is_told_beside_what_else_is_wrong() -> None:
    with pytest.raises(UseError, match=r"2 problem\(s\)") as refused:
        resolve("quikstart", environ={"BATCHSIZE": "1"})
    assert "Nearest: quickstart" in str(refused.value)
    assert "BATCHSIZE" in str(refused.value)
