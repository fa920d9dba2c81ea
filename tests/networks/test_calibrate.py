"""Settings for a network are searched; the step follows from a curvature that is known here."""

from gates import CONFIG, STEPS, X, loss, network

from devsort.llc import calibrate as grid
from devsort.llc import tuning
from devsort.networks import calibrate as networks
from devsort.networks.calibrate import calibrate
from devsort.networks.trajectory import Options


def test_the_step_follows_from_the_curvature(monkeypatch):
    """The loss is Σ over open inputs of w² E[x²]: its curvature is known."""
    monkeypatch.setattr(grid, "N_BETAS", (100.0, 400.0, 1600.0, 6400.0))
    monkeypatch.setattr(grid, "DRAWS", 12)
    monkeypatch.setattr(grid, "MAX_BURNIN", 6)
    monkeypatch.setattr(networks, "CHECKPOINTS", 2)
    monkeypatch.setattr(tuning, "STEPS", 40)
    states = {step: network(step).state_dict() for step in STEPS}
    found = calibrate(loss(), states, X, CONFIG, options=Options(device="cpu", processes=1))
    h = float((2 * X.T @ X / len(X)).double().svd().S[0])  # all four inputs are open at the end
    for point in found.value["trials"]:
        expected = 1 / (point["n_beta"] * h + point["localization"])
        assert abs(point["lr"] / expected - 1) < 0.25  # eight power iterations
    assert found.value["checkpoints"] == [STEPS[0], STEPS[-1]]
    assert found.config.lr == found.value["proposal"]["settings"]["lr"]
    assert found.config.num_chains == CONFIG.num_chains
    assert set(found.value["proposal"]["settings"]) >= {"batch_size", "num_burnin_steps"}
    assert found.value["proposal"]["config"] in str(found)
