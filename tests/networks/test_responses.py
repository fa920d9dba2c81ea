"""Responses over training: closed forms at each checkpoint, and the draws of the LLC."""

import numpy as np
import pytest
import torch

import devsort
from devsort.rng import stream
from devsort.sampling import SamplerConfig

N_BETA, PULL, POINTS = 30.0, 5.0, 6
CONFIG = SamplerConfig(
    geometry="absolute",
    sampling_method="baoab",
    momentum=0.6,
    lr=4e-3,
    n_beta=N_BETA,
    localization=PULL,
    num_chains=600,
    num_burnin_steps=80,
    num_draws=24,
    num_steps_bw_draws=4,
    batch_size=1,
)


def regression():
    """Points (6, 2), what is to be predicted, and weights before and after training."""
    rng = stream(0, "tests response trajectory")
    x = rng.normal(size=(POINTS, 2))
    y = x @ np.array([1.0, -0.5]) + 0.3 * rng.normal(size=POINTS)
    return x, y, {10: np.array([0.2, 0.6]), 200: np.linalg.lstsq(x, y, rcond=None)[0]}


def half_squares(params, batch):
    return (batch[0] @ params["w"] - batch[1]).square() / 2  # (1, points)


def gaussian(x, y, start):
    """Mean and covariance of the weights where ℓ_x = ½ (x w − y)², pulled to `start`."""
    precision = N_BETA * x.T @ x / len(y) + PULL * np.eye(2)
    mean = np.linalg.solve(precision, N_BETA * x.T @ y / len(y) + PULL * start)
    return mean, np.linalg.inv(precision)


def kernel_of(x, y, start):
    """Cov(½ g², ½ h²) of Gaussian residuals: ½ c² + a b c, c their covariance, a, b the means."""
    mean, spread = gaussian(x, y, start)
    residual, c = x @ mean - y, x @ spread @ x.T
    return c**2 / 2 + np.outer(residual, residual) * c


@pytest.fixture(scope="module")
def problem():
    """Loss, checkpoints, data and parts: one row whose tokens are the points, so no minibatches."""
    x, y, weights = regression()
    data = tuple(torch.from_numpy(v).float()[None] for v in (x, y))
    states = {step: {"w": torch.from_numpy(w).float()} for step, w in weights.items()}
    parts = {str(i): torch.arange(POINTS)[None] == i for i in range(POINTS)}
    return half_squares, states, data, parts


def test_kernel_and_influence_over_training_are_those_of_the_gaussian(problem):
    loss, states, data, parts = problem
    observables = {"first": lambda p: p["w"][0]}
    found = devsort.response_trajectory(
        devsort.influences, loss, states, data, CONFIG, parts=parts, observables=observables
    )
    assert found.checkpoint.values.tolist() == [10, 200]
    x, y, weights = regression()
    kernels = []
    for step, start in weights.items():
        mean, spread = gaussian(x, y, start)
        with_first = (x @ mean - y) * (x @ spread[:, 0])  # Cov(w_0, ½ r²) = E[r] Cov(w_0, r)
        truth = np.vstack([kernel_of(x, y, start), with_first])
        one = found.sel(checkpoint=step)
        assert np.abs((one.covariance - truth) / one.covariance_se).max() < 4.5
        assert (one.covariance_se < 0.1 * np.abs(truth).max()).all()
        kernels.append(truth)
    assert np.abs(kernels[0] - kernels[1]).max() > 10 * float(found.covariance_se.max())


def test_susceptibilities_over_training_are_those_of_the_gaussian(problem):
    loss, states, data, parts = problem
    found = devsort.response_trajectory(
        devsort.susceptibilities, loss, states, data, CONFIG, parts=parts
    )
    x, y, weights = regression()
    for step, start in weights.items():
        kernel = kernel_of(x, y, start)
        truth = -(kernel.mean(0) - kernel.mean())
        one = found.sel(checkpoint=step, component="full")
        assert np.abs((one.chi - truth) / one.se).max() < 4.5


def test_a_checkpoint_has_the_draws_that_the_llc_has(problem):
    loss, states, data, _ = problem
    few = CONFIG.model_copy(update={"num_chains": 12, "num_draws": 48})
    llc = devsort.llc_trajectory(
        loss, states, data, few, options=devsort.Options(processes=1, device="cpu")
    )
    assert (llc.steps_bw_draws == few.num_steps_bw_draws).all()  # else the LLC has longer chains
    alone = devsort.susceptibilities(loss, states[200], data, few, key=(200,))
    assert np.allclose(
        alone.traces["full"].loss, llc.loss.sel(checkpoint=200, restriction="full"), rtol=1e-5
    )
    over = devsort.response_trajectory(devsort.susceptibilities, loss, states, data, few)
    assert over.sel(checkpoint=200, drop=True).equals(alone.table)


def test_a_checkpoint_of_another_module_is_refused():
    network = torch.nn.Linear(2, 1)
    loss, params = devsort.module_loss(network, lambda m, b: (m(b[0]) - b[1]).square())
    states = {3: params | {"more": torch.zeros(1)}}
    data = (torch.randn(8, 2), torch.randn(8, 1))
    with pytest.raises(devsort.UserError) as error:
        devsort.response_trajectory(devsort.influences, loss, states, data)
    assert str(error.value).startswith(
        "the checkpoint of step 3 contains more, which the module does not have; "
    )
