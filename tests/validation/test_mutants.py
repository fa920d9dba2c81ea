"""A wrong sampler must fail `devsort validate`: mutants of the chain, each with a case that catches
it.

All catchers are fast cases, which hold for the right sampler (test_validate.py). Run as a script,
this prints every mutant with the fast cases that it fails.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from unittest.mock import patch

import pytest
import torch

from devsort.sampling import api, chains
from devsort.sampling.config import SamplerConfig
from devsort.sampling.methods import METHODS, Baoab, force_of, heating
from devsort.sampling.noise import GeneratorNoise
from devsort.sampling.objective import LossObjective
from devsort.validation.validate import check, chosen

ORIGINAL_FORCE, ORIGINAL_HEATING, ORIGINAL_CHAINS = force_of, heating, api.run_chains
ORIGINAL_CALL, ORIGINAL_NOISE = LossObjective.__call__, GeneratorNoise.__call__


def step(**change: Callable[[SamplerConfig], float]):
    """Every step with other settings than those asked for."""

    def changed(config: SamplerConfig) -> SamplerConfig:
        return config.model_copy(update={name: value(config) for name, value in change.items()})

    def force(w, star, grad, config, out=None):
        return ORIGINAL_FORCE(w, star, grad, changed(config), out)

    methods = {n: lambda c, like, m=m: m(changed(c), like) for n, m in METHODS.items()}
    return patch.multiple(chains, force_of=force, METHODS=methods)


def no_half():
    """ε instead of ε/2 before the gradient, the noise as it should be."""
    return step(lr=lambda c: 2 * c.lr, noise_level=lambda c: c.noise_level / math.sqrt(2))


def other_center(shift: Callable[[torch.Tensor], torch.Tensor]):
    def mutant(w, star, grad, config, out=None):
        return ORIGINAL_FORCE(w, shift(star), grad, config, out)

    return patch.object(chains, "force_of", mutant)


def prior_at_the_start():
    return step(localization=lambda c: c.localization + c.prior, prior=lambda c: 0.0)


class KickDriftRenew(Baoab):
    """The momentum is renewed after the whole drift: first order."""

    def step(self, w, force, noise):
        p = self.p.add_(force, alpha=-self.h)
        w.add_(p, alpha=self.h)
        p.mul_(self.momentum).add_(noise, alpha=self.noise)


def heat_as(share: float):
    def mutant(delta, others, config):
        return share * ORIGINAL_HEATING(delta, others, config)

    return patch.object(chains, "heating", mutant)


def flat_heat():
    """As if no direction were flat."""
    return patch.object(chains, "heating", lambda d, others, c: ORIGINAL_HEATING(d, others[:0], c))


def recorded(**change: Callable[[SamplerConfig], int]):
    """Draws taken at other steps than those asked for."""

    def mutant(objective, config, streams):
        update = {name: value(config) for name, value in change.items()}
        return ORIGINAL_CHAINS(objective, config.model_copy(update=update), streams)

    return patch.object(api, "run_chains", mutant)


def burn_in(more: int):
    return recorded(num_burnin_steps=lambda c: c.num_burnin_steps + more)


def objective(change: Callable):
    """The objective with something done to what it returns, or to the step number."""

    def mutant(self, w, step):
        return change(ORIGINAL_CALL, self, w, step)

    return patch.object(LossObjective, "__call__", mutant)


def lanes_mixed(call, self, w, step):
    loss, init, grad, parts = call(self, w, step)
    return loss, init, grad.roll(1, 0), parts


def same_minibatch(call, self, w, step):
    return call(self, w, 0)


def summed_loss(call, self, w, step):
    loss, init, grad, parts = call(self, w, step)
    return loss, init, grad * (1 if self.index is None else self.index.shape[2]), parts


def not_paired(call, self, w, step):
    loss, init, grad, parts = call(self, w, step)
    return loss, init + 0.02, grad, parts


def bigger_minibatches():
    def mutant(seed, chains, steps, batch_size, size):
        return original(seed, chains, steps, 2 * batch_size, size)

    original = api.minibatches
    return patch.object(api, "minibatches", mutant)


def one_noise_for_all():
    def mutant(self, step):
        return ORIGINAL_NOISE(self, step)[:1].expand(len(self.block), -1)

    return patch.object(GeneratorNoise, "__call__", mutant)


def noise_used_twice():
    def mutant(self, step):
        drawn = ORIGINAL_NOISE(self, step)
        if step % 2 == 0:
            self.last = drawn.clone()
        return self.last

    return patch.object(GeneratorNoise, "__call__", mutant)


MUTANTS = {  # name → (mutant, cases that must fail)
    "no factor 1/2": (no_half, ["small-step"]),
    "noise variance doubled": (
        lambda: step(noise_level=lambda c: math.sqrt(2) * c.noise_level),
        ["small-step"],
    ),
    "noise one percent too large": (
        lambda: step(noise_level=lambda c: 1.01 * c.noise_level),
        ["large-step"],
    ),
    "noise without the square root": (
        lambda: step(noise_level=lambda c: math.sqrt(c.lr)),
        ["small-step"],
    ),
    "localization forgotten": (lambda: step(localization=lambda c: 0.0), ["burn-in-cut"]),
    "localization at zero": (lambda: other_center(torch.zeros_like), ["prior"]),
    "prior forgotten": (lambda: step(prior=lambda c: 0.0), ["prior"]),
    "prior at the start": (prior_at_the_start, ["prior"]),
    "n_beta five percent off": (lambda: step(n_beta=lambda c: 1.05 * c.n_beta), ["large-step"]),
    "burn-in one too short": (lambda: burn_in(-1), ["burn-in-cut"]),
    "burn-in one too long": (lambda: burn_in(1), ["burn-in-cut"]),
    "every step kept": (lambda: recorded(num_steps_bw_draws=lambda c: 1), ["burn-in-cut"]),
    "lanes mixed": (lambda: objective(lanes_mixed), ["small-step"]),
    "one minibatch for ever": (lambda: objective(same_minibatch), ["minibatch-noise"]),
    "summed instead of averaged": (lambda: objective(summed_loss), ["minibatch-noise"]),
    "minibatches twice as large": (bigger_minibatches, ["minibatch-noise"]),
    "start not paired": (lambda: objective(not_paired), ["small-step"]),
    "one noise for all chains": (one_noise_for_all, ["small-step"]),
    "noise used twice": (noise_used_twice, ["small-step"]),
    "baoab: ten percent more momentum": (
        lambda: step(momentum=lambda c: 1.1 * c.momentum),
        ["baoab-start"],
    ),
    "baoab: half the noise": (
        lambda: step(noise_level=lambda c: c.noise_level / 2),
        ["baoab-large-step", "leimkuhler-matthews"],
    ),
    "baoab: wrong order of the splitting": (
        lambda: patch.dict(chains.METHODS, baoab=KickDriftRenew),
        ["baoab-large-step", "leimkuhler-matthews"],
    ),
    "baoab: heat added": (lambda: heat_as(-1), ["baoab-minibatches"]),
    "baoab: heat left in": (lambda: heat_as(0), ["baoab-minibatches"]),
    "baoab: heat of flat directions": (flat_heat, ["baoab-heat"]),
}


def failing(mutant: Callable, names: list[str]) -> list[str]:
    with ExitStack() as stack:
        stack.enter_context(mutant())
        return [case.name for case in chosen(names) if not check(case)["ok"]]


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_sampler_is_caught(name):
    mutant, catchers = MUTANTS[name]
    assert failing(mutant, catchers) == catchers


if __name__ == "__main__":
    fast = [case.name for case in chosen(fast=True)]
    for name, (mutant, _) in MUTANTS.items():
        print(f"{name}: {', '.join(failing(mutant, fast))}", flush=True)
