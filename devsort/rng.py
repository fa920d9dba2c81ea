"""Random numbers by index.

A stream is named by (seed, purpose, indices) and never depends on what was drawn before.
"""

import zlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # importing torch takes seconds, and numpy's streams do not need it
    import torch

# position and number of the Mersenne Twister's words in the state of a CPU generator
MT_START, MT_WORDS = 3, 624


def stream(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """Returns the numpy generator of a named stream."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, purpose, index)))


def torch_stream(
    seed: int, purpose: str, *index: int, device: "torch.device | str" = "cpu"
) -> "torch.Generator":
    """Returns the torch generator of a named stream. The global generator is not changed.

    On the CPU all 624 words of the Mersenne Twister are set. Seeding it the usual way uses only 32
    bits: among n streams, two would coincide with probability n²/2³³, or 1 in 21 for 20,000 lanes.
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
    """Like `torch_stream`, but streams differ in only 32 bits.

    Use it where there are few streams, such as those of initial weights.
    """
    import torch

    state = int(_sequence(seed, purpose, index).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state >> 1)


def name_key(name: str) -> int:
    """Returns a stable integer for a name, for use as an index of a stream."""
    return zlib.crc32(name.encode())


def _sequence(seed: int, purpose: str, index: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(entropy=seed, spawn_key=(name_key(purpose), *index))
