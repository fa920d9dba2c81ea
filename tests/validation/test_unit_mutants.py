"""Mutants of relative geometry that the cases in other units must catch, on potentials alone."""

from unittest.mock import patch

import pytest

from devsort.sampling import api
from devsort.sampling.geometry import Rescaled
from devsort.validation.validate import check, chosen

QUADRATIC = ["units-quadratic-02", "units-quadratic-5"]
START = ["units-start-02", "units-start-5"]


class StepNotScaled(Rescaled):
    """The right posterior, but a step that is ε in w: drift s²-fold too small or large, noise by
    s."""

    def __call__(self, v, step):
        loss, init_loss, grad, groups = super().__call__(v, step)
        return loss, init_loss, grad / self.scale[:, 0] ** 2, groups


class AbsoluteLocalization(Rescaled):
    """γ (w − w*) beside a step and noise in v."""

    localization, n_beta = 2.0, 50.0

    def __call__(self, v, step):
        loss, init_loss, grad, groups = super().__call__(v, step)
        pull = self.localization / self.n_beta * (v - self.center) * (self.scale[:, 0] ** 2 - 1)
        return loss, init_loss, grad + pull, groups


class GradientNotScaled(Rescaled):
    """∇_w L where ∇_v L belongs."""

    def __call__(self, v, step):
        loss, init_loss, grad, groups = super().__call__(v, step)
        return loss, init_loss, grad / self.scale[:, 0], groups


class PriorInWeights(Rescaled):
    """The prior's centre where the weights are zero is right; its width is that of w."""

    prior, n_beta = 5.0, 50.0

    def __call__(self, v, step):
        loss, init_loss, grad, groups = super().__call__(v, step)
        return (
            loss,
            init_loss,
            grad + self.prior / self.n_beta * v * (self.scale[:, 0] ** 2 - 1),
            groups,
        )


def absolute(objective, scale):
    """No geometry at all."""
    return objective


MUTANTS = {
    "step not scaled": (StepNotScaled, [*QUADRATIC, *START]),
    "absolute localization left in": (AbsoluteLocalization, ["units-quadratic-5"]),
    "gradient not scaled": (GradientNotScaled, [*QUADRATIC, *START]),
    "prior in the weights' units": (PriorInWeights, ["units-prior-02", "units-prior-5"]),
    "no geometry": (absolute, [*QUADRATIC, *START]),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_a_wrong_geometry_is_caught(name):
    mutant, catchers = MUTANTS[name]
    with patch.object(api, "Rescaled", mutant):
        assert [case.name for case in chosen(catchers) if not check(case)["ok"]] == catchers
