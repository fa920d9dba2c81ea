"""Posterior means by quadrature: the truth at finite nβ and finite step size.

Nodes and weights represent the posterior exp(−U), U = nβ L + γ/2 |w − w*|² + ρ/2 |w|². An SGLD
chain with step ε samples a slightly different density. To first order in ε, for any smooth U, it is

    exp(−U) (1 + (ε/2) (¼ |∇U|² − ½ ΔU)),

the modified density of the Euler–Maruyama scheme (Leimkuhler & Matthews 2013, "Rational
construction of stochastic numerical methods for molecular sampling"). So the mean of nβ L is
shifted by (ε/2) Cov(nβ L, ¼ |∇U|² − ½ ΔU). On a quadratic this is the first term of 1/(1 − ε a/4),
and the remaining error is the square of the relative shift. BAOAB has no such term. For chains in
one dimension, which the tests solve exactly, the remaining error is 1.1 (w²), 3.1 (w⁴) and 6.7 (w⁶)
times that square; the bound used here is 8.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from devsort.layout import Layout
from devsort.sampling.config import SamplerConfig
from devsort.sampling.objective import Params

EDGE = 45.0  # U at the edge of a grid, above its minimum: the density there is exp(−45)
CHUNK = 2**13  # nodes whose Hessians are in memory at once
SECOND_ORDER = 8.0  # bound on the second-order error, see above
SCRAMBLES, SOBOL = 8, 16  # independent randomizations of 2^16 Sobol points each
KEPT = 2**11  # equally weighted nodes that represent all nodes if the Hessian is large


class Truth(NamedTuple):
    """A known answer and a bound on its own error."""

    value: float
    error: float = 0.0


class Nodes(NamedTuple):
    """Quadrature of a posterior.

    Attributes:
        points: (n, d) float64 parameters, flattened in sorted order of names.
        weight: (n,), sums to 1.
        energy: (n,) nβ L, or its mean over the coordinates that were integrated analytically.
    """

    points: Tensor
    weight: Tensor
    energy: Tensor


def chain_mean(
    loss: Callable[[Params], Tensor], star: Params, config: SamplerConfig, nodes: Iterator[Nodes]
) -> Truth:
    """Returns nβ E[L] of the stationary chain, to first order in the step size.

    Args:
        loss: L, with minimum value 0.
        star: w*, name → tensor.
        config: ε, nβ, γ, ρ.
        nodes: One quadrature, or several randomizations, whose spread is part of the error.
    """
    first = config.sampling_method == "sgld"  # whether there is a shift of first order in ε
    pairs = [
        (float(n.weight @ n.energy), _step_shift(loss, star, config, n) if first else 0.0)
        for n in nodes
    ]
    values, shifts = torch.tensor(pairs, dtype=torch.float64).T
    totals = values + shifts
    spread = float(totals.std() / math.sqrt(len(totals))) if len(totals) > 1 else 0.0
    value = float(totals.mean())
    return Truth(value, 2 * spread + SECOND_ORDER * float(shifts.mean()) ** 2 / abs(value))


def _step_shift(
    loss: Callable[[Params], Tensor], star: Params, config: SamplerConfig, nodes: Nodes
) -> float:
    """Returns (ε/2) Cov(nβ L, ¼ |∇U|² − ½ ΔU)."""
    layout = Layout.of(star)
    center = layout.flatten(star).double()

    def U(w: Tensor) -> Tensor:
        pull = config.localization * (w - center).square().sum() + config.prior * w.square().sum()
        return config.n_beta * loss(layout.views(w)) + pull / 2

    def modification(w: Tensor) -> tuple[Tensor, Tensor]:
        laplacian = torch.func.hessian(U)(w).trace()
        return loss(layout.views(w)), torch.func.grad(U)(w).square().sum() / 4 - laplacian / 2

    points, weight = (nodes.points, nodes.weight) if layout.size <= 3 else _resampled(nodes)
    L, change = torch.func.vmap(modification, chunk_size=CHUNK)(points)
    return float(config.lr / 2 * config.n_beta * (weight * (L - weight @ L)) @ change)


def _resampled(nodes: Nodes) -> tuple[Tensor, Tensor]:
    """Resamples the nodes systematically to fewer nodes of equal weight."""
    level = (torch.arange(KEPT, dtype=torch.float64) + 0.5) / KEPT
    index = torch.searchsorted(nodes.weight.cumsum(0), level).clamp(max=len(nodes.weight) - 1)
    return nodes.points[index], torch.full((KEPT,), 1 / KEPT, dtype=torch.float64)


def grid(
    loss: Callable[[Params], Tensor],
    star: Params,
    config: SamplerConfig,
    size: int,
    crowding: float,
    box: float = math.inf,
) -> Iterator[Nodes]:
    """Applies the midpoint rule on a tensor grid around w* = 0, in up to three dimensions.

    Args:
        loss: L.
        star: w* = 0, name → tensor.
        config: nβ, γ, ρ.
        size: Number of nodes along an axis.
        crowding: c in w ∝ sinh(c t), where t is evenly spaced. For c ≫ 1, nodes are dense around 0,
            as on a logarithmic scale.
        box: Half width of a hard box, if there is one.

    Raises:
        ValueError: If the posterior is improper, that is, unconfined along an axis.
    """
    layout = Layout.of(star)
    pull = (config.localization + config.prior) / 2
    value = torch.func.vmap(
        lambda w: config.n_beta * loss(layout.views(w)) + pull * w.square().sum()
    )
    t = (torch.arange(size, dtype=torch.float64) + 0.5) / size * 2 - 1
    edges = [_edge(value, axis, box) for axis in torch.eye(layout.size, dtype=torch.float64)]
    shape = torch.sinh(crowding * t) / math.sinh(crowding)
    points = torch.cartesian_prod(*(edge * shape for edge in edges)).view(-1, layout.size)
    cell = (
        torch.cartesian_prod(*[torch.log(torch.cosh(crowding * t))] * layout.size)
        .view(-1, layout.size)
        .sum(1)
    )
    U = value(points)
    yield Nodes(points, torch.softmax(cell - U, 0), U - pull * points.square().sum(1))


def _edge(value: Callable[[Tensor], Tensor], axis: Tensor, box: float) -> float:
    """Returns where U exceeds EDGE along an axis, up to a power of 1.1, or the wall of the box."""
    steps = 1.1 ** torch.arange(-100, 100, dtype=torch.float64)
    beyond = ((value(steps[:, None] * axis) > EDGE) | (steps >= box)).nonzero()
    if not len(beyond):
        raise ValueError("the posterior is improper: nothing confines it along an axis")
    return min(box, float(steps[beyond[0, 0]]))


def linear_layers(stars: Sequence[Tensor], config: SamplerConfig) -> Iterator[Nodes]:
    """Integrates the posterior of L = |W_L … W_1 − W*_L … W*_1|² with Sobol points.

    The points are in all layers but the last. Given X = W_{L−1} … W_1, the rows of W_L are Gaussian
    with precision Λ = 2nβ X Xᵀ + γ, and integrating over them gives the weight det(Λ/γ)^{−N/2}
    exp(−min U). One W_L is drawn at each node, from further Sobol coordinates.

    Args:
        stars: w*, layer by layer, (out, in) each.
        config: nβ and γ. There must be no prior.
    """
    stars = [s.double() for s in stars]
    for scramble in range(SCRAMBLES):
        sizes = [s.numel() for s in stars]
        normal = _normal(sum(sizes), 2**SOBOL, scramble).split(sizes, dim=1)
        deviations = [z.view(-1, *s.shape) for z, s in zip(normal, stars, strict=True)]
        free = [
            s + z / math.sqrt(config.localization)
            for z, s in zip(deviations[:-1], stars, strict=False)
        ]
        yield _last_layer(free, stars, deviations[-1], config)


def _last_layer(
    free: list[Tensor], stars: list[Tensor], normal: Tensor, config: SamplerConfig
) -> Nodes:
    nb, gamma = config.n_beta, config.localization
    X, target = _product(free), _product(stars)  # (n, H, M), (N, M)
    gram = X @ X.mT
    precision = 2 * nb * gram + gamma * torch.eye(X.shape[1], dtype=X.dtype)
    root = torch.linalg.cholesky(precision)
    pulled = 2 * nb * target @ X.mT + gamma * stars[-1]  # (n, N, H)
    mean = torch.cholesky_solve(pulled.mT, root).mT
    misfit = nb * (mean @ X - target).square().sum((1, 2))
    lowest = misfit + gamma / 2 * (mean - stars[-1]).square().sum((1, 2))
    outputs = normal.shape[1]
    log_det = 2 * torch.log(root.diagonal(dim1=1, dim2=2) / math.sqrt(gamma)).sum(1)
    weight = torch.softmax(-lowest - outputs / 2 * log_det, 0)
    spread = torch.cholesky_solve(gram, root).diagonal(dim1=1, dim2=2).sum(1)
    last = mean + torch.linalg.solve_triangular(root.mT, normal.mT, upper=True).mT
    points = torch.cat([W.flatten(1) for W in [*free, last]], 1)
    return Nodes(points, weight, misfit + nb * outputs * spread)


def wishart(
    inputs: int, hidden: int, outputs: int, config: SamplerConfig, size: int
) -> Iterator[Nodes]:
    """Integrates the posterior of L = |B A|² around 0, on a grid over the eigenvalues of A Aᵀ.

    The grid is logarithmic. Under the localizing Gaussian, A Aᵀ is a Wishart matrix: its p = min(M,
    H) eigenvalues have the density ∏ l_i^{(q − p − 1)/2} e^{−γ l_i/2} ∏_{i<j} |l_i − l_j| with q =
    max(M, H), and integrating over B gives the factor ∏ (1 + 2nβ l_i/γ)^{−N/2}. All averaged
    quantities are invariant under rotations, so A = diag(√l_i) represents its orbit. One B is drawn
    at each node.

    Args:
        inputs: M.
        hidden: H.
        outputs: N.
        config: nβ and γ. There must be no prior.
        size: Number of nodes for each eigenvalue.
    """
    nb, gamma = config.n_beta, config.localization
    p, q = sorted((inputs, hidden))
    log_axis = torch.linspace(
        math.log(1e-7 * gamma / nb), math.log(2 * EDGE / gamma), size, dtype=torch.float64
    )
    # ordered eigenvalues; the density is zero if two are equal
    which = torch.combinations(torch.arange(size), p)
    log_l = log_axis[which]  # (n, p)
    l = log_l.exp()  # noqa: E741  the usual letter
    repulsion = sum(
        (torch.log(l[:, j] - l[:, i]) for i in range(p) for j in range(i + 1, p)),
        torch.zeros(len(l)),
    )
    one = (q - p + 1) / 2 * log_l - gamma * l / 2 - outputs / 2 * torch.log1p(2 * nb * l / gamma)
    weight = torch.softmax(one.sum(1) + repulsion, 0)
    energy = outputs / 2 * (2 * nb * l / (2 * nb * l + gamma)).sum(1)
    A = torch.zeros(len(l), hidden, inputs, dtype=torch.float64)
    A[:, range(p), range(p)] = l.sqrt()
    precision = torch.full((len(l), 1, hidden), gamma, dtype=torch.float64)
    precision[:, 0, :p] += 2 * nb * l
    for scramble in range(SCRAMBLES):
        B = _normal(outputs * hidden, len(l), scramble).view(-1, outputs, hidden) / precision.sqrt()
        yield Nodes(torch.cat([A.flatten(1), B.flatten(1)], 1), weight, energy)


def _normal(dimension: int, count: int, scramble: int) -> Tensor:
    """Returns standard normal numbers (count, dimension) from a scrambled Sobol sequence."""
    unit = torch.quasirandom.SobolEngine(dimension, scramble=True, seed=scramble).draw(
        count, dtype=torch.float64
    )
    return torch.special.ndtri(unit.clamp(1e-12, 1 - 1e-12))


def _product(layers: list[Tensor]) -> Tensor:
    total = layers[0]
    for W in layers[1:]:
        total = W @ total
    return total
