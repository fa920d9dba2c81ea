"""Both kinds of noise: normal, independent, and a lane's own; the one by index against a loop, and
in a chain.

Tolerances: five standard errors of each moment; float32 rounding for the loop, which computes in
double precision; four standard errors for the chain, which are bounded.
"""

import math

import numpy as np
import pytest
import torch

from devsort.llc import estimate
from devsort.rng import stream
from devsort.sampling import chains, sample
from devsort.sampling import noise as module
from devsort.sampling.config import SamplerConfig
from devsort.sampling.noise import STEPS, GeneratorNoise, IndexNoise, lane_noise, mix, normal
from devsort.validation.formulas import Quadratic

KINDS = (GeneratorNoise, IndexNoise)
WORD = 2**64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [1, 31, 50_000])
def test_noise_of_a_lane_is_bitwise_its_own(kind, width):
    steps = 3 if width > 1000 else 600
    streams = [(0, 1), (5, 2), (3, 3)]
    together = kind(1, streams, torch.zeros(3, width))
    alone = kind(1, streams[1:2], torch.zeros(1, width))
    seen = []
    for step in range(steps):
        row = together(step)
        assert torch.equal(alone(step)[0], row[1])
        seen.append(row[:, 0].clone())
    draws = torch.stack(seen)  # (steps, 3)
    assert len(draws.unique()) == draws.numel()


@pytest.mark.parametrize("kind", KINDS)
def test_noise_is_standard_normal_and_independent(kind):
    drawn = kind(0, [(c,) for c in range(50)], torch.zeros(50, 4))
    # (T, lanes, F), four blocks of a generator
    x = torch.stack([drawn(step).clone() for step in range(1000)])
    n = x.numel()
    assert abs(float(x.mean())) < 5 / math.sqrt(n)
    assert abs(float(x.var()) - 1) < 5 * math.sqrt(2 / n)
    assert abs(float((x**4).mean()) - 3) < 5 * math.sqrt(96 / n)
    for lag in (1, 2, STEPS):
        assert abs(float((x[lag:] * x[:-lag]).mean())) < 5 / math.sqrt(n / 2)
    for a, b in ((x[:, 1:], x[:, :-1]), (x[..., 1:], x[..., :-1])):
        assert abs(float((a * b).mean())) < 5 / math.sqrt(n / 2)
        assert abs(float((a**2 * b**2).mean()) - 1) < 5 * math.sqrt(8 / (n / 2))


def test_the_device_decides():
    assert isinstance(lane_noise(0, [(0,)], torch.zeros(1, 2)), GeneratorNoise)
    assert isinstance(lane_noise(0, [(0,)], torch.zeros(1, 2, device="meta")), IndexNoise)


def python_mix(x: int) -> int:
    x = (x + 0x9E3779B97F4A7C15) % WORD
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)


def test_mix_is_splitmix64():
    # its first output for the seed 0
    assert int(mix(torch.zeros(1, dtype=torch.int64))) % WORD == 0xE220A8397B1DCDAF
    words = torch.tensor([1, -1, 2**62, -(2**63), 987654321])
    assert [int(x) % WORD for x in mix(words)] == [python_mix(int(x) % WORD) for x in words]


def test_noise_by_index_is_that_of_a_loop():
    streams, width = [(2, 7), (2, 8)], 5
    drawn = IndexNoise(3, streams, torch.zeros(2, width))
    for step in range(3):
        row = drawn(torch.tensor([step]) if step else step)  # as in a graph, or plainly
        for lane, index in enumerate(streams):
            key = int(stream(3, "noise", *index).integers(-(2**63), 2**63, dtype=np.int64)) % WORD
            for i in range(width):
                bits = python_mix(python_mix(key ^ python_mix(step)) ^ python_mix(i // 2))
                radius = math.sqrt(-2 * math.log(((bits >> 32) + 1) / 2**32))
                angle = 2 * math.pi * (bits % 2**32) / 2**32
                expected = radius * (math.sin(angle) if i % 2 else math.cos(angle))
                assert float(row[lane, i]) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def python_unmix(x: int) -> int:
    """What is mixed to x."""

    def unshifted(x: int, bits: int) -> int:
        out = x
        for _ in range(64 // bits):
            out = x ^ (out >> bits)
        return out

    x = unshifted(x, 31) * pow(0x94D049BB133111EB, -1, WORD) % WORD
    x = unshifted(x, 27) * pow(0xBF58476D1CE4E5B9, -1, WORD) % WORD
    return (unshifted(x, 30) - 0x9E3779B97F4A7C15) % WORD


def test_the_numbers_are_finite_at_both_ends_of_the_bits():
    ends = [python_unmix(0), python_unmix(WORD - 1)]
    indices = torch.tensor([[x - WORD if x >= WORD // 2 else x for x in ends]])
    assert mix(indices).tolist() == [[0, -1]]
    assert normal(indices).isfinite().all()


def test_pieces_change_nothing(monkeypatch):
    whole = IndexNoise(0, [(c,) for c in range(7)], torch.zeros(7, 10))(0).clone()
    monkeypatch.setattr(module, "AT_ONCE", 25)  # two lanes
    assert torch.equal(IndexNoise(0, [(c,) for c in range(7)], torch.zeros(7, 10))(0), whole)


def test_a_chain_on_an_accelerators_noise_finds_the_known_answer(monkeypatch):
    monkeypatch.setattr(chains, "lane_noise", IndexNoise)
    config = SamplerConfig(
    geometry="absolute",
        lr=1e-3, n_beta=50, localization=2, num_chains=200, num_draws=1500, num_burnin_steps=100,
        batch_size=1,
    )  # fmt: skip
    star, data = {"w": torch.zeros(1)}, torch.zeros(2, 1)
    found = estimate(sample(lambda p, _: 1.5 * p["w"].square().sum(), star, data, config))
    assert found.se < 0.02
    truth = Quadratic(np.array([3.0]), config).expected()  # 0.513
    assert found.llc == pytest.approx(truth, abs=4 * found.se)
