"""What fixes the parameters of a tier's network: known before there is a panel, a network or a device."""

from __future__ import annotations

from atft.config import Tier
from atft.model.ranking import NetworkShape


def network_shape(tier: Tier, features: int) -> NetworkShape:
    """The shape of the tier's network on a panel of so many features."""
    return NetworkShape(
        features=features,
        window=tier.window.days,
        horizons=len(tier.label.quantile_horizons),
        **tier.model.model_dump(exclude={"architecture"}),
    )
