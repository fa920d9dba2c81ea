"""For each flag: what was seen, what to do, and the diagnostic behind it."""

from devsort.llc.flags import CHANCE, DRIFT, GAP, PEAK, RHAT, SLOPE

ADVICE = {
    "diverged": (
        "a loss is not finite, or rose beyond what a stable chain reaches",
        "lower lr",
        None,
    ),
    "dead_chains": ("a chain is no longer finite, so the estimate is withheld", "lower lr", None),
    "negative": (
        "the whole 95 % interval lies below zero: the chain goes on training from here",
        "treat the checkpoint as no minimum, or sample more locally: raise localization",
        None,
    ),
    "not_converged": (
        f"R-hat is over {RHAT}, or the two halves of the draws differ by over {DRIFT:.0%}",
        "raise num_burnin_steps and num_draws",
        "drift",
    ),
    "starting_peak": (
        f"the first fifth of the chain peaks at over {PEAK} times its later level",
        "lower lr",
        "peak",
    ),
    "chance_level": (
        f"the loss climbed over {CHANCE:.0%} of the way to a uniform guess",
        "lower lr, or raise localization or n_beta",
        "climb",
    ),
    "prior_dominated": (
        f"the estimate is close to proportional to nβ (exponent over {SLOPE})",
        "raise n_beta, or lower localization, and do not interpret the level",
        "slope",
    ),
    "improper": (
        "nothing confines the chain, and its distance from the checkpoint has not settled",
        "set localization or prior",
        "growth",
    ),
    "out_of_equilibrium": (
        f"the equilibrium identity is off by over {GAP:.0%}",
        "lower lr and raise num_burnin_steps",
        "gap",
    ),
    "unknown": (
        "R-hat or the error cannot be computed: too few draws, or losses that never change",
        "raise num_draws, and look at the chains",
        None,
    ),
}  # flag: why, what to do (settings of SamplerConfig), its number in Diagnostics
