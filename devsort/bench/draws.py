"""Effective draws of the LLC per second: our sampler and devinterp's on the same posterior.

Our sampler runs as `llc_trajectory` does by default: BAOAB in relative geometry. All weights share
one scale s here, so that devinterp, which has one unit for all weights, samples the same posterior
at γ / s². Its step is half of ours; its bias on this network is not measured. Burn-in does not
count, for either. The effective number of draws is that of nβ (L(w) − L(w*)) on each chain's
minibatches, as the estimate has it. The LLCs of the chains are compared.
"""

from statistics import median

import numpy as np

from devsort.bench.networks import Subject, sampled, sampled_by_devinterp
from devsort.bench.timing import Timed
from devsort.llc.estimate import estimate
from devsort.llc.uncertainty import mean_of
from devsort.sampling import SamplerConfig
from devsort.sampling.geometry import Block, Blocks, block_scales

ONE = "unembed.weight"  # all weights have its scale
BLOCKS: Blocks = {ONE: Block(), "*": Block(follows=(ONE,))}
STEP = 2e-3  # devinterp's ε / s²
BURN_IN, DRAWS = (0.5, 4.0), (1.5, 4.0)  # ours and devinterp's, in units of `draw_steps`


def ours(of: Subject, steps: int, seed: int, device: str) -> Timed:
    """Effective draws per second of all our processes together, and λ̂ of the chains."""
    config = SamplerConfig(
        num_burnin_steps=round(BURN_IN[0] * steps), num_draws=round(DRAWS[0] * steps), seed=seed
    )
    rate, traces = sampled(of, config, device, BLOCKS)
    estimates = [estimate(trace) for trace in traces]
    share = median(one.ess for one in estimates) / (config.num_chains * config.num_draws)
    return Timed(rate * share, np.mean([one.llc_chain for one in estimates], 0))


def devinterp(of: Subject, steps: int, seed: int, device: str) -> Timed:
    """Effective draws per second of devinterp, and λ̂ of its chains."""
    config = in_units(of, STEP, round(BURN_IN[1] * steps), round(DRAWS[1] * steps), seed)
    rate, rises = sampled_by_devinterp(of, config, device)
    values = config.n_beta * rises[:, config.num_burnin_steps :].astype(float)
    return Timed(rate * mean_of(values).ess / values.size, values.mean(1))


def in_units(of: Subject, step: float, burn_in: int, draws: int, seed: int) -> SamplerConfig:
    """Settings of SGLD in the weights' own units, for the posterior of our sampler.

    Args:
        of: What is sampled.
        step: ε / s².
        burn_in: Steps before the first draw.
        draws: Draws of a chain.
        seed: Seed of the chains.
    """
    scale = float(block_scales(dict(of.loss.params))[ONE].flatten()[0])
    return SamplerConfig(
        geometry="absolute",
        lr=step * scale**2,
        localization=SamplerConfig().localization / scale**2,
        num_burnin_steps=burn_in,
        num_draws=draws,
        seed=seed,
    )
