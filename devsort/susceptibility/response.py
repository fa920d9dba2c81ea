"""Responses of expectations to the data: covariances over draws, with their errors.

The posterior at data q is p(w) ∝ exp(−nβ L(w) − …), L the mean loss under q. Shift the data towards
an example or a part x by h, so that L becomes L + h (ℓ_x − L). An expectation then changes by

    d⟨φ⟩/dh = −nβ Cov(φ, ℓ_x − L).

| name           | equation                  | sign and factor                                    |
|----------------|---------------------------|----------------------------------------------------|
| susceptibility | χ = −Cov(φ, ℓ_x − L)      | = (1/nβ) d⟨φ⟩/dh; φ = L − L(w*) on a component's   |
|                |                           | draws, weights outside frozen; negative: more of x |
|                |                           | in the data lowers the component's loss            |
| influence      | −Cov(φ, ℓ_x)              | = (1/nβ) d⟨φ⟩/dh where L becomes L + h ℓ_x         |
| kernel         | Cov(ℓ_x, ℓ_y), corr       | as devinterp's `bif`, which has no sign            |

No nβ enters: multiply by nβ h for the change that a shift by h makes. devinterp's
`susceptibilities` takes the mean of ℓ_x − L over the draws of the whole model instead of the
component's own, since it differentiates δ(u − u*) φ under the posterior of the whole model:
χ_full = χ − E[φ] (E_C[ℓ_x − L] − E_full[ℓ_x − L]), see `susceptibility`. Sources: arXiv 2504.18274
(C.4), 2509.26544.

**Finite draws.** Chains are independent, so the product of the means of *different* chains has the
expectation E[φ] E[ℓ] exactly, however slowly a chain forgets. Cov = E[φ ℓ] less that product; it
equals the mean covariance within a chain (over T) plus the covariance of the chains' means (over
C − 1).

**Error.** To first order the estimate is the mean of s = (φ − φ̄)(ℓ − ℓ̄) over draws, so its variance
is that of the mean of s: between chains, and between blocks of draws. The larger of both is taken,
since s has long tails and few chains see little of them. R-hat is the split R-hat of s.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

from devsort.susceptibility.moments import BLOCKS, Moments


@dataclass(frozen=True)
class Response:
    """Estimates (M, N) with their errors.

    Attributes:
        value: The estimates.
        se: Standard errors.
        rhat: Split R-hat of the products that the estimate is a mean of.
        dof: Degrees of freedom of the standard errors.
    """

    value: np.ndarray
    se: np.ndarray
    rhat: np.ndarray
    dof: int

    @property
    def ci95(self) -> np.ndarray:
        """(M, N, 2) 95 % interval: value ± t se with Student's t of `dof`."""
        half = stdtrit(self.dof, 0.975) * self.se
        return np.stack([self.value - half, self.value + half], -1)

    def __neg__(self) -> "Response":
        return Response(-self.value, self.se, self.rhat, self.dof)


def covariance(moments: Moments) -> Response:
    """Cov(φ, ℓ) over the draws of C chains of one posterior."""
    phi, loss = _centre(moments)
    return _response(moments, covariance_of(moments), _products(moments, phi, loss))


def susceptibility(moments: Moments, full: Moments | None = None) -> Response:
    """χ = −Cov(φ, ℓ − L), see the module.

    Args:
        moments: Sums of φ (M) and of ℓ_x − L (N) over a component's draws.
        full: The same over the draws of the whole model, for devinterp's χ; None for the
            component's own.
    """
    if full is None:
        return -covariance(moments)
    phi, loss = _centre(moments)
    away = loss - _centre(full)[1]  # (1, N), E_C[ℓ − L] − E_full[ℓ − L]
    blocks = moments.means(BLOCKS)
    spread = (blocks[1, 0] - phi) * away + phi * (blocks[0, 1] - loss)
    products = _products(moments, phi, loss) + spread
    found = _response(moments, covariance_of(moments) + phi * away, products)
    se = np.hypot(found.se, np.abs(phi) * _error(full.means(BLOCKS)[0, 1]))
    return -Response(found.value, se, found.rhat, found.dof)


@np.errstate(all="ignore")
def correlation(moments: Moments) -> Response:
    """The correlation of φ and ℓ over the draws; NaN where one of them does not vary."""
    phi, loss = _centre(moments)
    var_phi, var_loss = variances(moments)
    scale = np.sqrt(var_phi * var_loss)
    value = covariance_of(moments) / scale
    blocks = moments.means(BLOCKS)
    square_phi = (blocks[2, 0] - 2 * phi * blocks[1, 0] + phi**2) / var_phi
    square_loss = (blocks[0, 2] - 2 * loss * blocks[0, 1] + loss**2) / var_loss
    products = _products(moments, phi, loss) / scale
    return _response(moments, value, products - value / 2 * (square_phi + square_loss))


def covariance_of(moments: Moments) -> np.ndarray:
    """Cov(φ, ℓ) (M, N) without its error, corrected for finite draws."""
    cross, phi, loss = (_by_chain(moments, power) for power in ((1, 1), (1, 0), (0, 1)))
    return _corrected(cross, phi, loss)


def variances(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Variances of φ (M, 1) and of ℓ (1, N), corrected for finite draws."""
    squares = (((2, 0), (1, 0)), ((0, 2), (0, 1)))
    means = [[_by_chain(moments, power) for power in pair] for pair in squares]
    phi, loss = (_corrected(square, mean, mean) for square, mean in means)
    return phi, loss


def _by_chain(moments: Moments, power: tuple[int, int]) -> np.ndarray:
    """Means (C, …) by chain; of a single chain, by block, which then stand for chains."""
    alone = len(moments.sums[1, 1]) == 1
    means = moments.means(BLOCKS if alone else 1)[power]
    return means.reshape(-1, *means.shape[2:])


def _corrected(cross: np.ndarray, phi: np.ndarray, loss: np.ndarray) -> np.ndarray:
    within = (cross - phi * loss).mean(0)
    apart = (phi - phi.mean(0)) * (loss - loss.mean(0))
    return within + apart.sum(0) / (len(phi) - 1)


def _centre(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Means over all draws: φ̄ (M, 1) and ℓ̄ (1, N)."""
    whole = moments.means(1)
    return whole[1, 0].mean((0, 1)), whole[0, 1].mean((0, 1))


def _products(
    moments: Moments, phi: np.ndarray, loss: np.ndarray, blocks: int = BLOCKS
) -> np.ndarray:
    """Means of s = (φ − φ̄)(ℓ − ℓ̄) by lane and block: (C, blocks, M, N)."""
    m = moments.means(blocks)
    return m[1, 1] - phi * m[0, 1] - loss * m[1, 0] + phi * loss


def _response(moments: Moments, value: np.ndarray, products: np.ndarray) -> Response:
    chains = len(products)
    dof = 2 * (chains - 1) if chains > 1 else BLOCKS - 1
    return Response(value, _error(products), _rhat(moments), dof)


def _error(blocks: np.ndarray) -> np.ndarray:
    """Standard error of the mean of block means (C, B, …), the larger of two estimates."""
    chains, count = blocks.shape[:2]
    variance = blocks.var((0, 1), ddof=1) / (chains * count)
    if chains > 1:
        variance = np.maximum(variance, blocks.mean(1).var(0, ddof=1) / chains)
    return np.sqrt(variance)


def _rhat(moments: Moments) -> np.ndarray:
    """Split R-hat (M, N) of s; NaN where s does not vary."""
    a, b = _centre(moments)
    m = moments.means(2)
    count = moments.counts.sum() / 2
    mean = _products(moments, a, b, blocks=2)
    square = (
        (m[2, 2] - 2 * b * m[2, 1] + b**2 * m[2, 0])
        - 2 * a * (m[1, 2] - 2 * b * m[1, 1] + b**2 * m[1, 0])
        + a**2 * (m[0, 2] - 2 * b * m[0, 1] + b**2)
    )
    within = (square - mean**2).mean((0, 1)) * count / (count - 1)
    between = mean.reshape(-1, *mean.shape[2:]).var(0, ddof=1)
    with np.errstate(all="ignore"):
        return np.sqrt((count - 1) / count + between / within)
