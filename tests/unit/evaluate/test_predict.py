from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from atft.blocks import Blocks
from atft.errors import RunError
from atft.evaluate import predict

DAYS, STOCKS, WINDOW, FEATURES = 40, 12, 5, 3


class Gatherer:
    """Cross-sections of the stocks that can be scored on any of the days, as the panel's gatherer gives them."""

    def __init__(self):
        random = np.random.default_rng(1)
        self.features = random.standard_normal((DAYS, STOCKS, FEATURES)).astype(np.float32)
        self.scorable = random.random((DAYS, STOCKS)) < 0.6
        self.scorable[20] = False
        self.calls = []

    def cross_section(self, first_day, days):
        self.calls.append((first_day, days))
        stocks = np.flatnonzero(self.scorable[first_day : first_day + days].any(0))
        shape = (1, days, len(stocks))
        context = self.features[first_day - WINDOW + 1 : first_day + days, stocks]
        blocks = Blocks(
            features=torch.from_numpy(context)[None],
            present=torch.ones((1, days + WINDOW - 1, len(stocks)), dtype=torch.bool),
            scored=torch.from_numpy(self.scorable[first_day : first_day + days, stocks])[None],
            neighbours=torch.full((*shape, 1), -1),
            edges=torch.zeros((*shape, 1, 2)),
            returns=torch.zeros(shape, dtype=torch.float64),
            valid=torch.zeros(shape, dtype=torch.bool),
            quantile_returns=torch.zeros((*shape, 0), dtype=torch.float64),
            numbers=torch.zeros(1, dtype=torch.int64),
        )
        return blocks, stocks.astype(np.int64)


class WindowMean(nn.Module):
    """Scores a stock by its window's mean, less the mean of the day's scored stocks; noisy in training mode."""

    def __init__(self, bad=False):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 0.5]))
        self.dropout, self.bad = nn.Dropout(0.5), bad

    def forward(self, blocks, parts, keys=None):
        assert keys is None
        assert parts == frozenset({"temporal"})
        assert not torch.is_grad_enabled()
        x = self.dropout(blocks.features) @ self.weight
        scores = x.unfold(1, blocks.window, 1).mean(-1)
        scored = blocks.scored.to(scores.dtype)
        mean = (scores * scored).sum(-1, keepdim=True) / scored.sum(-1, keepdim=True).clamp_min(1)
        return SimpleNamespace(scores=scores - mean + (torch.nan if self.bad else 0))


def expected(gatherer, days):
    score = gatherer.features.astype(np.float64) @ [1.0, -2.0, 0.5]
    out = np.full((len(days), STOCKS), np.nan)
    for row, day in enumerate(days):
        kept = gatherer.scorable[day]
        if kept.any():
            mean = score[day - WINDOW + 1 : day + 1].mean(0)
            out[row, kept] = mean[kept] - mean[kept].mean()
    return out


@pytest.mark.parametrize("days_at_once", [1, 2, 3, 4, 100])
def test_scores_do_not_depend_on_how_many_days_are_computed_together(days_at_once):
    gatherer, days = Gatherer(), [4, 5, 6, 7, 8, 11, 12, 20, 21, 22, 39]
    got = predict.predict(WindowMean(), gatherer, days, ["temporal"], device="cpu", days_at_once=days_at_once)
    np.testing.assert_allclose(got, expected(gatherer, days), atol=1e-6)
    assert max(length for _, length in gatherer.calls) <= days_at_once


def test_consecutive_days_are_computed_together_and_gaps_are_not():
    gatherer = Gatherer()
    predict.predict(WindowMean(), gatherer, [4, 5, 6, 7, 8, 11, 12], ["temporal"], device="cpu", days_at_once=3)
    assert gatherer.calls == [(4, 3), (7, 2), (11, 2)]


def test_scores_come_in_the_order_of_the_days_asked_for():
    gatherer, days = Gatherer(), [9, 5, 6, 5]
    got = predict.predict(WindowMean(), gatherer, days, ["temporal"], device="cpu")
    np.testing.assert_allclose(got, expected(gatherer, days), atol=1e-6)


def test_the_network_is_left_in_the_modes_it_came_in():
    network = WindowMean()
    network.train()
    network.dropout.eval()
    predict.predict(network, Gatherer(), [5], ["temporal"], device="cpu")
    assert network.training
    assert not network.dropout.training


def test_progress_and_the_precision_context_are_used_for_each_pass():
    seen, entered = [], []

    class Context:
        def __enter__(self):
            entered.append(True)

        def __exit__(self, *error):
            return None

    predict.predict(
        WindowMean(),
        Gatherer(),
        [4, 5, 6, 9],
        ["temporal"],
        device="cpu",
        precision_context=Context,
        days_at_once=2,
        progress=lambda *counts: seen.append(counts),
    )
    assert seen == [(2, 4), (3, 4), (4, 4)]
    assert len(entered) == 3


def test_a_score_that_is_not_finite_stops_the_prediction_and_names_the_day():
    with pytest.raises(RunError, match="are not finite, first on day number 5"):
        predict.predict(WindowMean(bad=True), Gatherer(), [5, 6], ["temporal"], device="cpu")


def test_no_days_give_no_scores():
    assert predict.predict(WindowMean(), Gatherer(), [], ["temporal"], device="cpu").shape == (0, STOCKS)


class Worker:
    """One of several workers as :func:`predict` sees them: notes what it sends, and hears silence of the others."""

    def __init__(self, rank, world_size):
        self.rank, self.world_size = rank, world_size

    def gather(self, own, sizes):
        assert len(own) == sizes[self.rank]
        self.sent, self.sizes = own.numpy(), sizes
        return torch.zeros(sum(sizes), *own.shape[1:], dtype=own.dtype)


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 9])
def test_workers_share_the_runs_of_one_process_without_a_gap_or_a_duplicate(world_size):
    days = [4, 5, 6, 7, 8, 11, 12, 20, 39]
    whole = Gatherer()
    expected = predict.predict(WindowMean(), whole, days, ["temporal"], device="cpu", days_at_once=2)
    sent, calls = [], []
    for rank in range(world_size):
        gatherer, worker = Gatherer(), Worker(rank, world_size)
        got = predict.predict(WindowMean(), gatherer, days, ["temporal"], device="cpu", days_at_once=2, group=worker)
        assert got.shape == expected.shape
        assert sum(worker.sizes) == len(days)
        sent.append(worker.sent)
        calls += gatherer.calls
    assert calls == whole.calls
    assert np.array_equal(np.concatenate(sent), expected, equal_nan=True)


def test_every_worker_finds_the_score_of_another_that_is_not_finite():
    class Told(Worker):
        def gather(self, own, sizes):
            return torch.full((sum(sizes), STOCKS), torch.inf, dtype=torch.float64)

    with pytest.raises(RunError, match="24 of 24 scores are not finite, first on day number 5"):
        predict.predict(WindowMean(), Gatherer(), [5, 6], ["temporal"], device="cpu", group=Told(1, 2))
