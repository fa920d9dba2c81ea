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
# # Grokking on modular addition
#
# A small network learns a + b mod 31 from four fifths of all pairs. It fits these pairs early and
# the others much later (grokking). What does the local learning coefficient (LLC) do in the
# meantime, and do cheaper measures show the same?
#
# Run it: `python examples/grokking.py`. It takes about three minutes on one core.

# %%
import os
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import devsort

SHORT = "DEVSORT_SHORT" in os.environ  # the tests' form: a few steps of everything
OUT = Path(os.environ.get("DEVSORT_OUT", "grokking"))
P, WIDTH, STEPS = (7, 8, 40) if SHORT else (31, 32, 2000)

# %% [markdown]
# ## The network and its training
#
# Two embeddings are added, and a ReLU layer reads the sum. Training uses AdamW with strong weight
# decay and full batches.

# %%


class Adder(nn.Module):
    """Logits of a + b mod p."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(P, WIDTH)
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.out = nn.Linear(2 * WIDTH, P)

    def forward(self, pairs):
        return self.out(torch.relu(self.up(self.embed(pairs).sum(1))))


def each_loss(model, batch):
    """The loss of each pair, in nats."""
    pairs, sums = batch
    return F.cross_entropy(model(pairs), sums, reduction="none")


torch.manual_seed(0)
pairs = torch.combinations(torch.arange(P), with_replacement=True)  # a + b = b + a
sums = pairs.sum(1) % P
order = torch.randperm(len(pairs))
seen, held_out = order[: int(0.8 * len(order))], order[int(0.8 * len(order)) :]
network = Adder()
optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3, weight_decay=1.0)
saved = sorted({round(10**x) for x in np.linspace(0, np.log10(STEPS), 5 if SHORT else 20)})
log = {"step": [], "train loss": [], "test accuracy": [], "weight norm": []}
(OUT / "checkpoints").mkdir(parents=True, exist_ok=True)
for step in range(1, STEPS + 1):
    loss_now = each_loss(network, (pairs[seen], sums[seen])).mean()
    optimizer.zero_grad()
    loss_now.backward()
    optimizer.step()
    if step in saved:
        torch.save(network.state_dict(), OUT / "checkpoints" / f"step-{step}.pt")
        with torch.no_grad():
            right = (network(pairs[held_out]).argmax(1) == sums[held_out]).float().mean()
            norm = torch.cat([p.flatten() for p in network.parameters()]).norm()
        log["step"].append(step)
        log["train loss"].append(loss_now.item())
        log["test accuracy"].append(float(right))
        log["weight norm"].append(float(norm))

# %% [markdown]
# ## Settings of the sampler
#
# The right inverse temperature and step size depend on the loss, so they are searched on three
# checkpoints rather than guessed. Printing the result gives a table with reasons.

# %%
data = (pairs[seen], sums[seen])
checkpoints = {step: OUT / "checkpoints" / f"step-{step}.pt" for step in saved}
loss, _ = devsort.module_loss(network, each_loss)
options = devsort.Options(device="cpu", chance_loss=float(np.log(P)))
config = devsort.SamplerConfig(batch_size=256, num_draws=6 if SHORT else 100, num_burnin_steps=50)
if SHORT:
    config = config.model_copy(update={"num_burnin_steps": 2})
else:
    late = {step: path for step, path in checkpoints.items() if step >= 10}
    result = devsort.calibrate(loss, late, data, config, options=options)
    print(result)
    # a chain that needs more burn-in takes more by itself
    config = result.config.model_copy(update={"num_burnin_steps": config.num_burnin_steps})

# %% [markdown]
# ## The trajectory
#
# We sample every checkpoint, for the whole network and for its embedding alone. The draws go to a
# store as they are made, so the same call resumes where it stopped.

# %%
trajectory = devsort.llc_trajectory(
    loss,
    checkpoints,
    data,
    config,
    restrictions={"embedding": "embed.*"},
    store=OUT / "llc.zarr",
    options=options,
)
print(devsort.to_dataframe(trajectory)[["step", "restriction", "llc", "se", "flags"]])

# %% [markdown]
# ## Cheap measures for comparison
#
# These are the weight norm and the effective dimension of the embedding, (Σ s²)² / Σ s⁴ of its
# singular values s: how many directions it uses.

# %%


def effective_dimension(step):
    """(Σ s²)² / Σ s⁴ of the embedding at a checkpoint."""
    state = torch.load(checkpoints[step], weights_only=True)
    power = torch.linalg.svdvals(state["embed.weight"]).square()
    return float(power.sum() ** 2 / power.square().sum())


signals = {name: (log["step"], log[name]) for name in ("test accuracy", "weight norm")}
signals["effective dimension"] = (saved, [effective_dimension(step) for step in saved])
half = next((s for s, a in zip(*signals["test accuracy"], strict=True) if a > 0.5), STEPS)

# %% [markdown]
# ## Stages
#
# Boundaries are found from the LLC alone; the step at which half of the held-out pairs are right
# is given as an event.

# %%
stages = devsort.find_stages(trajectory, events={"half of the held-out pairs right": half})
devsort.stage_chart(trajectory, stages, OUT / "grokking.png", signals=signals)
for stage in stages["stages"]:
    span = f"{stage['from']:6g} to {stage['to']:6g}"
    print(f"{span}: LLC {stage['llc']}, {stage['rate']:.0f} per decade")
full = trajectory.llc.sel(restriction="full").values
for name, (_, values) in signals.items():
    rank = np.corrcoef(np.argsort(np.argsort(full)), np.argsort(np.argsort(values)))[0, 1]
    print(f"rank correlation of the LLC with {name}: {rank:+.2f}")

# %% [markdown]
# ![Loss, LLC, LLC of the embedding, test accuracy, weight norm, effective dimension](grokking.png)

# %% [markdown]
# ## What was learned
#
# - The LLC is highest where the training pairs are memorised (242 ± 3 at step 81) and falls while
#   the held-out pairs are learned, to 87 ± 2 at the end; the LLC of the embedding falls
#   from 82 ± 2 to 21 ± 0.4. The network that generalises is the simpler one.
# - The fall begins at step 77, long before half of the held-out pairs are right, which is at step
#   602. The weight norm turns soon after the LLC, but the effective dimension turns only after
#   step 400.
# - Look at the flags of the calibration: at nβ of 3,000 and more, early estimates are negative
#   because the chain goes on learning. Four of the twelve settings had no flag at any checkpoint.
#   Of these, nβ = 300 with γ = 4 has the weakest localization, so it was proposed. There,
#   minibatches of 256 heat the chains by 7 %, so 1024 are proposed. In the trajectory, only three
#   estimates of the whole network are flagged, at steps 1, 2 and 5.
