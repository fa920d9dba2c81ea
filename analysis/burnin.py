"""How often is `not_converged` raised for chains that have settled, and for chains that have not?

python analysis/burnin.py

The chains have a known truth and are made without a sampler. nβ (L − L(w*)) is λ plus stationary
noise with relaxation time τ and the spread of trained sorters (10 % of λ per draw). If the burn-in
was too short, there is also an approach λ (1 − s exp(−t/T)) or a fall λ (1 + s exp(−t/T)). There
are four chains of 200 draws, as by default. The script prints how often `not_converged` is raised:
the rate of false alarms (s = 0), and the power, with the bias of the draws.
"""

import numpy as np

from devsort.llc import estimate
from devsort.rng import stream
from devsort.sampling import Trace
from devsort.sampling.config import SamplerConfig

LLC, SPREAD, REPEATS = 150.0, 0.1, 200
RELAXATIONS = (2.0, 6.0, 15.0, 30.0)  # τ: integrated autocorrelation time in steps
APPROACHES = [(0.0, 1.0), *((s, T) for s in (-0.6, -0.3, 0.3, 0.6) for T in (30.0, 100.0, 300.0))]
CONFIG = SamplerConfig(num_burnin_steps=0)


def chains(rng: np.random.Generator, relaxation: float, size: float, length: float) -> np.ndarray:
    """(C, T) draws of nβ (L − L(w*))."""
    shape = (CONFIG.num_chains, CONFIG.num_draws)
    memory = (relaxation - 1) / (relaxation + 1)  # of an AR(1) with that integrated time
    noise = rng.standard_normal(shape)
    for t in range(1, shape[1]):
        noise[:, t] = memory * noise[:, t - 1] + np.sqrt(1 - memory**2) * noise[:, t]
    path = 1 + size * np.exp(-np.arange(shape[1]) / length)
    return LLC * (path + SPREAD * noise)


def trace_of(values: np.ndarray) -> Trace:
    """A trace with these draws, and with nothing else that could raise a flag."""
    size, none = values.shape, np.empty((len(values), 0))
    return Trace(
        loss=values / CONFIG.n_beta,
        init_loss=np.zeros(size),
        work=np.full(size, 50_000.0),
        force=np.ones(size),
        distance=np.ones(size),
        heating=none,
        burnin_loss=none,
        burnin_init_loss=none,
        parts={},
        dimension=50_000,
        config=CONFIG,
    )


def share(relaxation: float, size: float, length: float) -> tuple[float, float]:
    """How often the flag is raised, and the mean bias of the draws."""
    rng = stream(0, "burnin")
    samples = [chains(rng, relaxation, size, length) for _ in range(REPEATS)]
    raised = ["not_converged" in estimate(trace_of(values)).flags for values in samples]
    return float(np.mean(raised)), float(np.mean(samples) / LLC - 1)


def main() -> None:
    print("start  length of approach  bias   flagged at τ = " + " / ".join(map(str, RELAXATIONS)))
    for size, length in APPROACHES:
        results = [share(relaxation, size, length) for relaxation in RELAXATIONS]
        rates = "  ".join(f"{flagged:6.1%}" for flagged, _ in results)
        print(f"{size:+5.0%}  {length:10.0f} steps    {results[0][1]:+6.1%}  {rates}", flush=True)


if __name__ == "__main__":
    main()
