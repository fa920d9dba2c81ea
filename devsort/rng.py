"""Random numbers by index.

A stream is named by (seed, purpose, indices), never by what was drawn before.
"""

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # torch takes seconds, and numpy's streams do without
    import torch

# where the 64-bit words of a CPU generator's state hold those of its Mersenne Twister
MT_START, MT_WORDS = 3, 624


def stream(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """The numpy generator of one named stream."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, purpose, index)))


def torch_stream(
    seed: int, purpose: str, *index: int, device: "torch.device | str" = "cpu"
) -> "torch.Generator":
    """The torch generator of one named stream; the global generator is never touched.

    On the CPU all 624 words of its Mersenne Twister are set. Seeding alone keeps 32 bits: of n
    streams two would be the same with probability n²/2³³, which at 20,000 lanes is 1 in 21.
    """
    generator = short_torch_stream(seed, purpose, *index, device=device)
    if generator.device.type == "cpu":
        state = generator.get_state()
        words = _sequence(seed, purpose, index).generate_state(MT_WORDS, np.uint32)
        state.numpy().view(np.uint64)[MT_START : MT_START + MT_WORDS] = words
        generator.set_state(state)
    return generator


def short_torch_stream(
    seed: int, purpose: str, *index: int, device: "torch.device | str" = "cpu"
) -> "torch.Generator":
    """As `torch_stream`, but told apart by 32 bits alone.

    For streams that are few, as those of initial weights.
    """
    import torch

    state = int(_sequence(seed, purpose, index).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state >> 1)


def name_key(name: str) -> int:
    """A stable integer for a name, to be used as an index of a stream."""
    return zlib.crc32(name.encode())


def _sequence(seed: int, purpose: str, index: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(entropy=seed, spawn_key=(name_key(purpose), *index))
