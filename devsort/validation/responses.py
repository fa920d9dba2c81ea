"""Known answers for susceptibilities and influence.

If the data set is a single row whose tokens are the examples, every minibatch is the full data, and
there is no minibatch noise. The truth for such chains comes from quadrature or retraining.
Minibatches of several rows heat the chain; on quadratics, this effect is known exactly.

| case                | truth                                                                     |
|---------------------|---------------------------------------------------------------------------|
| response-minibatch  | ℓ_x = ½ x w², SGLD with one row per step: exact moments 2 and 4 of w      |
| influence-baoab     | −Cov(w, ½ a w² + x w) = −x E[w²], exact for every draw                    |
| response-quartic    | quadrature of −Cov(L, ℓ_x − L) for ℓ_x = x w⁴ + w²/(2 x)                  |
| response-difference | the same number, from chains on data shifted by ± h: slope of ⟨L⟩ / nβ    |
| leave-one-out       | change of a prediction when least squares is solved without one point     |
| response-coverage   | 0.95: fraction of the 95 % intervals that contain χ                       |
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from devsort.rng import stream
from devsort.sampling.config import SamplerConfig
from devsort.sampling.modules import Params
from devsort.susceptibility.api import Setting, by_component, influences, susceptibilities, watched
from devsort.susceptibility.observe import component_response
from devsort.susceptibility.response import susceptibility
from devsort.validation.case import Case, settings
from devsort.validation.formulas import UnderdampedQuadratic
from devsort.validation.measurements import Measured
from devsort.validation.quadrature import Truth

ROWS = torch.tensor([0.5, 1.0, 1.5, 3.0])
LANES = {"num_chains": 4000, "num_burnin_steps": 100, "num_draws": 80, "num_steps_bw_draws": 2}
SGLD = settings(20, 3, 2e-2, **LANES, batch_size=1)
BAOAB = {"sampling_method": "baoab", **LANES}
TILTED = settings(50, 50, 4e-3, **BAOAB, momentum=0.6, batch_size=2)
QUARTIC = settings(3, 1, 2e-3, **BAOAB, momentum=0.6, batch_size=1)
LINEAR = settings(30, 0, 4e-3, **BAOAB, momentum=0.6, batch_size=1)
POINTS = torch.tensor([[0.2, 0.5, 1.0, 2.0]])  # one row of four tokens
SHIFT, TOWARDS = 0.2, 3  # h, and the point that the data is shifted towards
LEFT_OUT, SETS = 5, 4  # the point left out of the regression; chains per interval of the coverage


def response_cases() -> list[Case]:
    """Returns all cases of responses."""
    return [*_on_quadratics(), *_beyond()]


def _on_quadratics() -> list[Case]:
    return [
        Case(
            "response-minibatch",
            "χ of the row x = 3 for ½ x w², one row per step, ε a = 0.7",
            lambda: Truth(float(multiplicative(SGLD)[3])),
            lambda: _chi(_curved, ROWS, SGLD, 3),
            2.2e-5,
            fast=True,
        ),
        Case(
            "influence-baoab",
            "covariance of w with 3/2 w² + x w, two rows per step",
            lambda: Truth(float(_kept(UnderdampedQuadratic(np.array([3.0]), TILTED, noise=0.5)))),
            tilted_influence,
            1.4e-4,
            fast=True,
        ),
    ]


def _beyond() -> list[Case]:
    return [
        Case(
            "response-quartic",
            "χ of one of four points for x w⁴ + w²/(2 x)",
            lambda: Truth(quartic_truth(QUARTIC)),
            lambda: _chi(_quartic, POINTS[..., None], QUARTIC, None),
            1e-4,
            2e-5,
            fast=True,
        ),
        Case(
            "response-difference",
            "the same, from chains on data shifted by ± 0.2",
            lambda: Truth(quartic_truth(QUARTIC)),
            lambda: difference(QUARTIC),
            1e-4,
            5e-5,
            fast=True,
        ),
        Case(
            "leave-one-out",
            "change of a least-squares prediction without one of 24 points",
            lambda: Truth(retrained()),
            lambda: predicted(LINEAR),
            9e-4,
            fast=True,
        ),
        Case(
            "response-coverage",
            "fraction of 95 % intervals from four chains that contain χ",
            lambda: Truth(0.95),
            lambda: coverage(SGLD.model_copy(update={"num_draws": 200, "num_chains": 4800})),
            7.5e-3,
            fast=True,
        ),
    ]


def multiplicative(config: SamplerConfig) -> np.ndarray:
    """Returns the exact χ of each row for ℓ_x = ½ x w² and SGLD with one row per step.

    χ = −¼ x̄ (x − x̄) Var(w²). A step is w ← a w + sqrt(ε) N(0, 1), with a = 1 − (ε/2)(nβ x + γ)
    for a random row x.
    """
    x, lr = ROWS.double().numpy(), config.lr
    a = 1 - lr / 2 * (config.n_beta * x + config.localization)
    second = lr / (1 - (a**2).mean())
    fourth = (6 * (a**2).mean() * second * lr + 3 * lr**2) / (1 - (a**4).mean())
    return -x.mean() * (x - x.mean()) / 4 * (fourth - second**2)


def tilted_influence() -> Measured:
    """Measures Cov(w, ℓ_x) at x = 1 for ℓ_x = 3/2 w² + x w, on minibatches of rows x = ±1."""

    def loss(params: Params, x: Tensor) -> Tensor:
        return 1.5 * params["w"] ** 2 + x * params["w"]

    rows, start = torch.tensor([1.0, -1.0]), {"w": torch.zeros(())}
    table = influences(loss, start, rows, TILTED, observables={"w": lambda p: p["w"]}).table
    cell = table.sel(observed="w", row=0)
    return Measured(float(cell.covariance), float(cell.covariance_se))


def quartic_truth(config: SamplerConfig) -> float:
    """Returns χ of one point, by quadrature."""
    w = np.linspace(-3, 3, 20_001)
    each = _quartic({"w": torch.from_numpy(w)[:, None]}, POINTS[..., None]).numpy()  # (nodes, 4)
    mean = each.mean(1)
    energy = config.n_beta * mean + config.localization / 2 * w**2
    weight = np.exp(energy.min() - energy)
    weight /= weight.sum()
    away = each[:, TOWARDS] - mean
    return float(-(weight @ (mean * away) - (weight @ mean) * (weight @ away)))


def difference(config: SamplerConfig) -> Measured:
    """Measures (⟨L⟩ at + h − ⟨L⟩ at − h) / (2 h nβ), where L is the loss on the original data."""
    ends = [_shifted(h, config) for h in (SHIFT, -SHIFT)]  # with the same random numbers
    slope = (ends[0] - ends[1]) / (2 * SHIFT * config.n_beta)
    return Measured(float(slope.mean()), float(slope.std(ddof=1) / np.sqrt(len(slope))))


def retrained() -> float:
    """Returns the change of the prediction at [1, 1, 1] when a point is left out of the fit."""
    x, y = regression()
    others = np.arange(len(y)) != LEFT_OUT
    fits = [np.linalg.lstsq(x[k], y[k], rcond=None)[0] for k in (others, np.full(len(y), True))]
    return float((fits[0] - fits[1]).sum())


def predicted(config: SamplerConfig) -> Measured:
    """Measures the same change from the covariance of the prediction with the loss of the point.

    Without the point, the loss is L − ℓ_x/n, so to first order the change is nβ Cov(f, ℓ_x)/n. The
    change of the curvature adds the factor 1/(1 − leverage), which is exact.
    """
    x, y = regression()
    best = np.linalg.lstsq(x, y, rcond=None)[0]
    leverage = x[LEFT_OUT] @ np.linalg.solve(x.T @ x, x[LEFT_OUT])

    def loss(params: Params, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (batch[0] @ params["w"] - batch[1]).square() / 2  # (1, points)

    data = tuple(torch.from_numpy(value).float()[None] for value in (x, y))
    alone = torch.zeros(1, len(y), dtype=torch.bool)
    alone[0, LEFT_OUT] = True
    result = influences(
        loss,
        {"w": torch.from_numpy(best).float()},
        data,
        config,
        observables={"f": lambda p: p["w"].sum()},
        parts={"point": alone},
    ).table.sel(observed="f", part="point")
    scale = config.n_beta / len(y) / (1 - leverage)
    return Measured(float(result.covariance) * scale, float(result.covariance_se) * scale)


def regression() -> tuple[np.ndarray, np.ndarray]:
    """Returns 24 points (24, 3) and their targets (24,)."""
    rng = stream(0, "validation leave-one-out")
    x = rng.normal(size=(24, 3))
    return x, x @ np.array([1.0, -0.5, 0.3]) + rng.normal(size=24)


def coverage(config: SamplerConfig) -> Measured:
    """Measures the fraction of intervals that contain the exact χ of the row x = 3.

    Each interval is computed from SETS chains.
    """
    truth = multiplicative(config)[3]
    setting = Setting(_curved, {"w": torch.zeros(())}, ROWS, config)
    moments = watched(setting, None, "coverage", by_component)[0].moments[0]
    starts = range(0, config.num_chains, SETS)
    intervals = [susceptibility(moments.lanes(slice(i, i + SETS))).ci95[0, 3] for i in starts]
    covered = np.array([low < truth < high for low, high in intervals])
    return Measured(float(covered.mean()), float(covered.std() / np.sqrt(len(covered))))


def _curved(params: Params, x: Tensor) -> Tensor:
    return x * params["w"] ** 2 / 2


def _quartic(params: Params, x: Tensor) -> Tensor:
    w, x = params["w"], x[..., 0]
    return x * w**4 + w**2 / (2 * x)  # (1, points)


def _chi(loss: Callable, data: Tensor, config: SamplerConfig, row: int | None) -> Measured:
    """Measures χ of a row, or of the point TOWARDS if the data is a single row."""
    parts = None
    if row is None:
        chosen = torch.zeros(data.shape[:2], dtype=torch.bool)
        chosen[0, TOWARDS] = True
        parts = {"point": chosen}
    table = susceptibilities(loss, {"w": torch.zeros(())}, data, config, parts=parts).table
    at = row or 0
    return Measured(float(table.chi[0, at]), float(table.se[0, at]))


def _shifted(h: float, config: SamplerConfig) -> np.ndarray:
    """Returns the mean of L over each chain's draws (C,), on data shifted by h to the point."""
    weight = torch.full((4,), (1 - h) / 4)
    weight[TOWARDS] += h

    def loss(params: Params, x: Tensor) -> Tensor:
        return 4 * weight * _quartic(params, x)

    def plain(objective: object, setting: Setting) -> Callable:
        return component_response(lambda w: _quartic({"w": w}, POINTS[..., None]), None)

    setting = Setting(loss, {"w": torch.zeros(())}, POINTS[..., None], config)
    watcher, _ = watched(setting, None, "shifted", plain)
    moments = watcher.moments[0]
    return moments.means(1)[1, 0].reshape(-1) + watcher.start[0][0][:, 0]


def _kept(chain: UnderdampedQuadratic) -> float:
    """Returns the mean of E[w²] over the draws."""
    config = chain.config
    return chain.moments()[config.num_burnin_steps :: config.num_steps_bw_draws].mean()
