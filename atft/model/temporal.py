"""What a window says in its order: an LSTM, then attention that asks from the last day."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from atft.model.gating import GatedResidual
from atft.model.random_keys import RandomKeys


class Temporal(nn.Module):
    """LSTM and last-day attention over windows, each with a gated residual.

    LSTM: orthogonal recurrent maps, Xavier input maps, forget bias 1 (so that it remembers from the start).
    """

    def __init__(self, hidden_size: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.absent = nn.Parameter(0.02 * torch.randn(hidden_size))
        self.lstm = nn.LSTM(hidden_size, hidden_size, layers)
        self.after_lstm = GatedResidual(hidden_size, dropout, "temporal.lstm")
        self.attention = LastDayAttention(hidden_size, heads)
        self.after_attention = GatedResidual(hidden_size, dropout, "temporal.attention")
        initialise(self.lstm)

    def forward(self, windows: Tensor, present: Tensor, keys: RandomKeys | None, numbers: Tensor) -> Tensor:
        """Summarise each window as seen from its last day.

        Args:
            windows: ``[window, blocks, samples, hidden]``; time first, as the LSTM walks it.
            present: ``[window, blocks, samples]`` bool; an absent day is a learned vector to the LSTM and no key
                to the attention.
            keys: randomness of the step, None for evaluation.
            numbers: ``[blocks]``, number of each block in its effective batch.

        Returns:
            ``[blocks, samples, hidden]``.
        """
        flagged = torch.where(present[..., None], windows, self.absent.to(windows.dtype))
        states, _ = self.lstm(flagged.flatten(1, 2))
        shape = windows.shape[1:]
        last = self.after_lstm(states[-1].view(shape), windows[-1], keys, numbers)
        found = self.attention(last.flatten(0, 1), states, present.flatten(1))
        summary: Tensor = self.after_attention(found.view(shape), last, keys, numbers)
        return summary


class LastDayAttention(nn.Module):
    """Attention of several heads with one query per window.

    With a single query the key map can be moved to the query, and the value map to the weighted mean:
    ``q . (K h) = (K' q) . h`` and ``sum a (V h) = V (sum a h)``. So no day is projected, and a window costs
    ``2 heads L H`` multiplications besides the query's own, not ``2 L H^2``. The bias of a key cancels in the
    softmax; the output map is the gated residual's.
    """

    def __init__(self, hidden_size: int, heads: int) -> None:
        super().__init__()
        if hidden_size % heads:
            raise ValueError(f"hidden_size = {hidden_size} is not a multiple of attention_heads = {heads}")
        self.heads = heads
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size, bias=False)
        self.value = nn.Linear(hidden_size, hidden_size)
        for linear in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, last: Tensor, states: Tensor, present: Tensor) -> Tensor:
        """``[samples, hidden]`` from ``last`` ``[samples, hidden]``, ``states`` ``[window, samples, hidden]`` and
        ``present`` ``[window, samples]``; the last day is a key even where it is absent, so that there is one."""
        samples, size = last.shape
        query = self.query(last).view(samples, self.heads, -1).transpose(0, 1)
        asked = (query @ self.key.weight.to(query.dtype).view(self.heads, -1, size)).transpose(0, 1)
        days = states.transpose(0, 1)
        usable = torch.cat([present[:-1], torch.ones_like(present[-1:])]).T[:, None]
        logits = torch.bmm(asked, days.transpose(1, 2)) * (size // self.heads) ** -0.5
        attention = logits.masked_fill(~usable, float("-inf")).softmax(-1)
        mean = torch.bmm(attention.to(days.dtype), days).transpose(0, 1)
        values = self.value.weight.view(self.heads, -1, size).transpose(1, 2)
        found = (mean @ values.to(mean.dtype)).transpose(0, 1).reshape(samples, size)
        return found + self.value.bias


def initialise(lstm: nn.LSTM) -> None:
    """Orthogonal recurrent maps, Xavier input maps, forget bias 1, other biases 0."""
    for name, parameter in lstm.named_parameters():
        if name.startswith("weight_hh"):
            for gate in parameter.data.chunk(4):
                nn.init.orthogonal_(gate)
        elif name.startswith("weight_ih"):
            for gate in parameter.data.chunk(4):
                nn.init.xavier_uniform_(gate)
        else:
            parameter.data.zero_()
            if name.startswith("bias_ih"):
                parameter.data[lstm.hidden_size : 2 * lstm.hidden_size] = 1.0
