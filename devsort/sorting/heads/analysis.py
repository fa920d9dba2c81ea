"""All that is measured of the heads of one network, and how it becomes a data set."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from devsort.sorting import circuits
from devsort.sorting.config import HeadsConfig
from devsort.sorting.heads import modes, ranges
from devsort.sorting.heads.measures import HEAD_MEASURES, measure
from devsort.sorting.heads.tables import draw_weights, group_sums, tables
from devsort.sorting.model import Shape
from devsort.sorting.task import Batch

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True)
class Analysis:
    """What the heads of one network do.

    Attributes:
        loss: Mean cross-entropy in nats.
        accuracy: Share of right answers.
        tables: Each of HEAD_MEASURES by head and number, (H, N).
        errors: Their bootstrap standard errors, (H, N).
        scores: (3,), in the order of modes.SCORES.
        score_draws: (draws, 3).
        labels: (4,) bool, in the order of modes.LABELS.
        label_draws: (draws, 4) bool.
        weights: What is read from the weights and the residual stream, by name: scalars or (H,).
    """

    loss: float
    accuracy: float
    tables: ranges.Tables
    errors: ranges.Tables
    scores: np.ndarray
    score_draws: np.ndarray
    labels: np.ndarray
    label_draws: np.ndarray
    weights: dict[str, float | np.ndarray]


def analyse(
    params: Mapping[str, Tensor], shape: Shape, batch: Batch, config: HeadsConfig
) -> Analysis:
    """Measures every head of one network on a batch of lists.

    Args:
        params: State dict under HookedTransformer's names.
        shape: Its dimensions, see `model.infer_shape`.
        batch: Evaluation lists; `config.lists` is for the caller that draws them.
        config: Thresholds and the bootstrap.
    """
    answers = measure(params, shape, batch)
    counts, sums = group_sums(answers, shape.numbers)
    table = tables(counts, sums)
    draws = tables(counts, sums, draw_weights(len(counts), config.bootstrap, config.seed))
    return Analysis(
        answers.loss.mean().item(),
        answers.correct.float().mean().item(),
        table,
        {name: value.std(0) for name, value in draws.items()},
        modes.scores(table, config),
        modes.scores(draws, config),
        modes.labels(table, config),
        modes.labels(draws, config),
        read_weights(params) | {"residual_rank": answers.resid_rank},
    )


def read_weights(params: Mapping[str, Tensor]) -> dict[str, float | np.ndarray]:
    """Effective ranks and norms of the weights."""
    return {
        "ov_rank": circuits.ov_rank(params).cpu().numpy(),
        "qk_rank": circuits.qk_rank(params).cpu().numpy(),
        "head_norm": circuits.head_norms(params).cpu().numpy(),
        "weight_norm": circuits.weight_norm(params),
    }


def dataset(
    analyses: Sequence[Analysis], steps: Sequence[int], config: HeadsConfig
) -> "xr.Dataset":
    """Stacks analyses over checkpoints; docs/head-modes.md lists the variables.

    Masks and owners are functions of the tables and the thresholds, stored so that a reader needs
    neither.
    """
    import xarray as xr

    def stack(values: Sequence) -> np.ndarray:
        return np.stack([np.asarray(v, float) for v in values])

    by_number = {name: stack([a.tables[name] for a in analyses]) for name in HEAD_MEASURES}
    masks = {
        f.__name__: f(by_number, config) for f in (ranges.copies, ranges.suppresses, ranges.needed)
    }
    errors = {f"{name}_se": stack([a.errors[name] for a in analyses]) for name in HEAD_MEASURES}
    weights = {name: stack([a.weights[name] for a in analyses]) for name in analyses[0].weights}
    draws = stack([a.score_draws for a in analyses])
    dims = ("checkpoint", "head", "number")
    owner = ranges.owner(by_number, config)
    variables = {name: (dims, value) for name, value in (by_number | errors | masks).items()}
    variables |= {name: (dims[: value.ndim], value) for name, value in weights.items()}
    variables |= {
        "loss": ("checkpoint", stack([a.loss for a in analyses])),
        "accuracy": ("checkpoint", stack([a.accuracy for a in analyses])),
        "owner": (("checkpoint", "number"), owner),
        "regions": ("checkpoint", np.array([ranges.regions(o) for o in owner])),
        "scores": (("checkpoint", "score"), stack([a.scores for a in analyses])),
        "score_draws": (("checkpoint", "draw", "score"), draws),
        "score_ci95": (
            ("checkpoint", "score", "bound"),
            np.moveaxis(np.quantile(draws, [0.025, 0.975], axis=1), 0, -1),
        ),
        "labels": (("checkpoint", "label"), np.stack([a.labels for a in analyses])),
        "label_draws": (
            ("checkpoint", "draw", "label"),
            np.stack([a.label_draws for a in analyses]),
        ),
    }
    coordinates = {
        "checkpoint": np.asarray(steps, np.int64),
        "head": np.arange(masks["copies"].shape[1]),
        "number": np.arange(masks["copies"].shape[2]),
        "score": np.array(modes.SCORES, object),
        "label": np.array(modes.LABELS, object),
        "bound": np.array(["low", "high"], object),
    }
    return xr.Dataset(variables, coordinates)


def describe(one: "xr.Dataset") -> dict[str, Any]:
    """The JSON object of one checkpoint of a data set; docs/head-modes.md lists its keys."""
    score, label = one.score.values.tolist(), one.label.values.tolist()
    return {
        "step": int(one.checkpoint),
        "loss": float(one.loss),
        "accuracy": float(one.accuracy),
        "heads": [_describe_head(one.sel(head=h)) for h in one["head"].values],
        "scores": dict(zip(score, one.scores.values.tolist(), strict=True)),
        "score_ci95": dict(zip(score, one.score_ci95.values.tolist(), strict=True)),
        "labels": [name for name, holds in zip(label, one.labels.values, strict=True) if holds],
        "label_share": dict(zip(label, one.label_draws.values.mean(0).tolist(), strict=True)),
        "regions": int(one.regions),
        "residual_rank": float(one.residual_rank),
        "weight_norm": float(one.weight_norm),
    }


def _describe_head(head: "xr.Dataset") -> dict[str, Any]:
    masks = {
        name: ranges.ranges(head[name].values.astype(bool))
        for name in ("copies", "suppresses", "needed")
    }
    numbers = {name: float(head[name]) for name in ("ov_rank", "qk_rank", "head_norm")}
    return {"head": int(head["head"]), **masks, **numbers}
