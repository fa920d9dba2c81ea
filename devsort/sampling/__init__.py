"""Langevin sampling of many chains at once, for any loss.

The samplers are in `methods`: BAOAB (underdamped Langevin dynamics) and devinterp's SGLD,

    w ← w − (ε/2) (nβ ∇L_batch(w) + γ (w − w*) + ρ w) + sqrt(ε) N(0, I)

| symbol | meaning                                          | setting        |
|--------|--------------------------------------------------|----------------|
| ε      | step size                                        | `lr`           |
| nβ     | inverse temperature times sample size            | `n_beta`       |
| γ      | localization, pull towards the starting point w* | `localization` |
| ρ      | precision of a Gaussian prior centred at zero    | `prior`        |
| λ̂      | local learning coefficient, nβ (E[L] − L(w*))    | `devsort.llc`  |

The step convention and the names are devinterp's. A *lane* is one (checkpoint, restriction, chain).
Minibatches are named by (seed, chain, step) and noise by (seed, key, chain), so the draws of a lane
do not depend on which other lanes run beside it. Sources: Welling & Teh 2011 (SGLD); Lau et al.
2023, arXiv 2308.12108 (LLC).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devsort.sampling.api import sample
    from devsort.sampling.chains import run_chains
    from devsort.sampling.config import SamplerConfig
    from devsort.sampling.modules import ModuleLoss, module_loss
    from devsort.sampling.objective import LossObjective, Objective, minibatches
    from devsort.sampling.trace import Trace

__all__ = [
    "LossObjective",
    "ModuleLoss",
    "Objective",
    "SamplerConfig",
    "Trace",
    "minibatches",
    "module_loss",
    "run_chains",
    "sample",
]
_HOMES = {
    "ModuleLoss": "modules",
    "SamplerConfig": "config",
    "Trace": "trace",
    "module_loss": "modules",
    "run_chains": "chains",
    "sample": "api",
}


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used, so that reading settings does not import torch."""
    if name in __all__:
        home = _HOMES.get(name, "objective")
        return getattr(import_module(f"devsort.sampling.{home}"), name)
    raise AttributeError(f"module 'devsort.sampling' has no attribute {name!r}")
