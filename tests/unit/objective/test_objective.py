"""The objective against scipy, closed forms and plain loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from atft.blocks import Blocks
from atft.objective.correlation import hard_ranks, pearson, rank_correlation, soft_ranks
from atft.objective.mix import Mix
from atft.objective.portfolio import gains, positions
from atft.objective.quantile import quantile_losses
from atft.objective.rows import TERMS, RowSettings, day_rows
from atft.objective.sharpe import sharpe_from_moments

SETTINGS = RowSettings((0.1, 0.5, 0.9), 0.1, 0.0, with_rank_ic=True, with_quantiles=True)


def make(seed: int, blocks: int = 2, days: int = 5, stocks: int = 9, share: float = 0.8) -> tuple[torch.Tensor, Blocks]:
    random = torch.Generator().manual_seed(seed)
    shape = (blocks, days, stocks)
    valid = torch.rand(shape, generator=random) < share
    returns = torch.where(valid, 0.02 * torch.randn(shape, generator=random, dtype=torch.float64), 0.0)
    unused = torch.zeros(0)
    given_blocks = Blocks(
        features=unused, present=unused, scored=valid, neighbours=unused, edges=unused, returns=returns, valid=valid,
        quantile_returns=torch.where(valid, returns, torch.nan)[..., None], numbers=torch.arange(blocks),
    )  # fmt: skip
    return torch.randn(shape, generator=random, dtype=torch.float64), given_blocks


def rows_of(scores: torch.Tensor, blocks: Blocks, settings_: RowSettings = SETTINGS) -> dict[str, np.ndarray]:
    quantiles = torch.stack([scores * 0.01 - 0.01, scores * 0.01, scores * 0.01 + 0.01], -1)[..., None, :]
    table = day_rows(scores, quantiles, blocks, settings_)
    return {name: table[:, i].detach().numpy() for i, name in enumerate(TERMS)}


def test_positions_are_dollar_neutral_and_of_unit_gross() -> None:
    scores, blocks = make(1)
    held = positions(scores, blocks.valid)
    assert torch.allclose(held.sum(-1), torch.zeros(2, 5, dtype=torch.float64), atol=1e-15)
    assert torch.allclose(held.abs().sum(-1), torch.ones(2, 5, dtype=torch.float64))
    assert (held[~blocks.valid] == 0).all()


def test_constant_scores_take_no_position_and_pass_no_gradient() -> None:
    scores = torch.full((1, 2, 4), 3.0, requires_grad=True)
    held = positions(scores, torch.ones(1, 2, 4, dtype=torch.bool))
    assert (held == 0).all()
    held.sum().backward()
    assert scores.grad is not None
    assert (scores.grad == 0).all()


def test_rows_equal_a_plain_loop_over_days() -> None:
    scores, blocks = make(2)
    rows = rows_of(scores, blocks)
    for number, (s, r, v) in enumerate(
        zip(scores.flatten(0, 1), blocks.returns.flatten(0, 1), blocks.valid.flatten(0, 1))
    ):
        s, r = s[v].numpy(), r[v].numpy()
        weights = (s - s.mean()) / np.abs(s - s.mean()).sum()
        x = len(s) * weights * r
        assert rows["portfolio_return"][number] == pytest.approx(weights @ r, abs=1e-15)
        assert rows["pooled_count"][number] == len(s)
        assert rows["pooled_sum"][number] == pytest.approx(x.sum(), abs=1e-14)
        assert rows["pooled_squares"][number] == pytest.approx((x**2).sum(), abs=1e-14)
        assert rows["ic"][number] == pytest.approx(stats.pearsonr(s, r).statistic, abs=1e-12)


def test_soft_rank_correlation_is_spearmans_as_the_temperature_goes_to_0() -> None:
    scores, blocks = make(3, stocks=40)
    tied = (scores * 2).round() / 2
    for given_scores in (scores, tied):
        found = rank_correlation(given_scores, blocks.returns, blocks.valid, 1e-6)
        for day in range(5):
            kept = blocks.valid[0, day]
            expected = stats.spearmanr(given_scores[0, day][kept], blocks.returns[0, day][kept]).statistic
            assert float(found[0, day]) == pytest.approx(expected, abs=1e-9)


def test_soft_ranks_tend_to_scipys_ranks() -> None:
    values = torch.tensor([[0.3, -1.0, 0.3, 7.0, 2.0]], dtype=torch.float64)
    valid = torch.tensor([[True, True, True, True, False]])
    expected = stats.rankdata(values[0, :4].numpy())
    assert np.allclose(soft_ranks(values, valid, 1e-8)[0, :4].numpy(), expected)
    assert np.allclose(hard_ranks(values, valid)[0, :4].numpy(), expected)


def test_rank_ic_and_cs_ic_are_different_statistics() -> None:
    scores, blocks = make(4, stocks=30)
    heavy = torch.exp(scores)
    rows, monotone = rows_of(scores, blocks), rows_of(heavy, blocks)
    assert np.abs(rows["ic"] - monotone["ic"]).max() > 0.05
    hard = RowSettings((0.5,), 1e-6, 0.0, with_rank_ic=True, with_quantiles=False)
    assert rows_of(scores, blocks, hard)["rank_ic"] == pytest.approx(rows_of(heavy, blocks, hard)["rank_ic"], abs=1e-9)


def test_rank_ic_passes_a_gradient_that_finite_differences_confirm() -> None:
    scores, blocks = make(5, blocks=1, days=2, stocks=6)
    valid, returns = blocks.valid, blocks.returns
    deviation = scores.std()  # the softness is a constant of the gradient: check with it held

    def with_fixed_softness(x: torch.Tensor) -> torch.Tensor:
        soft = (torch.sigmoid((x[..., :, None] - x[..., None, :]) / (0.5 * deviation)) * valid[..., None, :]).sum(-1)
        return pearson(soft, hard_ranks(returns, valid), valid).sum()

    assert torch.autograd.gradcheck(with_fixed_softness, scores.requires_grad_())
    (gradient,) = torch.autograd.grad(rank_correlation(scores, returns, valid, 0.5).sum(), scores)
    assert gradient.abs().max() > 0


def test_pooled_sharpe_is_that_of_all_stock_days_at_once() -> None:
    scores, blocks = make(6)
    rows = rows_of(scores, blocks)
    x = []
    for s, r, v in zip(scores.flatten(0, 1), blocks.returns.flatten(0, 1), blocks.valid.flatten(0, 1)):
        s, r = s[v].numpy(), r[v].numpy()
        x.append(len(s) * (s - s.mean()) / np.abs(s - s.mean()).sum() * r)
    pooled = np.concatenate(x)
    table = torch.tensor(np.stack([rows[name] for name in TERMS], -1))
    found = Mix("pooled", 1, 0, 0, 0).parts(table)["sharpe"]
    assert float(found) == pytest.approx(pooled.mean() / pooled.std(), rel=1e-12)


def test_portfolio_sharpe_is_that_of_the_days() -> None:
    scores, blocks = make(7)
    rows = rows_of(scores, blocks)
    table = torch.tensor(np.stack([rows[name] for name in TERMS], -1))
    days = rows["portfolio_return"]
    found = Mix("portfolio", 1, 0, 0, 0).parts(table)["sharpe"]
    assert float(found) == pytest.approx(days.mean() / days.std(), rel=1e-12)


def test_a_mean_of_halves_is_another_number_than_the_sharpe_of_the_whole() -> None:
    scores, blocks = make(8, blocks=4, days=5)
    table = day_rows(scores, torch.zeros(4, 5, 9, 1, 3), blocks, SETTINGS)
    mix = Mix("pooled", 1, 0, 0, 0)
    whole = float(mix.parts(table)["sharpe"])
    halves = np.mean([float(mix.parts(half)["sharpe"]) for half in table.split(10)])
    assert abs(whole - halves) > 1e-4


def test_turnover_costs_inside_a_block_only() -> None:
    scores, blocks = make(9)
    held = positions(scores, blocks.valid)
    earned = gains(held, blocks.returns, 0.001)
    for block in range(2):
        for day in range(5):
            expected = float((held[block, day] * blocks.returns[block, day]).sum())
            if day:
                expected -= 0.001 * float((held[block, day] - held[block, day - 1]).abs().sum())
            assert float(earned[block, day].sum()) == pytest.approx(expected, abs=1e-15)


def test_quantile_losses_are_the_pinball_by_hand() -> None:
    predicted = torch.tensor([[[[0.0, 1.0]], [[0.5, 0.5]]]])
    actual = torch.tensor([[[2.0], [float("nan")]]])
    total, count = quantile_losses(predicted, actual, torch.tensor([0.1, 0.9]))
    assert float(total) == pytest.approx(0.1 * 2 + 0.9 * 1)
    assert int(count) == 2


def test_each_weight_alone_trains_its_own_statistic() -> None:
    scores, blocks = make(10)
    table = day_rows(scores, torch.zeros(2, 5, 9, 1, 3), blocks, SETTINGS)
    names = ("sharpe", "rank_ic", "cs_ic", "quantile")
    for at, name in enumerate(names):
        weights = [0.0] * 4
        weights[at] = 2.0
        mix = Mix("portfolio", *weights)
        parts = mix.parts(table)
        sign = 1 if name == "quantile" else -1
        assert float(mix.loss(parts)) == pytest.approx(sign * 2 * float(parts[name]))


def test_too_few_days_for_a_portfolio_sharpe_are_refused() -> None:
    scores, blocks = make(11, blocks=1, days=7)
    table = day_rows(scores, torch.zeros(1, 7, 9, 1, 3), blocks, SETTINGS)
    with pytest.raises(ValueError, match=r"only 7 .* needs 8"):
        Mix("portfolio", 1, 0, 0, 0).parts(table)


def test_a_sample_that_does_not_vary_has_no_sharpe_ratio_and_a_finite_gradient() -> None:
    moments = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64, requires_grad=True)
    found = sharpe_from_moments(*moments)
    (gradient,) = torch.autograd.grad(found, moments)
    assert float(found.detach()) == 0
    assert torch.isfinite(gradient).all()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 1.0))
def test_masked_entries_never_matter(seed: int, share: float) -> None:
    scores, blocks = make(seed, share=share)
    poisoned = torch.where(blocks.valid, scores, torch.nan)
    for name, expected in rows_of(scores, blocks).items():
        if not name.startswith("quantile"):
            assert np.array_equal(rows_of(poisoned, blocks)[name], expected), name
