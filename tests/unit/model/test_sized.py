"""What parameters are counted by has those of the network that is trained."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atft.model.architectures import ARCHITECTURES
from atft.model.ranking import NetworkShape
from atft.model.sized import sized


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(deadline=None, max_examples=15)
@given(
    features=st.integers(1, 40), heads=st.sampled_from([1, 2, 4]), per_head=st.integers(1, 6), window=st.integers(4, 9),
    layers=st.integers(1, 2), horizons=st.integers(0, 2),
)  # fmt: skip
def test_a_sized_network_has_the_parameters_of_the_real_one(
    architecture: str, features: int, heads: int, per_head: int, window: int, layers: int, horizons: int
) -> None:
    shape = NetworkShape(
        features=features, hidden_size=4 * per_head, window=window, attention_heads=heads, graph_heads=heads,
        lstm_layers=layers, dropout=0.1, fan_frequencies=2, san_slices=2, quantiles=(0.1, 0.5), horizons=horizons,
    )  # fmt: skip
    real, counted = ARCHITECTURES[architecture](shape), sized(architecture, shape)
    for parts in (frozenset[str](), frozenset({"graph"}), frozenset({"variable_selection", "temporal", "graph"})):
        assert sum(p.numel() for p in counted.parameters_of(parts)) == sum(p.numel() for p in real.parameters_of(parts))
