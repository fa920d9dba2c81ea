"""Standard normal noise by lane: a lane's numbers never depend on the lanes beside it.

On a CPU each lane has a generator of its own, torch's Mersenne Twister, which is the fastest there.
On an accelerator that would be a launch for every lane; there the number at position i of lane g at
step t is a function of (g, t, i) instead, as in counter-based generators (Salmon et al. 2011), for
all lanes in a few operations:

    bits = mix(mix(key_g ⊕ mix(t)) ⊕ mix(i))
    z_2i, z_2i+1 = Box–Muller(upper 32 bits, lower 32 bits)

where mix is the finalizer of SplitMix64 (Steele, Lea & Flood 2014) and key_g has 64 bits that are
named by the stream.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from devsort.rng import stream, torch_stream

STEPS, BLOCK = 256, 2**14  # most steps and numbers that a lane draws at once from its generator
# numbers that are computed at once from their indices, in some temporaries of 64 MiB
AT_ONCE = 2**24
# as int64
GOLDEN, FIRST, SECOND = (
    x - 2**64 for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


def lane_noise(
    seed: int, streams: Sequence[tuple[int, ...]], like: Tensor
) -> Callable[[Any], Tensor]:
    """The noise of lanes whose parameters (G, F) are `like`, on its device.

    A function of the step, see both classes.

    Args:
        seed: Seed of all streams.
        streams: For each lane the indices that name its stream.
        like: Tells size, type and device.
    """
    return (GeneratorNoise if like.device.type == "cpu" else IndexNoise)(seed, streams, like)


class GeneratorNoise:
    """Each lane from a generator of its own.

    See the module. Steps must be asked for one after the other, from 0.
    """

    def __init__(self, seed: int, streams: Sequence[tuple[int, ...]], like: Tensor) -> None:
        self.generators = [
            torch_stream(seed, "noise", *index, device=like.device) for index in streams
        ]
        # a function of F alone, never of the lanes
        steps = min(STEPS, max(1, BLOCK // like.shape[1]))
        self.block = like.new_empty(len(like), steps, like.shape[1])

    def __call__(self, step: int) -> Tensor:
        """The numbers (G, F) of a step, a view of memory that is used again."""
        at = step % self.block.shape[1]
        if at == 0:
            for lane, generator in zip(self.block, self.generators, strict=True):
                lane.normal_(generator=generator)
        return self.block[:, at]


class IndexNoise:
    """Each number from its indices; see the module. A step may be a tensor (1,) on the device."""

    def __init__(self, seed: int, streams: Sequence[tuple[int, ...]], like: Tensor) -> None:
        keys = [
            stream(seed, "noise", *index).integers(-(2**63), 2**63, dtype=np.int64)
            for index in streams
        ]
        self.keys = torch.tensor(np.array(keys), device=like.device)  # (G,)
        self.positions = mix(torch.arange(-(-like.shape[1] // 2), device=like.device))  # (⌈F/2⌉,)
        self.out = torch.empty_like(like)

    def __call__(self, step: int | Tensor) -> Tensor:
        """The numbers (G, F) of a step, memory that is used again."""
        keys = mix(self.keys ^ mix(torch.zeros_like(self.keys) + step))
        lanes = max(1, AT_ONCE // self.out.shape[1])
        for key, out in zip(keys.split(lanes), self.out.split(lanes), strict=True):
            out.copy_(normal(key[:, None] ^ self.positions)[:, : out.shape[1]])
        return self.out


def normal(bits: Tensor) -> Tensor:
    """Standard normal numbers (G, 2n) of indices (G, n) int64, by Box–Muller in float32.

    The indices are mixed here. The radius comes from 32 bits, so no number is larger than sqrt(64
    ln 2) = 6.7: beyond it lie 3 of 10¹¹.
    """
    bits = mix(bits)
    upper = _shifted(bits, 32).float().add_(1).mul_(2.0**-32)  # (0, 1]
    angle = bits.bitwise_and_(2**32 - 1).float().mul_(2 * math.pi * 2.0**-32)
    radius = upper.log_().mul_(-2).sqrt_()
    return torch.stack([radius * angle.cos(), radius * angle.sin()], -1).flatten(-2)


def mix(x: Tensor) -> Tensor:
    """SplitMix64's output for the state x: a bijection of 64-bit numbers (int64, modulo 2⁶⁴)."""
    x = x + GOLDEN
    x = (x ^ _shifted(x, 30)).mul_(FIRST)
    x = (x ^ _shifted(x, 27)).mul_(SECOND)
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """x shifted right with zeros coming in; torch's own shift repeats the sign."""
    return (x >> bits).bitwise_and_(2 ** (64 - bits) - 1)
