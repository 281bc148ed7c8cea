import lightgbm as lgb
import numpy as np
import pytest

from atft.errors import UseError
from atft.evaluate import baselines, boosting
from atft.evaluate.boosting import Rows, boosted, ranked_labels, thinned
from atft.evaluate.tuned_ridge import figure

from .test_baselines import Panel


@pytest.fixture(scope="module")
def panel():
    random = np.random.default_rng(1)
    values = random.uniform(-0.5, 0.5, (160, 40, 5)).astype(np.float32)
    values[random.random(values.shape) < 0.05] = np.nan
    return Panel(values, random.random((160, 40)) < 0.95)


def labels(panel, first, last):
    """Returns that follow a product of two features: no linear rule finds them."""
    random = np.random.default_rng(first)
    x = np.nan_to_num(panel.values[first:last].astype(float))
    returns = 0.1 * x[..., 0] * x[..., 1] + 0.02 * random.standard_normal(x.shape[:2])
    return baselines.Labels(np.arange(first, last), returns, panel.present[first:last].copy())


@pytest.fixture(scope="module")
def found(panel):
    return boosted(panel, labels(panel, 0, 90), labels(panel, 90, 120), np.arange(120, 160), seed=1, threads=1)


def test_rows_are_the_valid_stock_days_in_order_however_they_are_asked_for(panel):
    some = labels(panel, 10, 14)
    rows = Rows(panel, some)
    table = np.concatenate([panel.values[day][valid] for day, valid in zip(some.days, some.valid)]).astype(float)
    assert len(rows) == len(table)
    np.testing.assert_array_equal(rows[:], table)
    np.testing.assert_array_equal(rows[30:90], table[30:90])
    np.testing.assert_array_equal(rows[[3, 70, 71]], table[[3, 70, 71]])
    np.testing.assert_array_equal(np.stack([rows[each] for each in range(5)]), table[:5])


def test_trees_grown_from_pieces_are_those_grown_from_the_table_at_once(panel, found, monkeypatch):
    train, validate = labels(panel, 0, 90), labels(panel, 90, 120)
    settings = boosting.PARAMETERS | {"seed": 1, "num_threads": 1, "deterministic": True, "force_col_wise": True,
                                      "verbosity": -1}  # fmt: skip
    whole = [np.concatenate([panel.values[d][v] for d, v in zip(part.days, part.valid)]).astype(float)
             for part in (train, validate)]  # fmt: skip
    data = lgb.Dataset(whole[0], ranked_labels(train), params=settings)
    model = lgb.train(settings, data, boosting.MOST_TREES, [data.create_valid(whole[1], ranked_labels(validate))],
                      callbacks=[lgb.early_stopping(boosting.PATIENCE, verbose=False)])  # fmt: skip
    x = panel.values[130][panel.present[130]].astype(float)
    expected = model.predict(x, num_iteration=model.best_iteration)
    np.testing.assert_allclose(found.scores[10][panel.present[130]], expected, rtol=1e-12)
    assert found.trees == model.best_iteration < boosting.MOST_TREES


def test_trees_find_what_no_linear_rule_finds(panel, found):
    test = labels(panel, 120, 160)
    linear, _ = baselines.ridge(panel, labels(panel, 0, 90), test.days)
    assert figure("ic", found.scores, test) > 0.2
    assert abs(figure("ic", linear, test)) < 0.1


def test_the_model_is_the_same_again_on_more_threads_and_whatever_comes_after_validation(panel, found):
    other = Panel(panel.values.copy(), panel.present)
    other.values[140:] = 0.0
    train, validate, days = labels(panel, 0, 90), labels(panel, 90, 120), np.arange(120, 140)
    again = boosted(other, train, validate, days, seed=1, threads=2)
    np.testing.assert_array_equal(again.scores, found.scores[:20])
    assert again.model.replace("[num_threads: 2]", "[num_threads: 1]") == found.model
    assert again.validation_error == pytest.approx(found.validation_error, rel=1e-12)
    assert not np.array_equal(boosted(panel, train, validate, days, seed=2, threads=1).scores, again.scores)


def test_parameters_are_the_leaves_and_thresholds_of_the_trees_that_were_kept(found):
    trees = lgb.Booster(model_str=found.model).dump_model()["tree_info"]
    assert len(trees) == found.trees
    assert found.parameters == sum(2 * tree["num_leaves"] - 1 for tree in trees)


def test_stocks_that_are_not_there_are_not_scored(panel, found):
    np.testing.assert_array_equal(np.isfinite(found.scores), panel.present[120:160])


def test_a_table_that_is_too_large_loses_whole_days_evenly(panel, monkeypatch):
    some = labels(panel, 0, 90)
    assert thinned(some, 5)[1] == 1
    monkeypatch.setattr(boosting, "MOST_VALUES", int(some.valid.sum()) * 5 // 3)
    fewer, every = thinned(some, 5)
    assert every == 4
    np.testing.assert_array_equal(fewer.days, np.arange(0, 90, 4))
    assert fewer.valid.sum() * 5 <= boosting.MOST_VALUES


def test_ranked_labels_are_even_steps_around_zero():
    some = baselines.Labels([0], np.array([[0.3, -0.1, 0.2, 9.0]]), np.array([[True, True, True, False]]))
    np.testing.assert_allclose(ranked_labels(some), [1 / 3, -1 / 3, 0])


@pytest.mark.parametrize(("part", "name"), [(0, "train"), (1, "validate")])
def test_a_period_without_labels_is_refused(panel, part, name):
    periods = [labels(panel, 0, 90), labels(panel, 90, 120)]
    periods[part].valid[:] = False
    with pytest.raises(UseError, match=rf"split\.{name} has no day with two valid stocks"):
        boosted(panel, *periods, [130], seed=1, threads=1)
