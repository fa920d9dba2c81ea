"""Learning coefficients and averages of chains that are known in closed form.

Learning coefficients λ are limits for nβ → ∞: around a minimum, nβ E[L] = λ − (m − 1)/log(nβ) + …,
where m is the multiplicity. The averages of `Quadratic` are exact for the discrete chain with any
settings.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from devsort.sampling.config import SamplerConfig


class LearningCoefficient(NamedTuple):
    """The learning coefficient λ and its multiplicity m."""

    value: float
    multiplicity: int


def quasi_homogeneous(weights: Sequence[float]) -> LearningCoefficient:
    """Returns λ = Σ a_i of a potential with K(s^{a_1} w_1, …) = s K(w) and integrable exp(−K)."""
    return LearningCoefficient(float(sum(weights)), 1)


def normal_crossing(a: int, b: int) -> LearningCoefficient:
    """Returns λ = 1/(2 max(a, b)) of K = w1^{2a} w2^{2b}; the multiplicity is 2 if a = b."""
    return LearningCoefficient(1 / (2 * max(a, b)), 2 if a == b else 1)


def rank_regression(inputs: int, hidden: int, outputs: int, rank: int) -> LearningCoefficient:
    """Returns λ of y = B A x, A (hidden × inputs), B (outputs × hidden), for a true map of a rank.

    Source: Aoyagi & Watanabe 2005, "Stochastic complexities of reduced rank regression in Bayesian
    estimation".
    """
    M, H, N, r = inputs, hidden, outputs, rank
    _check_rank((M, H, N), r)
    if N + r > M + H:
        return LearningCoefficient((H * M - H * r + N * r) / 2, 1)
    if M + r > N + H:
        return LearningCoefficient((H * N - H * r + M * r) / 2, 1)
    if H + r > M + N:
        return LearningCoefficient(M * N / 2, 1)
    q = -((H + r) ** 2) - M**2 - N**2 + 2 * (H + r) * (M + N) + 2 * M * N
    odd = (M + H + N + r) % 2
    return LearningCoefficient((q + odd) / 8, 1 + odd)


def deep_linear(widths: Sequence[int], rank: int) -> LearningCoefficient:
    """Returns λ of y = W_L … W_1 x with a true map of the given rank.

    The widths are (input, hidden …, output). Let M be the sorted widths minus the rank, S the
    prefix of l + 1 of them that `_essential` returns, and a = Σ_S M − (ceil(Σ_S M / l) − 1) l. Then
    λ = (−r² + r (H_1 + H_{L+1}))/2 + a(l − a)/(4l) − l(l − 1)/4 (Σ_S M / l)² + ½ Σ_{i<j∈S} M_i M_j
    and m = a(l − a) + 1.

    Source: Aoyagi 2024, "Consideration on the learning efficiency of multiple-layered neural
    networks with linear units".
    """
    _check_rank(widths, rank)
    S = _essential([width - rank for width in widths])
    l, total = len(S) - 1, sum(S)  # noqa: E741  the paper's letter
    a = total - (math.ceil(total / l) - 1) * l
    pairs = (total**2 - sum(m * m for m in S)) / 2
    regular = (-(rank**2) + rank * (widths[0] + widths[-1])) / 2
    singular = a * (l - a) / (4 * l) - l * (l - 1) / 4 * (total / l) ** 2 + pairs / 2
    return LearningCoefficient(regular + singular, a * (l - a) + 1)


def _essential(excess: list[int]) -> list[int]:
    """Returns the prefix S of the sorted M that determines λ.

    It satisfies max_S M < min_rest M, Σ_S M ≥ l max_S M and Σ_S M < l min_rest M.
    """
    M = sorted(excess)
    for size in range(2, len(M) + 1):
        S, rest = M[:size], M[size:]
        enough = sum(S) >= (size - 1) * S[-1]
        if enough and (not rest or (S[-1] < rest[0] and sum(S) < (size - 1) * rest[0])):
            return S
    raise AssertionError(f"no essential set in {M}")  # Aoyagi proves that one exists


def _check_rank(widths: Sequence[int], rank: int) -> None:
    if not 0 <= rank <= min(widths):
        raise ValueError(f"rank {rank} does not fit widths {tuple(widths)}")


@dataclass(frozen=True)
class Quadratic:
    """Averages of the SGLD chain on L = ½ Σ h_i (w_i − w*_i)², for a chain that starts at w*.

    They are exact at any step size. With a_i = nβ h_i + γ + ρ and ρ_i = 1 − ε a_i/2, the chain
    w' − m = ρ_i (w − m) + noise relaxes to the mean m and the variance (1 + ε nβ² C_i/4) / (a_i (1
    − ε a_i/4)). It diverges if and only if ε a_i ≥ 4.

    Args:
        curvature: h_i.
        config: ε, nβ, γ, ρ, burn-in and draws.
        noise: C_i, the variance of the minibatch gradient in each coordinate.
        center: w*_i. It only matters if there is a prior ρ, which pulls towards zero and shifts the
            mean by −ρ w*_i/a_i.
    """

    curvature: np.ndarray
    config: SamplerConfig
    noise: np.ndarray | float = 0.0
    center: np.ndarray | float = 0.0

    @property
    def stiffness(self) -> np.ndarray:
        """a_i."""
        return self.config.n_beta * self.curvature + self.config.localization + self.config.prior

    @property
    def memory(self) -> np.ndarray:
        """ρ_i, the fraction of a deviation that remains after one step."""
        return 1 - self.config.lr * self.stiffness / 2

    @property
    def variance(self) -> np.ndarray:
        """Stationary variance of w_i."""
        lr, a = self.config.lr, self.stiffness
        return (1 + lr * self.config.n_beta**2 * self.noise / 4) / (a * (1 - lr * a / 4))

    @property
    def stationary(self) -> float:
        """nβ E[L] of the stationary chain."""
        shift = self.config.prior * self.center / self.stiffness
        return float((self.config.n_beta * self.curvature / 2 * (self.variance + shift**2)).sum())

    def expected(self) -> float:
        """Returns nβ times the mean of L over the draws, without assuming stationarity."""
        c = self.config
        step = c.num_burnin_steps + c.num_steps_bw_draws * np.arange(c.num_draws)[:, None]  # (T, 1)
        left = self.memory**step  # (T, F)
        shift = -c.prior * self.center / self.stiffness
        second_moment = (shift * (1 - left)) ** 2 + self.variance * (1 - left**2)
        return float((c.n_beta * self.curvature / 2 * second_moment).sum(1).mean())

    def standard_error(self) -> float:
        """Returns the standard error of the mean of nβ L of one chain, without a prior.

        The mean is over T stationary draws, k steps apart. Exactly, Var = Σ 2 s_i² /T · ((1 + q)/(1
        − q) − 2q (1 − q^T)/(T (1 − q)²)) with q = ρ^{2k}. If T is much larger than the
        autocorrelation time, this is 2 Σ s_i² IAT_i / T.
        """
        T, q = self.config.num_draws, self.memory ** (2 * self.config.num_steps_bw_draws)
        s = self.config.n_beta * self.curvature / 2 * self.variance
        inflation = (1 + q) / (1 - q) - 2 * q * (1 - q**T) / (T * (1 - q) ** 2)
        return float(np.sqrt((2 * s**2 * inflation).sum() / T))


@dataclass(frozen=True)
class UnderdampedQuadratic(Quadratic):
    """The same averages for BAOAB, exact at every step, without a prior.

    The chain starts at (w, p) = (w*, 0). With h = sqrt(ε) and z = (w − w*, p), a step is linear in
    each coordinate, z′ = A z + noise:

        A = [[1 − h² a (1 + c)/2,  h (1 + c)/2],  [−c h a,  c]]
        covariance of the noise = (1 − c²) e eᵀ + nβ² C f fᵀ
        e = (h/2, 1),  f = (h² (1 + c)/2, c h)

    The estimator subtracts the heat that it measures at some of the draws. Its average is
    (k ε/8) nβ² Σ C_i (1 − γ E u_i²).
    """

    def moments(self) -> np.ndarray:
        """Returns E (w − w*)² before each step, (steps, F)."""
        c, h, a = self.config.momentum, math.sqrt(self.config.lr), self.stiffness
        one = np.ones_like(a)
        A = np.array([[1 - h**2 * a * (1 + c) / 2, h * (1 + c) / 2 * one], [-c * h * a, c * one]])
        e, f = np.array([h / 2, 1.0]), np.array([h**2 * (1 + c) / 2, c * h])
        heat = self.config.n_beta**2 * self.noise * one
        source = (1 - c**2) * np.outer(e, e)[..., None] + np.outer(f, f)[..., None] * heat
        S, moments = np.zeros((2, 2, len(a))), []
        for _ in range(self.config.num_steps):
            moments.append(S[0, 0])
            S = np.einsum("ijn,jkn,lkn->iln", A, S, A) + source
        return np.array(moments)

    def expected(self) -> float:
        """Returns the average of the estimator: nβ E[L] over the draws, minus the heat."""
        c, moments = self.config, self.moments()
        draws = moments[c.num_burnin_steps :: c.num_steps_bw_draws]
        return float((c.n_beta * self.curvature / 2 * draws).sum(1).mean()) - self.heat()

    def heat(self) -> float:
        """Returns the average of the heat that the estimator subtracts."""
        c, moments = self.config, self.moments()
        probed = moments[[step for step in range(c.num_steps) if c.probes(step)]]
        share = (1 + c.momentum) / (1 - c.momentum) * c.lr / 8 * c.n_beta**2
        return float((share * self.noise * (1 - c.localization * probed)).sum(1).mean())


def regression_with_minibatches(
    features: np.ndarray, residuals: np.ndarray, config: SamplerConfig
) -> float:
    """Returns nβ E[L − L(w*)] of the stationary SGLD chain on least squares with minibatches.

    It is exact. L is the mean of ½ (y − x·w)² over n rows, and a step uses `batch_size` of them,
    drawn with replacement. The noise grows with the distance from w*, so the covariance Σ of the
    chain solves a linear equation: with M_b = I − ε/2 (nβ H_b + γ) and g_b the batch gradient at
    w*, Σ = E[M_b Σ M_bᵀ] + (ε nβ/2)² Cov(g_b) + ε I.

    Args:
        features: (n, d) rows x.
        residuals: (n,) y − x·w* at the least-squares solution w*.
        config: ε, nβ, γ and the batch size. There must be no prior.
    """
    x, (n, d), half = features, features.shape, config.lr / 2
    per_row = x[:, :, None] * x[:, None]  # (n, d, d), x xᵀ
    H = per_row.mean(0)
    M = np.eye(d) - half * (config.n_beta * H + config.localization * np.eye(d))
    spread = np.einsum("nij,nkl->ikjl", per_row, per_row) / n - np.einsum("ij,kl->ikjl", H, H)
    jump = (half * config.n_beta) ** 2 / config.batch_size
    transfer = np.kron(M, M) + jump * spread.reshape(d * d, d * d)
    gradient = -x * residuals[:, None]
    source = jump * gradient.T @ gradient / n + config.lr * np.eye(d)
    covariance = np.linalg.solve(np.eye(d * d) - transfer, source.ravel()).reshape(d, d)
    return float(config.n_beta * np.trace(H @ covariance) / 2)
