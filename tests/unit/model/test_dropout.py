import pytest
import torch

from atft.model.dropout import KeyedDropout
from atft.model.random_keys import RandomKeys

NUMBERS = torch.tensor([4, 9])


def test_evaluation_and_probability_zero_leave_the_input_alone() -> None:
    x = torch.randn(2, 3, 4)
    assert KeyedDropout(0.5, "a")(x, None, NUMBERS) is x
    assert KeyedDropout(0.0, "a")(x, RandomKeys(0, 0), NUMBERS) is x


def test_a_shared_mask_is_the_same_on_all_days_and_differs_between_stocks() -> None:
    dropped = KeyedDropout(0.5, "a", over=(1,))(torch.ones(2, 9, 30, 4), RandomKeys(0, 0), NUMBERS)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert not torch.equal(dropped[:, :, 0], dropped[:, :, 1])
    assert not torch.equal(dropped[0], dropped[1])


def test_the_mask_does_not_depend_on_train_or_eval_mode() -> None:
    layer, x = KeyedDropout(0.5, "a"), torch.ones(2, 50)
    assert torch.equal(layer(x, RandomKeys(0, 0), NUMBERS), layer.eval()(x, RandomKeys(0, 0), NUMBERS))


def test_a_probability_outside_its_bounds_is_refused_with_the_layer_named() -> None:
    with pytest.raises(ValueError, match=r"dropout = 1.5 of layer heads"):
        KeyedDropout(1.5, "heads")
