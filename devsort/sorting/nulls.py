"""Networks with a head that has no role: what a definition of roles must refuse."""

import numpy as np
import torch

from devsort.sorting.model import ATTN, Params


def rotated(params: Params, head: int, rng: np.random.Generator) -> Params:
    """A network with one head's W_O rotated at random in the residual stream.

    The head keeps its attention and the size of its output, and writes in other directions. By
    chance it lowers about as many numbers as it raises.
    """
    output = params[ATTN + "W_O"].clone()  # (H, d, D)
    width = output.shape[-1]
    rotation, _ = np.linalg.qr(rng.standard_normal((width, width)))
    output[head] = output[head] @ torch.from_numpy(rotation).float()
    return {**params, ATTN + "W_O": output}


def with_noise_head(params: Params, size: float, rng: np.random.Generator) -> Params:
    """A network with one more head, whose weights are noise.

    Their root mean square is `size` times that of the first head; its biases are zero.
    """

    def added(name: str, value: torch.Tensor) -> torch.Tensor:
        drawn = torch.from_numpy(rng.standard_normal(value[:1].shape)).float()
        scale = size * value[0].square().mean().sqrt() if ".W_" in name else 0.0
        return torch.cat([value, scale * drawn])

    mine = [ATTN + part + matrix for part in ("W_", "b_") for matrix in "QKV"] + [ATTN + "W_O"]
    return {n: added(n, value) if n in mine else value for n, value in params.items()}
