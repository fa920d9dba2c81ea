"""A wrong response must fail `devsort validate`: mutants, each with a case that catches it.

The cases hold for the right code, see test_validate.py.
"""

from unittest.mock import patch

import numpy as np
import pytest

from devsort.sampling import chains
from devsort.sampling.methods import force_of
from devsort.susceptibility import api, observe, response
from devsort.validation import responses
from devsort.validation.responses import response_cases
from devsort.validation.validate import check

CASES = {case.name: case for case in response_cases()}
ERROR, COVARIANCE = response._error, response.covariance
COMPONENT = observe.component_response


def scaled(factor: float):
    """Every estimate times a factor, its error as it was."""

    def mutant(moments, full=None):
        found = response.susceptibility(moments, full)
        return response.Response(factor * found.value, found.se, found.rhat, found.dof)

    return patch.multiple(api, susceptibility=mutant)


def whole_left_in():
    """ℓ_x instead of ℓ_x − L."""

    def mutant(losses, parts):
        def evaluate(w):
            ((mean, away),) = COMPONENT(losses, parts)(w)
            return [(mean, away + mean)]

        return evaluate

    return patch.object(api, "component_response", mutant)


def at_the_start():
    """The loss of the component at w*."""

    def mutant(losses, parts):
        def evaluate(w):
            ((mean, away),) = COMPONENT(losses, parts)(w)
            return [(mean[:1] + 0 * mean, away)]

        return evaluate

    return patch.object(api, "component_response", mutant)


def small_errors():
    """Blocks alone, as if draws were independent of more than their chain."""
    return patch.object(response, "_error", lambda blocks: 0.7 * ERROR(blocks))


def no_localization():
    def mutant(w, star, grad, config, out=None):
        return force_of(w, star, grad, config.model_copy(update={"localization": 0.0}), out)

    return patch.object(chains, "force_of", mutant)


def not_shifted():
    """Data at +h on both sides."""
    original = responses._shifted
    return patch.object(responses, "_shifted", lambda h, config: original(abs(h), config))


def wrong_observable():
    def mutant(losses, parts, others=()):
        right = observe.kernel_response(losses, parts, others)

        def evaluate(w):
            return [(np.roll(phi, 1, 1), loss) for phi, loss in right(w)]

        return evaluate

    return patch.object(api, "kernel_response", mutant)


MUTANTS = {  # name → (mutant, case that must fail)
    "sign": (lambda: scaled(-1.0), "response-minibatch"),
    "ten percent too large": (lambda: scaled(1.1), "response-quartic"),
    "nβ in it": (lambda: scaled(3.0), "response-quartic"),
    "L left in": (whole_left_in, "response-minibatch"),
    "observed at the start": (at_the_start, "response-quartic"),
    "errors too small": (small_errors, "response-coverage"),
    "localization forgotten": (no_localization, "response-minibatch"),
    "data not shifted": (not_shifted, "response-difference"),
    "another observable": (wrong_observable, "influence-baoab"),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_response_is_caught(name):
    mutant, case = MUTANTS[name]
    with mutant():
        assert not check(CASES[case])["ok"]
