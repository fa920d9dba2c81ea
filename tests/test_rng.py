"""Streams: named by index, independent of history and of each other."""

import subprocess
import sys
from itertools import combinations

import numpy as np
import pytest
import torch

from devsort.rng import name_key, short_torch_stream, stream, torch_stream

NAMES = [
    (0, "train"),
    (1, "train"),
    (0, "eval"),
    (0, "train", 0),
    (0, "train", 0, 0),
    (0, "train", 1),
    (0, "train", 0, 1),
    (0, "train", 1, 0),
    (2**32 - 1, "train", 2**31),
]


def test_the_same_name_gives_the_same_numbers_whatever_was_drawn_before():
    first = stream(3, "noise", 5, 7).random(100)
    stream(3, "noise", 5, 6).random(1000)
    np.random.default_rng().random(10)
    assert (stream(3, "noise", 5, 7).random(100) == first).all()
    a = torch.randn(100, generator=torch_stream(3, "noise", 5, 7))
    torch.randn(10)
    assert torch.equal(torch.randn(100, generator=torch_stream(3, "noise", 5, 7)), a)


@pytest.mark.parametrize(("a", "b"), list(combinations(NAMES, 2)), ids=str)
def test_different_names_give_unrelated_numbers(a, b):
    # the correlation of n independent pairs has standard deviation 1/sqrt(n) = 0.01
    # six of them: p < 2e-9
    x, y = stream(*a).random(10_000), stream(*b).random(10_000)
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.06
    x, y = (torch.randn(10_000, generator=torch_stream(*name)).numpy() for name in (a, b))
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.06


def test_neighbouring_streams_are_unrelated_as_a_family():
    # first numbers of 4000 streams: mean 1/2, variance 1/12, no serial correlation
    # bounds are six standard errors
    first = np.array([stream(0, "train", k).random() for k in range(4000)])
    assert abs(first.mean() - 0.5) < 6 * np.sqrt(1 / 12 / 4000)
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 6 / np.sqrt(4000)


def test_global_generators_are_neither_read_nor_moved():
    torch.manual_seed(1)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    a = torch.randn(5, generator=torch_stream(0, "x"))
    stream(0, "x").random(5)
    assert torch.equal(torch.get_rng_state(), state)
    assert (np.random.get_state()[1] == numpy_state).all()  # noqa: NPY002
    torch.manual_seed(2)
    assert torch.equal(torch.randn(5, generator=torch_stream(0, "x")), a)


def test_numbers_are_those_of_another_process():
    # name_key must not be Python's hash(), which changes with every process
    code = "print(name_key('h0'), stream(1, 'a', 2).integers(2**62))"
    command = [sys.executable, "-c", f"from devsort.rng import stream, name_key; {code}"]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [str(name_key("h0")), str(stream(1, "a", 2).integers(2**62))]


def test_numbers_are_pinned():
    # published seeds must go on meaning the same data: a change here changes every run
    assert stream(0, "train", 0).integers(1000, size=4).tolist() == [892, 895, 462, 418]
    assert short_torch_stream(0, "init", 1).initial_seed() == 8389341889633121962
    numbers = torch.randint(2**31, (3,), generator=torch_stream(0, "noise", 1))
    assert numbers.tolist() == [1583048313, 1766322435, 1141591145]


def test_a_negative_index_is_refused():
    with pytest.raises(ValueError, match="non-negative"):
        stream(0, "train", -1)


# ---- torch's CPU generator keeps 32 bits of its seed


# two of 139,706 streams, found by search
TWINS = (14862, 139705)


def test_streams_whose_seeds_agree_in_the_bits_that_torch_keeps_are_unrelated():
    a, b = (torch.randn(10_000, generator=short_torch_stream(0, "x", i)) for i in TWINS)
    assert torch.equal(a, b)  # what torch's own seeding does
    a, b = (torch.randn(10_000, generator=torch_stream(0, "x", i)) for i in TWINS)
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.06  # six standard errors


def test_a_stream_is_the_mersenne_twister_of_its_624_words():
    """Against numpy's implementation: so the place of the words in torch's state is right."""
    sequence = np.random.SeedSequence(entropy=5, spawn_key=(name_key("noise"), 1, 2))
    twister = np.random.MT19937()
    words = {"key": sequence.generate_state(624, np.uint32), "pos": 624}
    twister.state = {"bit_generator": "MT19937", "state": words}
    expected = twister.random_raw(2000) % 2**20
    found = torch.randint(2**20, (2000,), generator=torch_stream(5, "noise", 1, 2))
    assert found.tolist() == expected.tolist()


def test_the_noise_of_twenty_thousand_lanes_has_no_two_the_same():
    lanes = [
        (step, restriction, chain)
        for step in range(1250)
        for restriction in range(4)
        for chain in range(4)
    ]
    first = {
        tuple(torch.randn(4, generator=torch_stream(0, "noise", *lane)).tolist()) for lane in lanes
    }
    assert len(first) == len(lanes) == 20_000
