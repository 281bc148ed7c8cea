import torch
import torch.nn.functional as F
from torch import Tensor

from atft.model.graph import GraphAttention, disjoint_edges

from .examples import blocks


def layer() -> GraphAttention:
    torch.manual_seed(0)
    made = GraphAttention(8, 2, 2, 0.0).double()
    for parameter in made.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return made


def apply(graph: GraphAttention, states: Tensor, some, **changes: Tensor) -> Tensor:
    given = {name: changes.get(name, getattr(some, name)) for name in ("neighbours", "edges", "scored")}
    return graph(states, *given.values(), None, some.numbers)


def states_of(some) -> Tensor:
    return torch.randn(*some.scored.shape, 8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def test_it_is_the_published_formula_computed_stock_by_stock() -> None:
    graph, some = layer(), blocks()
    conv, states = graph.attention, states_of(some)
    heard = torch.zeros_like(states)
    for b in range(3):
        for d in range(3):
            x = (states[b, d] @ conv.lin.weight.T).view(-1, 2, 4)
            for i in range(6):
                pairs = [(int(j), e) for j, e in zip(some.neighbours[b, d, i], some.edges[b, d, i]) if j >= 0]
                pairs = [(j, e) for j, e in pairs if some.scored[b, d, i] and some.scored[b, d, j]]
                total = torch.zeros(2, 4, dtype=torch.float64)
                if pairs:
                    edge = torch.stack([(conv.lin_edge.weight @ e.double()).view(2, 4) for _, e in pairs])
                    of = torch.stack([x[j] for j, _ in pairs])
                    logits = (of * conv.att_src + x[i] * conv.att_dst + edge * conv.att_edge).sum(-1)
                    total = (F.leaky_relu(logits, 0.2).softmax(0)[..., None] * of).sum(0)
                heard[b, d, i] = total.flatten() + conv.bias
    expected = graph.residual(heard, states, None, some.numbers)
    torch.testing.assert_close(apply(graph, states, some), expected)


def test_renumbering_the_stocks_renumbers_the_result() -> None:
    graph, some = layer(), blocks()
    states, order = states_of(some), torch.tensor([3, 0, 5, 1, 4, 2])
    position = torch.cat([order.argsort(), torch.tensor([-1])])
    out = apply(
        graph,
        states[:, :, order],
        some,
        neighbours=position[some.neighbours[:, :, order]],
        edges=some.edges[:, :, order],
        scored=some.scored[:, :, order],
    )
    torch.testing.assert_close(out, apply(graph, states, some)[:, :, order])


def test_nothing_crosses_days_blocks_or_stocks_that_are_not_neighbours() -> None:
    graph, some = layer(), blocks()
    states = states_of(some).requires_grad_()
    apply(graph, states, some)[1, 2, 4].sum().backward()
    reached = (states.grad.abs().amax(-1) > 0).nonzero().tolist()
    assert some.scored[1, 2, 4]
    heard = {int(j) for j in some.neighbours[1, 2, 4] if j >= 0 and some.scored[1, 2, j]}
    assert reached == [[1, 2, j] for j in sorted(heard | {4})]
    assert len(heard) >= 2


def test_stocks_that_are_not_scored_and_padding_have_no_influence() -> None:
    graph, some = layer(), blocks()
    states = states_of(some)
    other = states.where(some.scored[..., None], 1e6)
    edges = some.edges.masked_fill((some.neighbours < 0)[..., None], float("nan"))
    ours, theirs = apply(graph, other, some, edges=edges), apply(graph, states, some)
    assert torch.equal(ours[some.scored], theirs[some.scored])


def test_a_day_without_an_edge_keeps_the_residual_and_every_parameter_its_gradient() -> None:
    graph, some = layer(), blocks()
    nobody = torch.full_like(some.neighbours, -1)
    out = apply(graph, states_of(some), some, neighbours=nobody)
    alone = graph.attention.bias.expand_as(out)
    torch.testing.assert_close(out, graph.residual(alone, states_of(some), None, some.numbers))
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in graph.parameters())


def test_edges_run_from_the_neighbour_to_the_stock_that_hears_it() -> None:
    neighbours = torch.tensor([[[[2, -1], [-1, -1], [1, 0]]]])
    edges = torch.arange(12.0).view(1, 1, 3, 2, 2)
    index, features = disjoint_edges(neighbours, edges, torch.tensor([[[True, False, True]]]))
    assert index.tolist() == [[2, 0], [0, 2]]
    assert features.tolist() == [[0.0, 1.0], [10.0, 11.0]]
