"""The optimizer of a phase."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from atft import config


def build(parameters: Iterable[nn.Parameter], settings: config.Optimizer) -> torch.optim.AdamW:
    """AdamW over the parameters of a phase; weights of two and more dimensions decay, biases and norms do not.

    The learning rate is set before each step by the phase's schedule.

    Source: Loshchilov and Hutter (2019), "Decoupled weight decay regularization".
    """
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for parameter in parameters:
        (decayed if parameter.ndim >= 2 else plain).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, betas=betas, foreach=True)
