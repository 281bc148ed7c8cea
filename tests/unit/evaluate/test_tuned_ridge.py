from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import Ridge

from atft.errors import UseError
from atft.evaluate import baselines
from atft.evaluate.tuned_ridge import PENALTIES, figure, tuned_ridge

from .test_baselines import Panel


@pytest.fixture
def panel():
    random = np.random.default_rng(1)
    return Panel(random.standard_normal((90, 25, 12)).astype(np.float32), random.random((90, 25)) < 0.9)


def labels(panel, first, last, seed=2):
    random = np.random.default_rng(seed)
    signal = panel.values[first:last, :, :3].astype(float).sum(-1)
    returns = 0.004 * signal + 0.05 * random.standard_normal(signal.shape)
    return baselines.Labels(np.arange(first, last), returns, panel.present[first:last].copy())


def test_the_penalty_is_the_best_of_the_grid_on_the_validation_period(panel):
    train, validate = labels(panel, 0, 20), labels(panel, 40, 70, seed=3)
    found = tuned_ridge(panel, train, validate, [80, 81], "ic")
    x = np.concatenate([panel.values[d][v] for d, v in zip(train.days, train.valid)]).astype(float)
    y = np.concatenate([r[v] - r[v].mean() for r, v in zip(train.returns, train.valid)])
    ics = []
    for penalty in PENALTIES:
        model = Ridge(alpha=penalty, solver="svd").fit(x, y)
        daily = [stats.pearsonr(panel.values[d][v] @ model.coef_, r[v]).statistic for d, r, v in
                 zip(validate.days, validate.returns, validate.valid)]  # fmt: skip
        ics.append(np.mean(daily))
    np.testing.assert_allclose(found.figures, ics, rtol=1e-5)
    assert found.fit.penalty == PENALTIES[int(np.argmax(ics))]
    again, _ = baselines.ridge(panel, train, [80, 81], penalty=found.fit.penalty)
    np.testing.assert_array_equal(found.scores, again)


def test_another_validation_period_can_choose_another_penalty_and_nothing_later_can(panel):
    train, validate = labels(panel, 0, 20), labels(panel, 40, 70, seed=3)
    before = tuned_ridge(panel, train, validate, [80], "ic")
    panel.values[71:80], panel.values[81:] = 1e3, 1e3
    after = tuned_ridge(panel, train, validate, [80], "ic")
    assert (before.figures, before.fit.penalty) == (after.figures, after.fit.penalty)
    np.testing.assert_array_equal(before.scores, after.scores)
    turned = tuned_ridge(panel, train, replace(validate, returns=-validate.returns), [80], "ic")
    np.testing.assert_allclose(turned.figures, -np.array(before.figures))
    assert turned.fit.penalty != before.fit.penalty


@pytest.mark.parametrize("metric", ["sharpe", "ic", "rank_ic"])
def test_a_figure_to_choose_by_is_that_of_its_name(panel, metric):
    outcomes = labels(panel, 0, 30)
    scores = np.random.default_rng(5).standard_normal(outcomes.returns.shape)
    days = [(s[v], r[v]) for s, r, v in zip(scores, outcomes.returns, outcomes.valid)]
    gains = [((s - s.mean()) / np.abs(s - s.mean()).sum()) @ r for s, r in days]
    expected = {
        "sharpe": np.mean(gains) / np.std(gains),
        "ic": np.mean([stats.pearsonr(*day).statistic for day in days]),
        "rank_ic": np.mean([stats.spearmanr(*day).statistic for day in days]),
    }
    assert figure(metric, scores, outcomes) == pytest.approx(expected[metric], rel=1e-10)


def test_a_panel_without_a_single_value_is_refused(panel):
    panel.values[:] = np.nan
    with pytest.raises(UseError, match="none of the panel's 12 features has a value"):
        tuned_ridge(panel, labels(panel, 0, 20), labels(panel, 40, 70), [80], "ic")


def test_a_validation_period_without_labels_is_refused(panel):
    validate = labels(panel, 40, 70)
    with pytest.raises(UseError, match=r"longer split\.validate"):
        tuned_ridge(panel, labels(panel, 0, 20), replace(validate, valid=validate.valid & False), [80], "ic")
