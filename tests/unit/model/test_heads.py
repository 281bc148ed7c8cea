import torch
from scipy.stats import norm

from atft.model.heads import QuantileHead, ScoreHead

NUMBERS = torch.tensor([0, 1])
LEVELS = (0.05, 0.25, 0.4, 0.75, 0.99)


def test_quantiles_never_cross_whatever_the_weights() -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        head = QuantileHead(8, 3, LEVELS, 0.0)
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=3.0)
        with torch.autocast("cpu", torch.bfloat16, enabled=seed % 2 == 1):
            quantiles = head(5 * torch.randn(2, 4, 6, 8), None, NUMBERS)
        assert quantiles.shape == (2, 4, 6, 3, 5)
        assert (quantiles.diff(dim=-1) >= 0).all()


def test_quantiles_start_at_those_of_a_normal_distribution_of_daily_returns() -> None:
    torch.manual_seed(0)
    head = QuantileHead(8, 2, LEVELS, 0.0).double()
    torch.nn.init.zeros_(head.raw.weight)
    quantiles = head(torch.randn(2, 4, 8).double(), None, NUMBERS)
    expected = torch.tensor(norm.ppf(LEVELS, scale=0.02)).expand_as(quantiles)
    torch.testing.assert_close(quantiles, expected, rtol=1e-6, atol=1e-9)


def test_a_single_quantile_has_no_steps() -> None:
    assert QuantileHead(8, 1, (0.5,), 0.0)(torch.randn(2, 8), None, NUMBERS).shape == (2, 1, 1)


def test_the_score_is_in_the_dtype_of_the_parameters_and_varies() -> None:
    torch.manual_seed(0)
    head, states = ScoreHead(8, 0.0), torch.randn(2, 30, 8)
    with torch.autocast("cpu", torch.bfloat16):
        scores = head(states, None, NUMBERS)
    assert (scores.dtype, scores.shape) == (torch.float32, (2, 30))
    assert float(scores.detach().std()) > 0.05
