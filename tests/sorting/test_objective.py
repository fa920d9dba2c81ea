"""The sorting model's objectives against the plain loss of the readable model, on the same draws.

Tolerance: both are float32 with other orders of summation. A chain of 30 small steps lets rounding
(1e-7 of a loss near 2) grow little, so losses agree to 2e-5 and squared norms to 1e-3 of their
value.
"""

import numpy as np
import pytest
import torch
from oracles import random_params

from devsort.sampling import LossObjective, minibatches, run_chains, sample
from devsort.sampling.config import SamplerConfig
from devsort.sorting.config import ModelConfig, TaskConfig
from devsort.sorting.model import losses, model_shape, param_shapes
from devsort.sorting.objective import Minibatches, Reference, SortObjective, sort_kernels
from devsort.sorting.restrictions import restriction_mask
from devsort.sorting.task import Batch, eval_batch

CONFIG = SamplerConfig(
    lr=2e-5, n_beta=200, localization=30, prior=3, num_chains=3, num_draws=10, num_burnin_steps=10,
    num_steps_bw_draws=2, batch_size=8, seed=5,
)  # fmt: skip
NAMES = ("full", "h0", "h1", "h1.qk", "h0.ov", "embed", "pos", "unembed", "norms", "*.b_O")


def setting(norm: bool = True, heads: int = 2):
    task = TaskConfig(list_length=4, numbers=9, eval_lists=40)
    shape = model_shape(task, ModelConfig(heads=heads, d_model=12, d_head=5, layer_norm=norm))
    data = eval_batch(task)
    batches = Minibatches(data, minibatches(5, range(3), CONFIG.num_steps, 8, 40), {})
    return shape, random_params(param_shapes(shape), seed=1), batches


def fast(name: str, norm: bool = True, groups: dict | None = None, heads: int = 2):
    shape, params, batches = setting(norm, heads)
    batches = Minibatches(batches.data, batches.index, groups or {})
    kernels = sort_kernels(shape)
    reference = Reference(kernels[0], params, batches.data)
    return run_chains(
        SortObjective(kernels, [reference], name, batches), CONFIG, [(c,) for c in range(3)]
    )


def plain_loss(params, batch):
    return losses(params, *batch).mean()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("norm", [True, False])
def test_a_restriction_gives_the_trace_of_the_plain_loss(name, norm):
    if name == "norms" and not norm:
        return
    shape, params, batches = setting(norm)
    data = (batches.data.tokens, batches.data.targets)
    expected = sample(plain_loss, params, data, CONFIG, mask=restriction_mask(name, shape))
    found = fast(name, norm)
    assert found.dimension == expected.dimension
    for field in ("loss", "init_loss", "burnin_loss", "burnin_init_loss", "rise"):
        np.testing.assert_allclose(
            getattr(found, field), getattr(expected, field), atol=2e-5, err_msg=field
        )
    for field in ("force", "distance"):
        np.testing.assert_allclose(
            getattr(found, field), getattr(expected, field), rtol=1e-3, err_msg=field
        )
    scale = np.sqrt(expected.force * expected.distance)
    assert (np.abs(found.work - expected.work) <= 1e-3 * scale + 1e-6).all()


def test_the_rise_at_the_start_is_zero_to_rounding(monkeypatch):
    # what is frozen is computed in several parts
    monkeypatch.setattr("devsort.sorting.kernels.head.CHUNK", 8)
    monkeypatch.setattr("devsort.sorting.objective.CHUNK", 8)
    for name in NAMES:
        assert np.abs(fast(name).burnin_rise[:, 0]).max() < 2e-6


def test_groups_follow_parts_of_the_data():
    small = torch.zeros(40, 4, dtype=torch.bool)
    small[:, :2] = True
    groups = {
        "all": torch.ones(40, 4, dtype=torch.bool),
        "first": small,
        "rest": ~small,
        "none": small & ~small,
    }
    trace = fast("full", groups=groups)
    np.testing.assert_allclose(trace.groups["all"], trace.rise, atol=1e-6)
    np.testing.assert_allclose(
        (trace.groups["first"] + trace.groups["rest"]) / 2, trace.rise, atol=1e-6
    )
    assert np.isnan(trace.groups["none"]).all()
    assert np.abs(trace.groups["first"] - trace.groups["rest"]).max() > 1e-3


def test_a_group_is_the_plain_loss_on_its_lists():
    _, params, batches = setting()
    chosen = torch.arange(40) % 3 == 0
    trace = fast("full", groups={"third": chosen[:, None].expand(40, 4)})
    quiet = LossObjective(
        plain_loss, params, (batches.data.tokens, batches.data.targets), batches.index
    )
    assert trace.groups["third"].shape == trace.loss.shape
    # the parameters at the first kept draw, from a chain on the plain loss
    rows = batches.index[:, CONFIG.num_burnin_steps]
    w = weights_at(quiet, CONFIG.num_burnin_steps)
    for c in range(3):
        picked = rows[c][chosen[rows[c]]]
        batch = Batch(batches.data.tokens[picked], batches.data.targets[picked])
        moved = plain_loss(quiet.layout.views(w[c]), (batch.tokens, batch.targets))
        start = plain_loss(params, (batch.tokens, batch.targets))
        assert trace.groups["third"][c, 0] == pytest.approx(float(moved - start), abs=2e-5)


def weights_at(objective: LossObjective, step: int) -> torch.Tensor:
    """(C, P) parameters before a step."""
    seen = []

    class Spy:
        center = objective.center

        def __call__(self, w, step):
            seen.append(w.clone())
            return objective(w, step)

    run_chains(Spy(), CONFIG, [(c,) for c in range(3)])
    return seen[step]


def test_eight_heads():
    shape, params, batches = setting(heads=8)
    data = (batches.data.tokens, batches.data.targets)
    expected = sample(plain_loss, params, data, CONFIG, mask=restriction_mask("h7", shape))
    np.testing.assert_allclose(fast("h7", heads=8).loss, expected.loss, atol=2e-5)
