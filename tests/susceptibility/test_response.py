"""The estimator against closed forms, plain loops and devinterp, on draws that are given."""

import numpy as np
import pytest
import xarray as xr
from scipy.signal import lfilter

from devsort.errors import UserError
from devsort.rng import stream
from devsort.susceptibility.moments import BLOCKS, Moments
from devsort.susceptibility.response import (
    correlation,
    covariance,
    covariance_of,
    susceptibility,
    variances,
)


def draws(chains=4, length=100, many=2, size=5, memory=0.0, key=0):
    """Gaussian draws (C, T, M) and (C, T, N) that share a part, each an AR(1) of this memory."""
    rng = stream(0, "response", key)
    noise = rng.normal(size=(chains, length, many + size + 1))
    noise[:, 1:] *= np.sqrt(1 - memory**2)
    series = lfilter([1], [1, -memory], noise, axis=1)
    shared = series[..., -1:]
    return series[..., :many] + shared, np.arange(1, size + 1) * shared + series[..., many:-1]


def pooled(moments: Moments) -> np.ndarray:
    """The covariance of all draws taken as one sample, over their number: no correction."""
    whole = {power: mean.mean((0, 1)) for power, mean in moments.means(1).items()}
    return whole[1, 1] - whole[1, 0] * whole[0, 1]


def test_the_value_is_the_covariance_within_chains_plus_that_of_their_means():
    phi, loss = draws(memory=0.9)
    found = covariance(Moments.of(phi, loss))
    for m in range(2):
        for n in range(5):
            pairs = zip(phi[..., m], loss[..., n], strict=True)
            within = np.mean([np.cov(*pair, ddof=0)[0, 1] for pair in pairs])
            between = np.cov(phi[..., m].mean(1), loss[..., n].mean(1))[0, 1]
            assert found.value[m, n] == pytest.approx(within + between, rel=1e-10)


def test_the_value_is_unbiased_however_slowly_chains_forget():
    # truth: Cov(φ_m, ℓ_n) = n; without the correction a fifth and more is missing
    found, plain = [], []
    for key in range(400):
        moments = Moments.of(*draws(2, 24, 1, 3, memory=0.8, key=key))
        found.append(covariance_of(moments)[0] / np.arange(1, 4))
        plain.append(pooled(moments)[0] / np.arange(1, 4))
    error = np.std(found, 0).max() / np.sqrt(len(found))
    assert np.abs(np.mean(found, 0) - 1).max() < 4 * error < 0.2
    assert np.mean(plain, 0).max() < 0.9


@pytest.mark.parametrize(("chains", "memory"), [(4, 0.0), (4, 0.7), (8, 0.7)])
def test_intervals_cover(chains, memory):
    held = []
    for key in range(200):
        found = covariance(Moments.of(*draws(chains, 160, 1, 3, memory, key)))
        low, high = np.moveaxis(found.ci95[0], -1, 0)
        held.append((low < np.arange(1, 4)) & (np.arange(1, 4) < high))
    assert 0.92 <= np.mean(held) <= 0.98


def test_correlations_and_their_error():
    # truth: n / sqrt(2 (n² + 1))
    truth = np.arange(1, 6) / np.sqrt(2 * (np.arange(1, 6) ** 2 + 1))
    held, values = [], []
    for key in range(200):
        found = correlation(Moments.of(*draws(4, 160, 1, 5, 0.5, key)))
        low, high = np.moveaxis(found.ci95[0], -1, 0)
        held.append((low < truth) & (truth < high))
        values.append(found.value[0])
    assert np.abs(np.mean(values, 0) - truth).max() < 0.01
    assert 0.92 <= np.mean(held) <= 0.98


def test_rhat_is_the_split_rhat_of_the_products():
    phi, loss = draws(memory=0.95)
    found = covariance(Moments.of(phi, loss)).rhat
    s = (phi[..., 1] - phi[..., 1].mean()) * (loss[..., 2] - loss[..., 2].mean())
    halves = s.reshape(8, 50)
    ratio = halves.mean(1).var(ddof=1) / halves.var(1, ddof=1).mean()
    assert found[1, 2] == pytest.approx(np.sqrt(49 / 50 + ratio), rel=1e-9)
    assert covariance(Moments.of(*draws())).rhat.max() < 1.1 < found.max()


def test_a_constant_added_to_the_losses_changes_nothing():
    phi, loss = draws()
    moved = covariance(Moments.of(phi + 3, loss - 5))
    assert np.allclose(moved.value, covariance(Moments.of(phi, loss)).value)
    assert np.allclose(moved.se, covariance(Moments.of(phi, loss)).se)
    assert np.allclose(moved.rhat, covariance(Moments.of(phi, loss)).rhat)


def test_sums_in_pieces_are_the_sums_of_the_whole():
    phi, loss = draws()
    whole = Moments.of(phi, loss)
    halves = Moments.join([Moments.of(phi[:1], loss[:1]), Moments.of(phi[1:], loss[1:])])
    assert np.array_equal(covariance(halves).value, covariance(whole).value)
    assert np.array_equal(whole.lanes([2]).sums[1, 2], Moments.of(phi[2:3], loss[2:3]).sums[1, 2])


def test_draws_may_come_one_by_one():
    phi, loss = draws(length=30)
    whole, streamed = Moments.of(phi, loss), Moments.empty(4, 2, 5, 30)
    for t in range(30):
        streamed.add(phi[:, t], loss[:, t])
    assert np.array_equal(streamed.counts, whole.counts)
    assert all(np.allclose(streamed.sums[p], whole.sums[p]) for p in whole.sums)


def test_the_sums_do_not_grow_with_the_draws():
    sizes = [sum(s.size for s in Moments.empty(4, 2, 5, n).sums.values()) for n in (8, 10_000)]
    assert sizes[0] == sizes[1]


def test_one_chain_is_cut_into_blocks():
    phi, loss = draws(1, 400, 1, 3)
    found = covariance(Moments.of(phi, loss))
    assert found.dof == BLOCKS - 1
    assert np.abs(found.value[0] - np.arange(1, 4)).max() < 4 * found.se.max()


def test_too_few_draws_are_refused():
    with pytest.raises(UserError) as error:
        Moments.empty(2, 1, 1, 7)
    assert str(error.value) == (
        "7 draws are too few for a covariance with its error; take at least 8 draws a chain"
    )


def trees(rng, restrictions, chains=3, length=16, batch=6, tokens=4):
    """What devinterp's `sample` leaves, with losses on the data and on a probe."""

    def tree():
        shared = rng.normal(size=(chains, length, 1, 1))
        losses = {
            f"loss_{name}": (
                ("chain", "draw", f"batch_{name}", "token_pos"),
                2 + shared + rng.normal(size=(chains, length, batch, tokens)),
            )
            for name in ("data", "probe")
        }
        ids = {
            f"input_ids_{name}": ((f"batch_{name}", "token"), np.zeros((batch, tokens + 1), int))
            for name in ("data", "probe")
        }
        start = {"init_loss": (("chain",), np.full(chains, 1.5))}
        return xr.DataTree(xr.Dataset(losses | ids | start))

    return {name: tree() for name in restrictions}


def centred(tree):
    """φ (C, T, 1) and ℓ − L (C, T, N) of such a tree."""
    data = tree["loss_data"].values
    mean = data.mean((2, 3))[..., None]
    probe = tree["loss_probe"].values
    return mean - 1.5, probe.reshape(*probe.shape[:2], -1) - mean


def test_devinterp_gives_the_same_susceptibilities():
    from devinterp.slt.susceptibilities import compute_susceptibilities

    made = trees(stream(0, "devinterp"), ("full", "head"))
    theirs = compute_susceptibilities(made, "data")["susceptibilities/sus"].sel(wr="head").values
    phi, loss = centred(made["head"])
    own = susceptibility(Moments.of(phi, loss), Moments.of(*centred(made["full"])))
    moments = Moments.of(phi, loss)
    correction = covariance_of(moments) - pooled(moments)  # theirs has none for finite draws
    assert np.allclose(own.value[0] + correction[0], theirs, atol=1e-12)
    assert np.abs(correction).max() > 1e-4
    apart = phi.mean() * (loss.mean((0, 1)) - centred(made["full"])[1].mean((0, 1)))
    assert np.allclose(susceptibility(moments).value[0] - apart, own.value[0])


@pytest.mark.parametrize("covariances", [True, False])
def test_devinterp_gives_the_same_kernel(covariances):
    from devinterp.slt.bif import compute_bif

    tree = trees(stream(1, "devinterp"), ("full",))["full"]
    theirs = compute_bif(
        tree,
        correlation_method="sequence",
        loss_keys=["probe"],
        compute_covariance=covariances,
        device="cpu",
    )["influences"].values
    losses = tree["loss_probe"].values.mean(3)
    moments = Moments.of(losses, losses)
    count = losses.shape[0] * losses.shape[1]
    ours = pooled(moments) * count / (count - 1)
    if not covariances:
        spread = np.sqrt(np.diag(ours))
        ours = ours / np.outer(spread, spread)
    assert np.allclose(ours, theirs, atol=1e-6)
    corrected = covariance(moments) if covariances else correlation(moments)
    assert np.abs(corrected.value - theirs).max() < 0.3 * np.abs(theirs).max()
    assert np.allclose(variances(moments)[1][0], np.diag(covariance_of(moments)))


def test_the_error_of_the_full_model_counts():
    phi, loss = draws(key=1)
    head, full = Moments.of(phi + 9, loss), Moments.of(*draws(key=2))
    own, joint = susceptibility(head), susceptibility(head, full)
    assert (joint.se > 3 * own.se).all()
