"""Planted networks: hand-written weights that sort, so that what each head does is known.

Every token v has its own direction e_v. The directions are orthonormal and have mean zero, so layer
norm only rescales them. All heads attend to the smallest number that is larger than the current
one; their OV circuits are diagonal in the token basis:

    attention score of query b for key a   S[b, a] = −κ · gap for gap = a − b ≥ 1, far lower for
                                           gap ≤ 0
    what head h adds when it attends to a  strength[h, a] · e_a: > 0 copies, < 0 suppresses,
                                           0 does nothing

If a copier made no errors, lowering its numbers could only raise the loss. So in a plan with
suppression all heads make the same errors: the plan's `errors` are added to the scores for larger
numbers. The suppressor attends where the copier attends, but with errors that are KEEN times as
large. It therefore lowers a number that is wrongly copied by more than it lowers the answer.

`by_attention` plants the other way to divide the work, which the OV circuits do not show: every
head's OV circuit copies every number, but each head attends only to the numbers that it owns, or to
SEP if there are none. Smaller numbers are copied more strongly, so that the smaller one wins if two
heads each find a candidate.

Planting needs d_model ≥ N + 2 (a direction for each token besides the mean) and d_head ≥ 0.9 N; the
baseline's 96 and 48 are enough.
"""

from functools import lru_cache

import numpy as np
import torch
from scipy.linalg import helmert

from devsort.errors import UserError
from devsort.rng import name_key, stream
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.model import ATTN, Params, model_shape, param_shapes
from devsort.sorting.plans import KINDS, Plan, draw_plan, draw_suppressor

__all__ = ["KINDS", "Plan", "draw_network", "draw_plan", "draw_suppressor", "network", "noisy"]

# κ, nats of attention per unit of gap: the nearest candidate gets 7 times its neighbour's weight
SLOPE = 2.0
FAR = 14  # larger gaps are rare; scores fall more slowly there, so that they need less range
TAIL = 0.25  # the slope there, relative to κ
# nats between the worst candidate and the current number, which must not be attended to
MARGIN = 10.0
# score for all smaller numbers, relative to that for the current one: d_head < N suffices for a
# fall in two steps
FLOOR = 1.8
LOGIT = 20.0  # logit of a copied number on the scale of the final layer norm
KEEN = 3.0  # errors in a suppressor's scores, relative to those in a copier's
FADE = 0.97  # by_attention: strength of number t + 1 relative to t


def draw_network(
    kind: str, task: TaskConfig, model: ModelConfig, seed: int, index: int, noise: float = 0.0
) -> tuple[Params, Plan]:
    """The `index`-th random network of a kind, in a random residual basis.

    Args:
        kind: One of KINDS.
        task: Gives list length and numbers.
        model: Gives the widths and layer norm; the plan gives the number of heads.
        seed: Seed of the draws.
        index: Index of the draw.
        noise: Standard deviation of the noise on each weight, relative to its matrix's root mean
            square.
    """
    rng = stream(seed, "planted", name_key(kind), index)
    plan = draw_plan(kind, task.numbers, rng)
    params = network(plan, task, model, rng)
    return noisy(params, noise, rng), plan


def network(
    plan: Plan, task: TaskConfig, model: ModelConfig, rng: np.random.Generator | None = None
) -> Params:
    """Weights that implement a plan, in a random residual basis if `rng` is given.

    Raises:
        UserError: The model is too narrow for so many numbers.
    """
    N, D, d = task.numbers, model.d_model, model.d_head
    if N + 2 > D or d < 0.9 * N:
        need = f"d_model >= {N + 2} and d_head >= {int(np.ceil(0.9 * N))}"
        raise UserError(
            f"a planted network of {N} numbers needs {need}, got {D} and {d}", "widen the model"
        )
    shape = model_shape(task, model.model_copy(update={"heads": len(plan.strength)}))
    tokens = _token_directions(N + 1, D, rng)  # (V, D)
    gain = np.sqrt(D) if model.layer_norm else 1.0  # length of a normalised token
    frame = _output_frame(N, d)  # (N, d)
    heads = [_head(plan, h, tokens, frame, gain) for h in range(shape.heads)]
    params = {
        name: np.ones(s) if name.endswith("w") else np.zeros(s)
        for name, s in param_shapes(shape).items()
    }
    params |= {ATTN + w: np.stack([head[w] for head in heads]) for w in heads[0]}
    params["embed.W_E"] = tokens
    params["unembed.W_U"][:, :N] = tokens[:N].T * _logit_scale(plan, gain)
    return {name: torch.from_numpy(np.ascontiguousarray(p)).float() for name, p in params.items()}


def _head(
    plan: Plan, head: int, tokens: np.ndarray, frame: np.ndarray, gain: float
) -> dict[str, np.ndarray]:
    N, d = frame.shape
    visible = plan.copies[head] if plan.by_attention else np.ones(N, bool)
    strength = (
        np.abs(plan.strength).max() * FADE ** np.arange(1 - N, 1)
        if plan.by_attention
        else plan.strength[head]
    )
    query, key = _attention(tuple(visible), plan.by_attention, d)
    if plan.errors is not None:
        errors = plan.errors * (KEEN if (plan.strength[head] < 0).any() else 1)
        query, key = _factors(_scores(N, visible, plan.by_attention, errors) * np.sqrt(d), d)
    numbers = tokens[:N].T / gain
    return {
        "W_Q": tokens.T @ query / gain,
        "W_K": tokens.T @ key / gain,
        "W_V": numbers @ (strength[:, None] * frame),
        "W_O": frame.T @ tokens[:N],
    }


@lru_cache(maxsize=16)  # heads with the same attention share their factors
def _attention(visible: tuple[bool, ...], sink: bool, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Queries and keys of each token, (V, d) each, for a head that sees some of the numbers."""
    return _factors(_scores(len(visible), np.array(visible), sink) * np.sqrt(width), width)


def _scores(
    numbers: int, visible: np.ndarray, sink: bool, errors: np.ndarray | float = 0.0
) -> np.ndarray:
    current = np.append(np.arange(numbers), -1)[:, None]  # SEP queries like a number below all
    gap = np.arange(numbers) - current
    slope = 1.5 * SLOPE if sink else SLOPE  # fewer visible keys leave room for a steeper slope
    score = -slope * (np.minimum(gap, FAR) + TAIL * np.maximum(gap - FAR, 0.0))
    worst = score.min()
    floor = FLOOR * (worst - MARGIN)
    score = np.where(gap > 0, score + errors, np.where(gap == 0, worst - MARGIN, floor))
    score[:, ~visible] = floor
    at_sep = np.full((numbers + 1, 1), worst - MARGIN / 2 if sink else floor)
    score = np.hstack([score, at_sep])
    return score - score.mean(1, keepdims=True)


@lru_cache(maxsize=1)
def _basis(width: int) -> np.ndarray:
    return helmert(width)  # (D − 1, D), orthonormal rows of mean zero


def _token_directions(count: int, width: int, rng: np.random.Generator | None) -> np.ndarray:
    if rng is None:
        return _basis(width)[:count]
    rotation, _ = np.linalg.qr(rng.standard_normal((width - 1, count)))
    return rotation.T @ _basis(width)


def _factors(matrix: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    u, s, vt = np.linalg.svd(matrix)
    rank_used = min(rank, len(s))
    query, key = np.zeros((len(u), rank)), np.zeros((len(u), rank))
    query[:, :rank_used] = u[:, :rank_used] * np.sqrt(s[:rank_used])
    key[:, :rank_used] = vt[:rank_used].T * np.sqrt(s[:rank_used])
    return query, key


def _output_frame(numbers: int, width: int) -> np.ndarray:
    """F (N, d) with F Fᵀ = I minus the constant, which no softmax sees, and the fastest waves."""
    t = np.arange(numbers)
    waves = [np.ones(numbers)]
    for k in range(numbers // 2, 0, -1):
        waves += [np.cos(2 * np.pi * k * t / numbers), np.sin(2 * np.pi * k * t / numbers)]
    drop = max(numbers - width, 0)
    keep = np.linalg.qr(np.stack(waves[: numbers + 1], 1)[:, :numbers])[0][:, drop:]
    return np.pad(keep, ((0, 0), (0, width - keep.shape[1])))


def _logit_scale(plan: Plan, gain: float) -> float:
    per_unit = LOGIT / (gain if gain > 1 else plan.strength.max())
    return per_unit * 4 if plan.by_attention else per_unit


def noisy(params: Params, noise: float, rng: np.random.Generator) -> Params:
    """Weights plus Gaussian noise relative to each matrix's RMS; biases and gains get none."""

    def with_noise(name: str, value: torch.Tensor) -> torch.Tensor:
        rms = value.square().mean().sqrt() if "W_" in name else 0.0
        return value + noise * rms * torch.from_numpy(rng.standard_normal(value.shape)).float()

    return {name: with_noise(name, value) for name, value in params.items()}
