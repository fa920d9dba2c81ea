"""Networks with a head that has no role, which a definition of roles must not give one."""

import numpy as np
import torch

from devsort.sorting.model import ATTN, Params


def rotated(params: Params, head: int, rng: np.random.Generator) -> Params:
    """A network with one head's W_O rotated at random in the residual stream.

    The head keeps its attention and the size of its output, but writes in other directions, so it
    raises about as many numbers as it lowers.
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

    def with_one_more(name: str, value: torch.Tensor) -> torch.Tensor:
        noise = torch.from_numpy(rng.standard_normal(value[:1].shape)).float()
        scale = size * value[0].square().mean().sqrt() if ".W_" in name else 0.0
        return torch.cat([value, scale * noise])

    names = [ATTN + part + matrix for part in ("W_", "b_") for matrix in "QKV"] + [ATTN + "W_O"]
    return {n: with_one_more(n, value) if n in names else value for n, value in params.items()}
