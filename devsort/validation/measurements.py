"""The measurements of the cases, with the functions that a user calls: `sample` and `estimate`."""

from typing import NamedTuple

import numpy as np
import torch

from devsort.llc import estimate
from devsort.rng import stream
from devsort.sampling import Trace, module_loss, sample
from devsort.sampling.config import SamplerConfig
from devsort.sampling.masks import Mask
from devsort.validation.potentials import Potential


class Measured(NamedTuple):
    """An estimate and its standard error."""

    estimate: float
    se: float


def llc(
    potential: Potential, config: SamplerConfig, mask: Mask | None = None, key: tuple[int, ...] = ()
) -> Measured:
    """Measures λ̂ of a potential, or of some of its parameters with a mask."""
    return _llc(sample(potential.loss, potential.star, config=config, mask=mask, key=key))


def tilted_llc(config: SamplerConfig) -> Measured:
    """Measures λ̂ of 3/2 w² + x w, with rows x = ±1.

    Each row adds a constant to the gradient. Its variance over minibatches is 1/batch_size.
    """
    return _llc(_tilted(config))


def equilibrium(config: SamplerConfig) -> Measured:
    """Measures E[(w − w*)·G] − (ε/4) E|G|² for this loss. It equals d in the stationary chain."""
    trace = _tilted(config)
    gap = (trace.work - config.lr / 4 * trace.force).mean(1, dtype=np.float64)
    return Measured(float(gap.mean()), float(gap.std(ddof=1) / np.sqrt(len(gap))))


def cooled_llc(config: SamplerConfig) -> Measured:
    """Measures λ̂ of this loss with the heat subtracted, and its standard error between chains."""
    each = estimate(_tilted(config)).llc_chain
    return Measured(float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each))))


def heat(config: SamplerConfig) -> Measured:
    """Measures the heat that the estimator subtracts for this loss, with its error over chains."""
    heating = _tilted(config).heating.mean(1, dtype=np.float64)
    return Measured(float(heating.mean()), float(heating.std(ddof=1) / np.sqrt(len(heating))))


def scatter(potential: Potential, config: SamplerConfig) -> Measured:
    """Measures the standard deviation of λ̂ over chains, with its error from the delta method."""
    means = estimate(sample(potential.loss, potential.star, config=config)).llc_chain
    deviation = float(means.std(ddof=1))
    kurtosis = float(((means - means.mean()) ** 4).mean() / deviation**4)
    return Measured(deviation, deviation * float(np.sqrt((kurtosis - 1) / (4 * len(means)))))


def additivity_gap(whole: Potential, config: SamplerConfig) -> Measured:
    """Measures the sum of the LLCs of each parameter alone, minus the LLC of all parameters.

    The chains are independent.
    """
    masks = [None, *({name: None} for name in whole.star)]
    full, *refined = [llc(whole, config, mask, key=(i,)) for i, mask in enumerate(masks)]
    error = float(np.sqrt(sum(m.se**2 for m in [full, *refined])))
    return Measured(sum(m.estimate for m in refined) - full.estimate, error)


def regression_rows() -> tuple[np.ndarray, np.ndarray]:
    """Returns rows [x, 1] (64, 4), and the residuals (64,) of a least-squares fit."""
    rng = stream(0, "validation regression")
    x = np.column_stack([rng.normal(size=(64, 3)), np.ones(64)])
    noise = rng.normal(size=64)
    return x, noise - x @ np.linalg.lstsq(x, noise, rcond=None)[0]


def regression_llc(config: SamplerConfig) -> Measured:
    """Measures λ̂ of a torch.nn.Linear at the least-squares solution, with minibatches."""
    x, residuals = regression_rows()
    solution = np.array([0.5, -1.0, 2.0, 0.3])
    module = torch.nn.utils.skip_init(torch.nn.Linear, 3, 1)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(solution[None, :3]))
        module.bias.copy_(torch.from_numpy(solution[3:]))
    data = (torch.from_numpy(x[:, :3]).float(), torch.from_numpy(x @ solution + residuals).float())
    loss, params = module_loss(
        module, lambda model, batch: (model(batch[0])[:, 0] - batch[1]).square().mean() / 2
    )
    return _llc(sample(loss, params, data, config))


def _llc(trace: Trace) -> Measured:
    result = estimate(trace)
    return Measured(result.llc, result.se)


def _tilted(config: SamplerConfig) -> Trace:
    rows = torch.tensor([1.0, -1.0])
    return sample(
        lambda p, x: 1.5 * p["w"] ** 2 + x.mean() * p["w"], {"w": torch.zeros(())}, rows, config
    )
