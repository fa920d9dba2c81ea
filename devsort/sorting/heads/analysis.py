"""All measurements of the heads of one network, and their conversion to a data set."""

from collections.abc import Iterable, Mapping, Sequence
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


Variables = dict[str, tuple]  # name → dimensions and values


@dataclass(frozen=True)
class Analysis:
    """What the heads of one network do.

    Attributes:
        loss: Mean cross-entropy in nats.
        accuracy: Share of correct answers.
        tables: Each of HEAD_MEASURES by head and number, (H, N).
        errors: Their bootstrap standard errors, (H, N).
        scores: (3,), in the order of modes.SCORES.
        score_draws: (draws, 3).
        labels: (4,) bool, in the order of modes.LABELS.
        label_draws: (draws, 4) bool.
        ratio: Copy effect divided by the copier's, (H, N); NaN where no other head copies.
        ratio_ci95: Its 95 % interval, (H, N, 2).
        strength: `modes.strength` by name, (H,) each.
        strength_ci95: Their 95 % intervals, (H, 2) each.
        weights: Ranks and norms of the weights and the residual stream, by name: scalars or (H,).
    """

    loss: float
    accuracy: float
    tables: ranges.Tables
    errors: ranges.Tables
    scores: np.ndarray
    score_draws: np.ndarray
    labels: np.ndarray
    label_draws: np.ndarray
    ratio: np.ndarray
    ratio_ci95: np.ndarray
    strength: dict[str, np.ndarray]
    strength_ci95: dict[str, np.ndarray]
    weights: dict[str, float | np.ndarray]


def analyse(
    params: Mapping[str, Tensor], shape: Shape, batch: Batch, config: HeadsConfig
) -> Analysis:
    """Measures every head of one network on a batch of lists.

    Args:
        params: State dict under HookedTransformer's names.
        shape: Its dimensions, see `model.infer_shape`.
        batch: Evaluation lists; their number is up to the caller, not `config.lists`.
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
        {name: draws[name].std(0) for name in HEAD_MEASURES},
        modes.scores(table, config),
        modes.scores(draws, config),
        modes.labels(table, config),
        modes.labels(draws, config),
        ranges.ratio(table, config),
        interval(ranges.ratio(draws, config)),
        modes.strength(table, config),
        {name: interval(value) for name, value in modes.strength(draws, config).items()},
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


def interval(draws: np.ndarray) -> np.ndarray:
    """95 % percentile interval over draws (draws, …) that are not NaN: (…, 2); NaN if all are."""
    defined = np.isfinite(draws).any(0)
    bounds = np.nanquantile(np.where(defined, draws, 0.0), [0.025, 0.975], axis=0)
    return np.moveaxis(np.where(defined, bounds, np.nan), 0, -1)


def dataset(
    analyses: Sequence[Analysis], steps: Sequence[int], config: HeadsConfig
) -> "xr.Dataset":
    """Stacks analyses over checkpoints; docs/head-modes.md lists the variables.

    Masks and owners follow from the tables and the thresholds; they are stored so that a reader
    need not compute them.
    """
    import xarray as xr

    variables = _by_number(analyses, config) | _by_head(analyses) | _by_network(analyses)
    _, heads, numbers = variables["copies"][1].shape
    coordinates = {
        "checkpoint": np.asarray(steps, np.int64),
        "head": np.arange(heads),
        "number": np.arange(numbers),
        "score": np.array(modes.SCORES, object),
        "label": np.array(modes.LABELS, object),
        "bound": np.array(["low", "high"], object),
    }
    return xr.Dataset(variables, coordinates)


def _stack(values: Iterable) -> np.ndarray:
    return np.stack([np.asarray(v, float) for v in values])


def _by_number(analyses: Sequence[Analysis], config: HeadsConfig) -> Variables:
    dims = ("checkpoint", "head", "number")
    tables = {name: _stack(a.tables[name] for a in analyses) for name in analyses[0].tables}
    errors = {f"{name}_se": _stack(a.errors[name] for a in analyses) for name in HEAD_MEASURES}
    roles = (ranges.copies, ranges.suppresses, ranges.needed)
    masks = {role.__name__: role(tables, config) for role in roles}
    owner = ranges.owner(tables, config)
    measures = {name: tables[name] for name in HEAD_MEASURES}
    return {
        **{name: (dims, value) for name, value in (measures | errors | masks).items()},
        "copy_ratio": (dims, _stack(a.ratio for a in analyses)),
        "copy_ratio_ci95": ((*dims, "bound"), _stack(a.ratio_ci95 for a in analyses)),
        "owner": (("checkpoint", "number"), owner),
        "regions": ("checkpoint", np.array([ranges.regions(o) for o in owner])),
    }


def _by_head(analyses: Sequence[Analysis]) -> Variables:
    dims = ("checkpoint", "head", "bound")
    values = {f: _stack(a.weights[f] for a in analyses) for f in analyses[0].weights}
    values |= {f: _stack(a.strength[f] for a in analyses) for f in analyses[0].strength}
    values |= {
        f"{f}_ci95": _stack(a.strength_ci95[f] for a in analyses) for f in analyses[0].strength_ci95
    }
    return {name: (dims[: value.ndim], value) for name, value in values.items()}


def _by_network(analyses: Sequence[Analysis]) -> Variables:
    draws = _stack(a.score_draws for a in analyses)
    intervals = np.stack([interval(one) for one in draws])
    label_draws = np.stack([a.label_draws for a in analyses])
    return {
        "loss": ("checkpoint", _stack(a.loss for a in analyses)),
        "accuracy": ("checkpoint", _stack(a.accuracy for a in analyses)),
        "scores": (("checkpoint", "score"), _stack(a.scores for a in analyses)),
        "score_draws": (("checkpoint", "draw", "score"), draws),
        "score_ci95": (("checkpoint", "score", "bound"), intervals),
        "labels": (("checkpoint", "label"), np.stack([a.labels for a in analyses])),
        "label_draws": (("checkpoint", "draw", "label"), label_draws),
    }


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
    scalars = ("ov_rank", "qk_rank", "head_norm", *modes.STRENGTH)
    numbers = {name: float(head[name]) for name in scalars}
    intervals = {f"{name}_ci95": head[f"{name}_ci95"].values.tolist() for name in modes.STRENGTH}
    return {"head": int(head["head"]), **masks, **numbers, **intervals}
