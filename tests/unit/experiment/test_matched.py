"""The rivals of a tier: as many parameters, and nothing else that training depends on."""

from itertools import pairwise

import pytest

from atft.config import Tier
from atft.errors import UseError
from atft.experiment.matched import CLOSE, matched, parameters_of
from atft.experiment.tiers import names, resolve
from atft.train.setup import build_network


def tier(name: str) -> Tier:
    return resolve(name, environ={}).tier


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("architecture", ["mlp", "lstm"])
@pytest.mark.parametrize("features", [12, 395])
def test_a_rival_has_as_many_parameters_as_the_network_of_its_tier(name: str, architecture: str, features: int) -> None:
    found = matched(tier(name), architecture, features)  # type: ignore[arg-type]
    assert found.wanted == parameters_of(tier(name), features)
    assert abs(found.parameters / found.wanted - 1) <= CLOSE == 0.05
    assert found.is_close


def test_the_count_is_that_of_the_network_that_is_trained() -> None:
    for architecture in ("mlp", "lstm"):
        found = matched(tier("quickstart"), architecture, 12)  # type: ignore[arg-type]
        network = build_network(found.tier, features=12)
        assert sum(each.numel() for each in network.parameters()) == found.parameters


def test_no_other_hidden_size_comes_nearer() -> None:
    found = matched(tier("quickstart"), "mlp", 12)
    held = found.tier.model_dump(mode="json")
    sizes = [found.tier.model.hidden_size + step for step in (-1, 0, 1)]
    counts = [parameters_of(Tier.model_validate(held | {"model": held["model"] | {"hidden_size": size}}), 12)
              for size in sizes]  # fmt: skip
    assert all(a < b for a, b in pairwise(counts))
    assert min(counts, key=lambda count: abs(count - found.wanted)) == found.parameters == counts[1]


def test_a_rival_is_trained_like_its_tier() -> None:
    own, rival = tier("tier1"), matched(tier("tier1"), "lstm", 109).tier
    for name in Tier.model_fields:
        if name not in ("name", "description", "model", "phases"):
            assert getattr(own, name) == getattr(rival, name), name
    for name, phase in own.phases.items():
        assert rival.phases[name] == phase.model_copy(update={"parts": ()})
    same = {"architecture", "hidden_size"}
    assert rival.model.model_dump(exclude=same) == own.model.model_dump(exclude=same)
    assert rival.sha256() != own.sha256()


def test_parts_belong_to_the_architecture_that_has_some() -> None:
    with pytest.raises(
        UseError, match=r"phases\.gat\.parts = .*only model\.architecture = atft has parts; mend: --set"
    ):
        resolve("tier1", flags={"model.architecture": "mlp"}, environ={})
    flags = {f"phases.{name}.parts": [] for name in tier("tier1").phases}
    found = resolve("tier1", flags={"model.architecture": "mlp", "model.hidden_size": 33} | flags, environ={})
    assert found.tier.model.hidden_size == 33  # no multiple of heads that a perceptron does not have


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(UseError, match=r"model\.architecture = 'cnn'"):
        resolve("tier1", flags={"model.architecture": "cnn"}, environ={})
