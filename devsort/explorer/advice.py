"""What a flag of an LLC estimate says, and what to do about it, in a line each."""

from devsort.llc.flags import CHANCE, DRIFT, GAP, PEAK, RHAT, SLOPE

ADVICE = {
    "diverged": ("a loss is not finite, or rose beyond what a stable chain reaches", "lower lr"),
    "dead_chains": ("a chain is no longer finite, so the estimate is withheld", "lower lr"),
    "negative": (
        "the whole 95 % interval lies below zero: the chain goes on training from here",
        "take the checkpoint for no minimum, or sample more locally: raise localization",
    ),
    "not_converged": (
        f"R-hat is over {RHAT}, or the two halves of the draws differ by over {DRIFT:.0%}",
        "raise num_burnin_steps and num_draws",
    ),
    "starting_peak": (
        f"the first fifth of the chain peaks at over {PEAK} times its later level",
        "lower lr",
    ),
    "chance_level": (
        f"the loss climbed over {CHANCE:.0%} of the way to a uniform guess",
        "lower lr, or raise localization or n_beta",
    ),
    "prior_dominated": (
        f"the estimate is close to proportional to nβ (exponent over {SLOPE})",
        "raise n_beta, or lower localization, and do not read the level",
    ),
    "improper": (
        "nothing confines the chain, and its distance from the checkpoint has not settled",
        "set localization or prior",
    ),
    "out_of_equilibrium": (
        f"the equilibrium identity is off by over {GAP:.0%}",
        "lower lr and raise num_burnin_steps",
    ),
}  # flag: why, what to do; settings are those of SamplerConfig
