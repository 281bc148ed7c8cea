"""The architectures that a tier can name, all trained by the same exact step."""

from __future__ import annotations

from collections.abc import Mapping

from atft.model.lstm import Lstm
from atft.model.mlp import Mlp
from atft.model.network import Network
from atft.model.ranking import RankingNetwork

ARCHITECTURES: Mapping[str, type[RankingNetwork]] = {"atft": Network, "mlp": Mlp, "lstm": Lstm}
"""By the name that ``model.architecture`` has in a tier."""
