import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.model.random_keys import RandomKeys

MASK64 = (1 << 64) - 1
KEYS = RandomKeys(seed=7, step=3)


def splitmix64(state: int, n: int) -> int:
    """The n-th output (from 1) of SplitMix64, in plain integers as published."""
    z = (state + n * 0x9E3779B97F4A7C15) & MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK64
    return z ^ (z >> 31)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=6, unique=True), st.integers(0, 2**40))
def test_a_block_draws_bitwise_the_same_in_any_company(numbers: list[int], seed: int) -> None:
    keys = RandomKeys(seed, 11)
    together = keys.mask("layer", torch.tensor(numbers), (4, 5), 0.4)
    for position, number in enumerate(numbers):
        alone = keys.mask("layer", torch.tensor([number]), (4, 5), 0.4)
        assert torch.equal(together[position], alone[0])


def test_the_bits_are_those_of_splitmix64() -> None:
    numbers = torch.tensor([5, 123_456])
    mask = KEYS.mask("layer", numbers, (50,), 0.3)
    for row, key in zip(mask, KEYS._keys("layer", numbers).tolist(), strict=True):
        words = [splitmix64(key & MASK64, n) for n in range(1, 14)]
        quarters = [word >> shift & 0xFFFF for word in words for shift in (0, 16, 32, 48)][:50]
        # Signed, as the machine reads them: the upper half of the values comes before the lower one.
        expected = [(quarter ^ 0x8000) >= round(0.3 * 2**16) for quarter in quarters]
        assert (row > 0).tolist() == expected


@pytest.mark.parametrize("probability", [1e-9, 0.1, 1 / 3, 0.999999])
def test_the_multiplier_is_that_of_the_probability_in_effect(probability: float) -> None:
    mask = KEYS.mask("a", torch.arange(16), (1 << 14,), probability, dtype=torch.float64)
    kept = 1 / float(mask.max())
    assert abs(1 - kept - probability) <= 1 / 2**16
    assert abs(float((mask > 0).double().mean()) - kept) < 4 * (kept * (1 - kept)) ** 0.5 / 512 + 1e-12


@pytest.mark.parametrize(
    "other",
    [
        RandomKeys(8, 3).mask("a", torch.tensor([1]), (200,), 0.5),
        RandomKeys(7, 4).mask("a", torch.tensor([1]), (200,), 0.5),
        RandomKeys(7, 3).mask("b", torch.tensor([1]), (200,), 0.5),
        RandomKeys(7, 3).mask("a", torch.tensor([2]), (200,), 0.5),
    ],
    ids=["seed", "step", "layer", "block"],
)
def test_seed_step_layer_and_block_each_change_the_mask(other: torch.Tensor) -> None:
    mask = KEYS.mask("a", torch.tensor([1]), (200,), 0.5)
    agreement = float((mask == other).double().mean())
    assert 0.35 < agreement < 0.65


def test_masks_have_mean_one_and_no_correlation_between_blocks_or_neighbours() -> None:
    mask = KEYS.mask("a", torch.arange(64), (64, 64), 0.25, dtype=torch.float64)
    assert set(mask.unique().tolist()) == {0.0, 1 / 0.75}
    flat = mask.flatten(1) - 1
    # 262,144 draws with a variance of 1/3: four standard errors.
    assert abs(float(flat.mean())) < 4 * (1 / 3 / flat.numel()) ** 0.5
    neighbours = (flat[:, 1:] * flat[:, :-1]).mean() * 3
    blocks = (flat[1:] * flat[:-1]).mean() * 3
    assert abs(float(neighbours)) < 4 / flat.numel() ** 0.5
    assert abs(float(blocks)) < 4 / flat.numel() ** 0.5


def test_a_probability_of_one_is_refused() -> None:
    with pytest.raises(ValueError, match="probability = 1"):
        KEYS.mask("a", torch.tensor([1]), (2,), 1.0)
