"""Memory that is used again: never while anything refers to it, and never more of it than was held at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from atft.data.reuse import Reused


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_memory_is_given_again_once_nothing_refers_to_it() -> None:
    memory = Reused()
    first = memory(1000)
    place = address(first)
    del first
    assert address(memory(1000)) == place


def test_memory_is_not_given_again_while_a_view_or_a_tensor_refers_to_it() -> None:
    memory = Reused()
    whole = memory(1000)
    place = address(whole)
    tensor = torch.from_numpy(whole[:800].view(np.float32).reshape(20, 10))[3:, 2]
    tensor.fill_(5.0)
    del whole
    other = memory(1000)
    assert address(other) != place
    other.fill(255)
    assert (tensor == 5.0).all()
    del tensor
    assert address(memory(1000)) == place


def test_the_smallest_piece_that_is_large_enough_is_given_and_small_ones_are_let_go_for_larger() -> None:
    memory = Reused()
    large, small = memory(3000), memory(1000)
    places = address(large), address(small)
    del large, small
    assert address(memory(900)) == places[1]
    one, two = memory(900), memory(900)
    assert {address(one), address(two)} == set(places)
    del one, two
    assert len(memory(9000)) == 9000
    assert len(memory._free) == 1


def test_pieces_are_no_more_than_were_held_at_once() -> None:
    memory = Reused()
    for _ in range(20):
        held = [memory(1000) for _ in range(3)]
        del held
    memory(1)
    assert len(memory._free) + len(memory._returned) == 3


def test_threads_never_share_a_piece() -> None:
    memory = Reused()

    def own(number: int) -> bool:
        piece = memory(4096)
        piece.fill(number)
        return bool((piece == number).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(own, [each % 251 for each in range(3000)]))
