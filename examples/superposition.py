# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     name: python3
# ---

# %% [markdown]
# # A toy model of superposition
#
# Six features pass through two dimensions and come back: ReLU(Wᵀ W x + b) (arXiv 2310.06301).
# During training the network stays for a while at polygons, and the LLC there is known: where the
# loss is quadratic in all directions except those of symmetries and of inactive features, it is
# half the number of curved directions, which the Hessian counts. A regular hexagon has 12 + 6
# weights and one rotation: (18 − 1) / 2 = 8.5.
#
# Run it: `python examples/superposition.py`. It takes about a minute on one core.

# %%
import os
from pathlib import Path

import numpy as np
import torch

import devsort

SHORT = "DEVSORT_SHORT" in os.environ  # the tests' form: a few steps of everything
OUT = Path(os.environ.get("DEVSORT_OUT", "superposition"))
FEATURES, DIMENSIONS, STEPS = 6, 2, 60 if SHORT else 12_000

# %% [markdown]
# ## The network and its training
#
# In each example one feature has a value between 0 and 1. Here the loss is a plain function of
# named tensors, without a module.

# %%
rng = torch.Generator().manual_seed(1)
values = torch.rand(1500, 1, generator=rng)
x = values * torch.eye(FEATURES)[torch.randint(0, FEATURES, (1500,), generator=rng)]


def each_loss(params, batch):
    """The squared error of each example."""
    hidden = batch @ params["W"].T  # (B, 2)
    back = torch.relu(hidden @ params["W"] + params["b"])
    return (back - batch).square().sum(-1)


params = {"W": 0.3 * torch.randn(DIMENSIONS, FEATURES, generator=rng), "b": torch.zeros(FEATURES)}
saved = sorted(
    {round(10**s) for s in np.linspace(0 if SHORT else 2, np.log10(STEPS), 5 if SHORT else 10)}
)
checkpoints = {}
for step in range(1, STEPS + 1):
    moving = {name: p.clone().requires_grad_() for name, p in params.items()}
    value = each_loss(moving, x).mean()
    gradient = torch.autograd.grad(value, list(moving.values()))
    params = {n: p - 0.1 * g for (n, p), g in zip(params.items(), gradient, strict=True)}
    if step in saved:
        checkpoints[step] = {name: p.clone() for name, p in params.items()}

# %% [markdown]
# ## Sampled and counted
#
# We sample in absolute geometry (docs/units.md), for which the value of a quadratic is known at
# every nβ and γ: Σ ½ nβ h / (nβ h + γ) over the curvatures h of the loss.

# %%
config = devsort.SamplerConfig(
    geometry="absolute",
    sampling_method="baoab",
    n_beta=3000,
    lr=1e-4,
    localization=100,
    num_chains=8,
    num_draws=10 if SHORT else 300,
    num_burnin_steps=2 if SHORT else 200,
    batch_size=128,
)
trajectory = devsort.llc_trajectory(
    each_loss, checkpoints, x, config, store=OUT / "llc.zarr", options=devsort.Options(device="cpu")
)


def quadratic_llc(weights):
    """The LLC of the loss's quadratic approximation at a checkpoint, at these settings."""
    flat = torch.cat([weights["W"].flatten(), weights["b"]]).double()

    def loss_at(w):
        W, b = w[: DIMENSIONS * FEATURES].view(DIMENSIONS, FEATURES), w[DIMENSIONS * FEATURES :]
        return each_loss({"W": W, "b": b}, x.double()).mean()

    h = torch.linalg.eigvalsh(torch.func.hessian(loss_at)(flat)).clamp(min=0)
    return float((config.n_beta * h / (config.n_beta * h + config.localization)).sum() / 2)


full = trajectory.sel(restriction="full")
print(f"{'step':>6} {'loss':>8} {'LLC':>6} {'± SE':>6} {'quadratic':>9}  flags")
for step in checkpoints:
    cell = full.sel(checkpoint=step)
    flags = ", ".join(str(f) for f in full.flag.values[cell["flags"].values])
    known = quadratic_llc(checkpoints[step])
    row = (
        f"{step:6d} {float(cell.checkpoint_loss):8.5f} {float(cell.llc):6.2f} {float(cell.se):6.2f}"
    )
    print(f"{row} {known:9.2f}  {flags}")

# %% [markdown]
# ## Stages

# %%
stages = devsort.find_stages(trajectory)
devsort.stage_chart(trajectory, stages, OUT / "superposition.png", loss_unit="squared error")
for stage in stages["stages"]:
    print(f"{stage['from']:6g} to {stage['to']:6g}: LLC {stage['llc']}")

# %% [markdown]
# ![Loss and LLC of the toy model over training](superposition.png)

# %% [markdown]
# ## What was learned
#
# - The detector gives one rising stage. It leaves out step 100 as an outlier, and ten checkpoints
#   are too few to separate the rise before step 493 from the plateau.
# - From step 840 on the network stays at the hexagon. Six checkpoints give 6.3 to 6.9 ± 0.2, flat
#   within their errors: the LLC sees one solution.
# - Their mean, 6.7, is 8 % below the quadratic value, 7.24. Why was not tested; the
#   loss has kinks (ReLU) and higher orders, which a Hessian does not see.
# - The first two estimates are negative and flagged: the network is not near a minimum there.
# - γ = 100 was chosen after γ = 3, with which the last two estimates were below zero and
#   `not_converged`. The known value changes with γ.
