"""Random numbers by index: a stream is named by (seed, purpose, indices), never by what was drawn before."""

import zlib

import numpy as np
import torch


def stream(seed: int, purpose: str, *index: int) -> np.random.Generator:
    """The numpy generator of one named stream."""
    return np.random.Generator(np.random.PCG64(_sequence(seed, purpose, index)))


def torch_stream(seed: int, purpose: str, *index: int, device: torch.device | str = "cpu") -> torch.Generator:
    """The torch generator of one named stream; the global generator is never touched."""
    state = int(_sequence(seed, purpose, index).generate_state(1, np.uint64)[0])
    return torch.Generator(device).manual_seed(state >> 1)


def name_key(name: str) -> int:
    """A stable integer for a name, to be used as an index of a stream."""
    return zlib.crc32(name.encode())


def _sequence(seed: int, purpose: str, index: tuple[int, ...]) -> np.random.SeedSequence:
    return np.random.SeedSequence(entropy=seed, spawn_key=(name_key(purpose), *index))
