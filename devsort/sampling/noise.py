"""Standard normal noise for each lane, which does not depend on the other lanes.

On a CPU each lane has a generator of its own, torch's Mersenne Twister, which is the fastest choice
there. On an accelerator this would need one launch per lane. There, as in counter-based generators
(Salmon et al. 2011), the number at position i of lane g at step t is a function of (g, t, i), which
takes a few operations for all lanes together:

    bits = mix(mix(key_g ⊕ mix(t)) ⊕ mix(i))
    z_2i, z_2i+1 = Box–Muller(upper 32 bits, lower 32 bits)

where mix is the finalizer of SplitMix64 (Steele, Lea & Flood 2014) and key_g is a 64-bit key that
is derived from the name of the stream.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from devsort.rng import stream, torch_stream

STEPS, BLOCK = 256, 2**14  # the most steps and numbers that a lane draws from its generator at once
# how many numbers are computed from their indices at once, using a few temporaries of 64 MiB
AT_ONCE = 2**24
# as int64
GOLDEN, FIRST, SECOND = (
    x - 2**64 for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def lane_noise(
    seed: int, streams: Sequence[tuple[int, ...]], like: Tensor
) -> Callable[[Any], Tensor]:
    """Returns the noise of some lanes, as a function of the step; see the two classes.

    Args:
        seed: Seed of all streams.
        streams: For each lane, the indices that name its stream.
        like: The parameters (G, F), which determine the shape, type and device of the noise.
    """
    return (GeneratorNoise if like.device.type == "cpu" else IndexNoise)(seed, streams, like)


class GeneratorNoise:
    """Draws the noise of each lane from its own generator; see the module.

    It must be called for consecutive steps, starting at 0.
    """

    def __init__(self, seed: int, streams: Sequence[tuple[int, ...]], like: Tensor) -> None:
        self.generators = [
            torch_stream(seed, "noise", *index, device=like.device) for index in streams
        ]
        # depends only on F, not on the lanes
        steps = min(STEPS, max(1, BLOCK // like.shape[1]))
        self.block = like.new_empty(len(like), steps, like.shape[1])

    def __call__(self, step: int) -> Tensor:
        """Returns the numbers (G, F) of a step, in memory that a later call overwrites."""
        at = step % self.block.shape[1]
        if at == 0:
            for lane, generator in zip(self.block, self.generators, strict=True):
                lane.normal_(generator=generator)
        return self.block[:, at]


class IndexNoise:
    """Computes each number from its indices; see the module.

    The step may be a tensor (1,) on the device.
    """

    def __init__(self, seed: int, streams: Sequence[tuple[int, ...]], like: Tensor) -> None:
        keys = [
            stream(seed, "noise", *index).integers(-(2**63), 2**63, dtype=np.int64)
            for index in streams
        ]
        self.keys = torch.tensor(np.array(keys), device=like.device)  # (G,)
        self.positions = mix(torch.arange(-(-like.shape[1] // 2), device=like.device))  # (⌈F/2⌉,)
        self.out = torch.empty_like(like)

    def __call__(self, step: int | Tensor) -> Tensor:
        """Returns the numbers (G, F) of a step, in memory that the next call overwrites."""
        keys = mix(self.keys ^ mix(torch.zeros_like(self.keys) + step))
        lanes = max(1, AT_ONCE // self.out.shape[1])
        for key, out in zip(keys.split(lanes), self.out.split(lanes), strict=True):
            out.copy_(normal(key[:, None] ^ self.positions)[:, : out.shape[1]])
        return self.out


def normal(bits: Tensor) -> Tensor:
    """Returns standard normal numbers (G, 2n) for indices (G, n) int64, by Box–Muller in float32.

    The indices are mixed first. The radius has 32 random bits, so no number exceeds sqrt(64 ln 2) =
    6.7; of exact normal numbers, 3 in 10¹¹ would.
    """
    bits = mix(bits)
    upper = _shifted(bits, 32).float().add_(1).mul_(2.0**-32)  # (0, 1]
    angle = bits.bitwise_and_(2**32 - 1).float().mul_(2 * math.pi * 2.0**-32)
    radius = upper.log_().mul_(-2).sqrt_()
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1).flatten(-2)


def mix(x: Tensor) -> Tensor:
    """Returns SplitMix64's output for the state x, a bijection of the 64-bit integers (int64)."""
    x = x + GOLDEN
    x = (x ^ _shifted(x, 30)).mul_(FIRST)
    x = (x ^ _shifted(x, 27)).mul_(SECOND)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shifts x right and fills in zeros; torch's own shift repeats the sign bit."""
    return (x >> bits).bitwise_and_(2 ** (64 - bits) - 1)
