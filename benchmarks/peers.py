"""Other ways to the gradient of a large-batch Sharpe ratio, each written here from its published description."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from atft.blocks import Blocks
from atft.experiment.oracle import loss_in_one_piece
from benchmarks.common import Bound, Plan, Result, Row, Timing, interleaved, say
from benchmarks.memory import peak_bytes
from benchmarks.subject import ALL, TINY_SHAPE, Shape, Subject

SHAPES = (Shape(hidden=64, features=64, blocks=16), Shape(hidden=256, features=64, blocks=16))

FASTER_ALL, FASTER_HALF, SLOWER_LAST = 1.3, 1.1, 1.03
"""Bounds of the design: times faster with all graphs kept, and with half; with the last one, never slower, which 3 % of
noise is allowed to blur."""

EQUAL_MEMORY = 1.05
"""What "equal memory" may differ by."""

LARGER_ERROR = 1.02
"""Bound of the design: a gradient error in float32 no larger than a peer's; rounding falls either way by this."""

BATCHES = 3
"""Effective batches that a gradient error is the root mean square over."""

SMALLEST = 1e-12
"""Below this a day's gross position, or a deviation of returns, counts as this."""

ABOUT = """\
One optimizer step's gradient of a portfolio Sharpe ratio over 64 days, 16 micro-batches of one block (4 days × 64
stocks, window 20), dropout on, float32, with the same network, batch and random keys. *Two-pass* is how deepm
accumulates, *gradient caching* is GradCache; both run every micro-batch twice and hold one graph, so that they equal
the exact step with the last graph kept in memory. They compute portfolio returns and nothing else; the exact step also
fills the rest of its rows. Ratios are of minima, to the exact step with all graphs kept.

The error is ‖g − g₆₄‖ / ‖g₆₄‖, g₆₄ from the oracle of `atft verify exactness`, in float64 in one piece; the root mean
square over several batches. Most of it is the network's own rounding, which all of them share, so that 2 % of it may
fall either way. *Averaging* is the mean of the micro-batches' own losses, whose error is no rounding: it is another
objective."""

Way = Callable[[Subject], object]


def run(plan: Plan) -> Result:
    """Time, memory and error at both shapes."""
    tables: dict[str, list[Row]] = {"Time": [], "Memory": [], "Gradient error": []}
    bounds: list[Bound] = []
    for shape in (TINY_SHAPE,) if plan.quick else SHAPES:
        say(f"peers: {shape}")
        subject = subject_of(shape, 1)
        times = interleaved({name: partial(way, subject) for name, way in WAYS.items()}, plan.rounds)
        peaks = {name: peak_bytes(partial(way, subject)) for name, way in WAYS.items()}
        errors = gradient_errors(shape, 1 if plan.quick else BATCHES)
        found: dict[str, dict[str, Row]] = {
            "Time": {name: each.row(times[ALL_KEPT]) for name, each in times.items()},
            "Memory": {name: {"peak MB": peak / 1e6, "ratio": peak / peaks[LAST_KEPT]} for name, peak in peaks.items()},
            "Gradient error": {name: {"error": error} for name, error in errors.items()},
        }
        for title, rows in found.items():
            tables[title] += [{"shape": str(shape), "way": name, **row} for name, row in rows.items()]
        bounds += bounds_of(str(shape), times, peaks, errors)
    return Result("Exact step against its peers", ABOUT, tables, bounds)


def subject_of(shape: Shape, seed: int) -> Subject:
    """A batch drawn from ``seed`` under a portfolio Sharpe ratio."""
    return Subject.of(shape.tier("portfolio"), shape.features, seed=seed)


def day_returns(scores: Tensor, blocks: Blocks) -> Tensor:
    """``[counted days]`` portfolio returns in the dtype of ``scores``: demeaned scores of unit gross, times returns.

    Args:
        scores: ``[blocks, days, stocks]``.
        blocks: labels and masks; a day of fewer than two valid stocks does not count.
    """
    valid = blocks.valid
    mean = torch.where(valid, scores, 0.0).sum(-1, keepdim=True) / valid.sum(-1, keepdim=True).clamp_min(1)
    centred = torch.where(valid, scores - mean, 0.0)
    held = centred / centred.abs().sum(-1, keepdim=True).clamp_min(SMALLEST)
    return (held * blocks.returns.to(scores.dtype)).sum(-1)[valid.sum(-1) >= 2]


def negative_sharpe(returns: Tensor) -> Tensor:
    """The loss: minus mean over population standard deviation."""
    return -returns.mean() / returns.std(correction=0).clamp_min(SMALLEST)


def two_pass(subject: Subject) -> None:
    """Leave the gradient in the parameters: moments first, then one surrogate loss for each micro-batch.

    The first pass runs every micro-batch without a graph, for mean and deviation of all portfolio returns. With these
    as constants, ``-1/n Σ [r/σ - μ (r - μ)² / (2 σ³)]`` has the gradient of ``-μ/σ`` with respect to each return, and
    is a sum over micro-batches: the second pass runs each again and goes back through its share. All in float32.

    Source: the gradient accumulation for Sharpe losses of deepm (Wood, Roberts and Zohren); from its description. What
    its passes draw at random is kept equal here by the network's random keys.
    """
    subject.network.zero_grad(set_to_none=True)
    with torch.no_grad():
        returns = torch.cat([_returns(subject, number) for number in range(subject.count)])
    count, mean, deviation = len(returns), returns.mean(), returns.std(correction=0).clamp_min(SMALLEST)
    for number in range(subject.count):
        own = _returns(subject, number)
        surrogate = own / deviation - mean * (own - mean).square() / (2 * deviation**3)
        torch.autograd.backward(-surrogate.sum() / count)


def gradient_caching(subject: Subject) -> None:
    """Leave the gradient in the parameters: cache the gradient of the loss with respect to every score.

    Every micro-batch runs without a graph; the loss of all scores gives a gradient for each of them, which is cached;
    every micro-batch runs again, and the cached gradient goes back through it.

    Source: Gao, Zhang, Han and Callan (2021), "Scaling deep contrastive learning batch size under memory limited setup"
    (GradCache), section 3, with scores in the place of representations. Its replay of random states is not needed: the
    network's random keys draw the same again.
    """
    subject.network.zero_grad(set_to_none=True)
    with torch.no_grad():
        scores = [_scores(subject, number)[0] for number in range(subject.count)]
    leaves = [each.requires_grad_() for each in scores]
    returns = [day_returns(each, subject.blocks(number, number + 1)) for number, each in enumerate(leaves)]
    cached = torch.autograd.grad(negative_sharpe(torch.cat(returns)), leaves)
    for number, slopes in enumerate(cached):
        again, _ = _scores(subject, number)
        torch.autograd.backward(torch.dot(again.flatten(), slopes.flatten()))


def averaging(subject: Subject) -> None:
    """Leave the gradient of the mean of the micro-batches' own losses: what gradient accumulation usually does."""
    subject.network.zero_grad(set_to_none=True)
    for number in range(subject.count):
        torch.autograd.backward(negative_sharpe(_returns(subject, number)) / subject.count)


def _scores(subject: Subject, number: int) -> tuple[Tensor, Blocks]:
    blocks = subject.blocks(number, number + 1)
    return subject.network(blocks, ALL, subject.keys).scores, blocks


def _returns(subject: Subject, number: int) -> Tensor:
    return day_returns(*_scores(subject, number))


ALL_KEPT, HALF_KEPT, LAST_KEPT = "exact, all kept", "exact, half kept", "exact, last kept"
PEERS: dict[str, Way] = {"two-pass": two_pass, "gradient caching": gradient_caching}
WAYS: dict[str, Way] = {
    ALL_KEPT: lambda subject: subject.exact(subject.count),
    HALF_KEPT: lambda subject: subject.exact(subject.count // 2),
    LAST_KEPT: lambda subject: subject.exact(1),
    **PEERS,
}


def gradient_errors(shape: Shape, batches: int) -> dict[str, float]:
    """The float32 gradient error of each way, the root mean square over ``batches`` effective batches."""
    ways = {**WAYS, "averaging": averaging}
    squares = dict.fromkeys(ways, 0.0)
    for seed in range(1, batches + 1):
        subject = subject_of(shape, seed)
        expected = in_one_piece(subject, shape)
        for name, way in ways.items():
            way(subject)
            squares[name] += float((subject.gradient() - expected).norm() / expected.norm()) ** 2
    return {name: (square / batches) ** 0.5 for name, square in squares.items()}


def in_one_piece(subject: Subject, shape: Shape) -> Tensor:
    """The float64 gradient of the batch in one piece, from the oracle, which shares no code with the step."""
    objective = shape.tier("portfolio").objective
    network = copy.deepcopy(subject.network).double()
    network.zero_grad(set_to_none=True)
    loss = loss_in_one_piece(
        network, subject.batch, ALL, subject.keys, kind="portfolio", weights=objective.weights.model_dump(),
        temperature=objective.rank_temperature, cost=0.0, levels=subject.step.rows.quantile_levels,
    )  # fmt: skip
    torch.autograd.backward(loss)
    return torch.cat([p.grad.flatten() for p in network.parameters_of(ALL) if p.grad is not None])


def bounds_of(shape: str, times: dict[str, Timing], peaks: dict[str, int], errors: dict[str, float]) -> list[Bound]:
    """The bounds on what was measured."""
    seconds = {name: each.minimum for name, each in times.items()}
    bounds = []
    for peer in PEERS:
        bounds += [
            Bound(f"{shape}: time, {peer} / all kept", seconds[peer] / seconds[ALL_KEPT], FASTER_ALL, least=True),
            Bound(f"{shape}: time, {peer} / half kept", seconds[peer] / seconds[HALF_KEPT], FASTER_HALF, least=True),
            Bound(f"{shape}: time, last kept / {peer}", seconds[LAST_KEPT] / seconds[peer], SLOWER_LAST),
            Bound(f"{shape}: peak, last kept / {peer}", peaks[LAST_KEPT] / peaks[peer], EQUAL_MEMORY),
            Bound(f"{shape}: error, all kept / {peer}", errors[ALL_KEPT] / errors[peer], LARGER_ERROR),
            Bound(f"{shape}: error, last kept / {peer}", errors[LAST_KEPT] / errors[peer], LARGER_ERROR),
        ]
    return bounds
