"""The networks of the sampled checkpoints, as the page needs them.

The weights are in half precision, and the effect of rounding is checked. Everything else is
computed from the rounded weights, so that all parts of the page show the same network.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from devsort.errors import UserError
from devsort.explorer.packing import HALF, SINGLE, numbers, packed
from devsort.sorting import circuits
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.config import TaskConfig
from devsort.sorting.heads.measures import CHUNK, residual, scale
from devsort.sorting.model import Params, Shape, activations, forward, losses, model_shape
from devsort.sorting.run import Run
from devsort.sorting.task import Batch, eval_batch

CHECKED = 256  # lists on which the rounded weights are compared with the trained ones
LARGEST_CHANGE = 0.01  # change of the mean loss, in nats, that rounding may cause
CLIP = 99.0  # percentile of the absolute entries at which the colours end, as in the figures


def pack_networks(run: Run, steps: Sequence[int]) -> dict[str, Any]:
    """The networks of the steps.

    Returns:
        networks: for each step the weights, the mean output of each head over lists and answers
        (H, D), and the mean scale of the final layer norm; limits: where the colours of OV and QK
        end, the same at all steps; rounding: what half precision changed; query_positions (V, L).

    Raises:
        UserError: Half precision cannot hold the weights of a step.
    """
    shape = model_shape(run.config.task, run.config.model)
    batch = eval_batch(_heads_task(run))
    packs, limits, changes = [], [], []
    for step in steps:
        trained = load_checkpoint(run, step)
        params = rounded(trained, f"{run.checkpoint(step)}")
        changes.append(change(trained, params, batch[:CHECKED]))
        mean, sigma = typical(params, shape, batch)
        limits.append(_limits(params, shape, sigma))
        packs.append(_network(params, mean, sigma))
    _refuse_rough(run, steps, changes)
    return {
        "networks": packs,
        "limits": dict(zip(("OV", "QK"), np.max(limits, 0).tolist(), strict=True)),
        "rounding": {
            "loss_change": numbers([loss for loss, _ in changes]),
            "probability_change": numbers([probability for _, probability in changes]),
        },
        "query_positions": packed(circuits.query_positions(shape), SINGLE),
    }


def rounded(params: Mapping[str, Tensor], where: str) -> Params:
    """The weights as half precision holds them, in single precision.

    Raises:
        UserError: One is too large.
    """
    half = {name: value.half().float() for name, value in params.items()}
    if not all(torch.isfinite(value).all() for value in half.values()):
        fix = "explore another run: a weight is beyond 65,504, or not finite"
        raise UserError(f"{where} does not fit half precision", fix)
    return half


@torch.inference_mode()
def change(trained: Mapping[str, Tensor], params: Params, batch: Batch) -> tuple[float, float]:
    """|Change of the mean loss| in nats by rounding, and the largest change of a probability."""
    loss = [losses(p, batch.tokens, batch.targets).mean() for p in (trained, params)]
    answers = [forward(p, batch.tokens).softmax(-1) for p in (trained, params)]
    return float((loss[1] - loss[0]).abs()), float((answers[1] - answers[0]).abs().max())


@torch.inference_mode()
def typical(params: Params, shape: Shape, batch: Batch) -> tuple[Tensor, float]:
    """Mean output (H, D) of each head, and the harmonic mean of σ_f, as in `heads.measures`."""
    total, inverse = torch.zeros(shape.heads, shape.d_model), 0.0
    for start in range(0, len(batch), CHUNK):
        act = activations(params, batch[start : start + CHUNK].tokens)
        total += act.head_out.sum((0, 2))
        inverse += float((1 / scale(residual(params, act), shape)).sum())
    count = batch.targets.numel()
    return total / count, count / inverse


@torch.inference_mode()
def _limits(params: Params, shape: Shape, sigma: float) -> tuple[float, float]:
    matrices = circuits.ov(params, shape) / sigma, circuits.qk(params, shape)
    return tuple(float(np.percentile(m.abs().numpy(), CLIP)) for m in matrices)


def _network(params: Params, mean: Tensor, sigma: float) -> dict[str, Any]:
    weights = {name: packed(value.numpy(), HALF) for name, value in params.items()}
    return {"weights": weights, "mean_out": packed(mean.numpy(), SINGLE), "sigma": sigma}


def _heads_task(run: Run) -> TaskConfig:
    """The task whose lists `devsort heads` averages over."""
    return run.config.task.model_copy(update={"eval_lists": run.config.heads.lists})


def _refuse_rough(run: Run, steps: Sequence[int], changes: Sequence[tuple[float, float]]) -> None:
    worst = max(range(len(steps)), key=lambda i: changes[i][0])
    if changes[worst][0] > LARGEST_CHANGE:
        what = f"{run.checkpoint(steps[worst])}: half precision changes its loss by"
        raise UserError(f"{what} {changes[worst][0]:.2g} nats", "explore another run")
