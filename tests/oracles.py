"""Slow twins of vectorised code: Python floats and loops, one scalar at a time, in float64.

Nothing here is shared with the package: formulas are written out from their definitions.
"""

import math

import torch
from torch import Tensor

Vector = list[float]


class LoopModel:
    """The attention-only transformer on one sequence at a time.

    Args:
        params: State dict with TransformerLens names; layer norm where its gains are present.
        list_length: L; the answers are predicted at positions L … 2L−1.
    """

    def __init__(self, params: dict[str, Tensor], list_length: int) -> None:
        self.L = list_length
        self.p = {name: tensor.double().tolist() for name, tensor in params.items()}
        self.H = len(self.p["blocks.0.attn.W_Q"])
        self.D = len(self.p["embed.W_E"][0])

    def resid_pre(self, tokens: list[int]) -> list[Vector]:
        """(2L, D) token plus position."""
        W_E, W_pos = self.p["embed.W_E"], self.p["pos_embed.W_pos"]
        return [[W_E[tokens[i]][c] + W_pos[i][c] for c in range(self.D)] for i in range(2 * self.L)]

    def pattern(self, tokens: list[int], head: int) -> list[Vector]:
        """(L, 2L) attention of one head from answer position L + i to position j."""
        y = [self._norm(x, "blocks.0.ln1") for x in self.resid_pre(tokens)]
        rows = []
        for i in range(self.L, 2 * self.L):
            query = self._project(y[i], "Q", head)
            scores = [
                loop_dot(query, self._project(y[j], "K", head)) / math.sqrt(len(query))
                for j in range(i + 1)
            ]
            rows.append(loop_softmax(scores) + [0.0] * (2 * self.L - i - 1))
        return rows

    def head_out(self, tokens: list[int], head: int) -> list[Vector]:
        """(L, D) what one head adds to the residual stream at the answer positions, without b_O."""
        y = [self._norm(x, "blocks.0.ln1") for x in self.resid_pre(tokens)]
        W_O = self.p["blocks.0.attn.W_O"][head]
        out = []
        for row in self.pattern(tokens, head):
            z = [0.0] * len(W_O)
            for j, weight in enumerate(row):
                value = self._project(y[j], "V", head)
                z = [z[e] + weight * value[e] for e in range(len(z))]
            out.append([sum(z[e] * W_O[e][c] for e in range(len(z))) for c in range(self.D)])
        return out

    def logits(self, tokens: list[int]) -> list[Vector]:
        """(L, V) logits at the answer positions."""
        resid, b_O = self.resid_pre(tokens)[self.L :], self.p["blocks.0.attn.b_O"]
        heads = [self.head_out(tokens, h) for h in range(self.H)]
        W_U, b_U = self.p["unembed.W_U"], self.p["unembed.b_U"]
        out = []
        for i in range(self.L):
            x = [resid[i][c] + b_O[c] + sum(head[i][c] for head in heads) for c in range(self.D)]
            y = self._norm(x, "ln_final")
            out.append(
                [b_U[t] + sum(y[c] * W_U[c][t] for c in range(self.D)) for t in range(len(b_U))]
            )
        return out

    def loss(self, tokens: list[int], targets: list[int]) -> float:
        """Cross-entropy in nats, mean over the L answers."""
        rows = self.logits(tokens)
        return (
            sum(-math.log(loop_softmax(row)[t]) for row, t in zip(rows, targets, strict=True))
            / self.L
        )

    def _norm(self, x: Vector, name: str) -> Vector:
        if f"{name}.w" not in self.p:
            return x
        mean = sum(x) / len(x)
        variance = sum((c - mean) ** 2 for c in x) / len(x)
        w, b = self.p[f"{name}.w"], self.p[f"{name}.b"]
        return [(x[c] - mean) / math.sqrt(variance + 1e-5) * w[c] + b[c] for c in range(len(x))]

    def _project(self, y: Vector, which: str, head: int) -> Vector:
        W, b = self.p[f"blocks.0.attn.W_{which}"][head], self.p[f"blocks.0.attn.b_{which}"][head]
        return [b[e] + sum(y[c] * W[c][e] for c in range(len(y))) for e in range(len(b))]


def loop_dot(x: Vector, y: Vector) -> float:
    """Σ x_i y_i."""
    return sum(a * b for a, b in zip(x, y, strict=True))


def loop_softmax(x: Vector) -> Vector:
    """exp(x_i) / Σ exp(x_j), shifted by the largest."""
    top = max(x)
    e = [math.exp(v - top) for v in x]
    return [v / sum(e) for v in e]


def loop_gaps(numbers: list[int]) -> list[int]:
    """Differences of neighbours in the sorted list."""
    b = sorted(numbers)
    return [b[i + 1] - b[i] for i in range(len(b) - 1)]


def loop_sequence(numbers: list[int], sep: int) -> list[int]:
    """[a_1 … a_L, SEP, b_1 … b_L], sorted by selecting the smallest that is left."""
    left, ordered = list(numbers), []
    while left:
        smallest = left[0]
        for n in left:
            if n < smallest:
                smallest = n
        left.remove(smallest)
        ordered.append(smallest)
    return [*numbers, sep, *ordered]


def random_params(
    shapes: dict[str, tuple[int, ...]], seed: int, scale: float = 0.5
) -> dict[str, Tensor]:
    """Parameters of which none is at its initial value: also biases and gains are random."""
    generator = torch.Generator().manual_seed(seed)
    gain = {name: 1.0 if name.endswith(".w") else 0.0 for name in shapes}
    return {
        name: gain[name] + scale * torch.randn(size, generator=generator)
        for name, size in shapes.items()
    }
