"""Variable selection: which features count, for this stock on this day.

The layer of the temporal fusion transformer, cut down to what a scalar feature needs. There, each feature has an
embedding, a gated residual network of full width, and a weight from a network on all flattened embeddings: some
``2 F H^2 + F^2 H`` multiplications per stock-day. Here:

* The network of a feature is a scalar function with values in ``R^H``: ``width`` self-gated units ``silu(a x + b)``
  and a linear map to ``H``. As the map is linear, the weights go in before it, and the maps of all features are one
  product of ``[rows, F width]`` with ``[F width, H]``: no loop over features, nothing of size ``rows F H``.
* The weights come from a gated residual network on the ``F`` values and their ``F`` presence flags, which hold all
  that the embeddings would, so that it costs ``3 F H`` and not ``F H^2``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from atft.model.gating import GatedResidual

FEATURE_WIDTH = 8
"""Self-gated units of each feature; the hidden continuous size of other implementations."""


class VariableSelection(nn.Module):
    """A weighted sum over features, with weights and summands that depend on the values.

    The units start as pairs ``silu(z)`` and ``silu(-z)`` with opposite maps, whose sum is linear in ``z``: the layer
    begins as a linear embedding (of unit variance for standardised features) times weights, and bends as it learns.

    Args:
        features: number of features.
        hidden_size: size of the embedding.
        width: units of each feature, even.
    """

    def __init__(self, features: int, hidden_size: int, width: int = FEATURE_WIDTH) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width = {width} of a feature's network must be even: its units start as pairs")
        half = torch.randn(2, features, width // 2)
        maps = torch.randn(hidden_size, features, width // 2) / (features * width) ** 0.5
        self.slope = nn.Parameter(torch.cat([half[0], -half[0]], -1))
        self.offset = nn.Parameter(torch.cat([half[1], -half[1]], -1))
        self.project = nn.Linear(features * width, hidden_size)
        self.project.weight.data.copy_(torch.cat([maps, -maps], -1).flatten(1))
        self.context = nn.Linear(2 * features, hidden_size)
        self.residual = GatedResidual(hidden_size, 0.0, "variable_selection.weights")
        self.logits = nn.Linear(hidden_size, features)
        self.absent = nn.Parameter(0.02 * torch.randn(hidden_size))

    def forward(self, values: Tensor, known: Tensor) -> Tensor:
        """Embed each row.

        Args:
            values: ``[..., features]``, finite where known; anything elsewhere, NaN too.
            known: ``[..., features]`` bool, False where missing: such a feature has no influence at all.

        Returns:
            ``[..., hidden]``; a learned embedding of absence for a row without any known feature.
        """
        values, count = torch.where(known, values, 0.0), known.sum(-1, keepdim=True)
        weights = self._weights(values, known) * count
        units = F.silu(torch.addcmul(self.offset, values[..., None], self.slope))
        embedded = self.project((units * weights[..., None]).flatten(-2))
        return torch.where(count > 0, embedded, self.absent.to(embedded.dtype))

    def weights(self, values: Tensor, known: Tensor) -> Tensor:
        """The weight of each feature: ``[..., features]``, a sum of 1 over those known, 0 elsewhere."""
        return self._weights(torch.where(known, values, 0.0), known)

    def _weights(self, values: Tensor, known: Tensor) -> Tensor:
        context = F.elu(self.context(torch.cat([values, known.to(values.dtype)], -1)))
        logits: Tensor = self.logits(self.residual(context, context, None, _NO_NUMBERS))
        # The least number and not -inf: a row that knows nothing is replaced as a whole, and must not be NaN before.
        return logits.masked_fill(~known, torch.finfo(logits.dtype).min).softmax(-1)


class PlainEmbedding(nn.Module):
    """What stands in where variable selection is off: one linear map of the known features."""

    def __init__(self, features: int, hidden_size: int) -> None:
        super().__init__()
        self.project = nn.Linear(features, hidden_size)
        nn.init.normal_(self.project.weight, std=features**-0.5)
        self.absent = nn.Parameter(0.02 * torch.randn(hidden_size))

    def forward(self, values: Tensor, known: Tensor) -> Tensor:
        """``[..., hidden]`` from ``[..., features]`` values, of which the known ones count."""
        embedded = self.project(torch.where(known, values, 0.0))
        return torch.where(known.any(-1, keepdim=True), embedded, self.absent.to(embedded.dtype))


_NO_NUMBERS = torch.empty(0, dtype=torch.int64)
