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
# # A small language model, head by head
#
# Two layers of attention learn the characters of Python's own help texts, which every Python
# ships. The LLC of each head, with all other weights frozen, is followed over training.
#
# Run it: `python examples/language.py`. It takes about five minutes on one core.

# %%
import os
from pathlib import Path
from pydoc_data import topics

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

import devsort

SHORT = "DEVSORT_SHORT" in os.environ  # the tests' form: a few steps of everything
OUT = Path(os.environ.get("DEVSORT_OUT", "language"))
WIDTH, HEADS, LENGTH, STEPS = (8, 2, 8, 12) if SHORT else (32, 2, 16, 2000)

# %% [markdown]
# ## The text and the network

# %%
text = "\n".join(topics.topics[name] for name in sorted(topics.topics)).lower()
letters = sorted({c for c in text if c.isascii() and c.isprintable()} | {"\n"})
codes = torch.tensor([letters.index(c) for c in text if c in letters])
sequences = codes[: len(codes) // (LENGTH + 1) * (LENGTH + 1)].view(-1, LENGTH + 1)
rng = torch.Generator().manual_seed(0)
sequences = sequences[torch.randperm(len(sequences), generator=rng)]
train, probe = sequences[1024:], sequences[:1024]


class Attention(nn.Module):
    """Causal attention with one fused weight for queries, keys and values."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        return x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True)
                            .transpose(1, 2).flatten(2))  # fmt: skip


class Model(nn.Module):
    """Logits of the next character."""

    def __init__(self):
        super().__init__()
        self.embed, self.place = nn.Embedding(len(letters), WIDTH), nn.Embedding(LENGTH, WIDTH)
        self.layers = nn.Sequential(Attention(), Attention())
        self.norm, self.unembed = nn.LayerNorm(WIDTH), nn.Linear(WIDTH, len(letters))

    def forward(self, ids):
        x = self.embed(ids) + self.place(torch.arange(ids.shape[1]))
        return self.unembed(self.norm(self.layers(x)))


def token_losses(model, ids):
    """(B, T) losses in nats."""
    return F.cross_entropy(model(ids[:, :-1]).mT, ids[:, 1:], reduction="none")


torch.manual_seed(0)
network = Model()
optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
saved = sorted({round(s) for s in np.geomspace(1 if SHORT else 10, STEPS, 4 if SHORT else 10)})
(OUT / "checkpoints").mkdir(parents=True, exist_ok=True)
for step in range(1, STEPS + 1):
    rows = torch.randint(0, len(train), (64,), generator=rng)
    loss_now = token_losses(network, train[rows]).mean()
    optimizer.zero_grad()
    loss_now.backward()
    optimizer.step()
    if step in saved:
        torch.save(network.state_dict(), OUT / "checkpoints" / f"step-{step}.pt")

# %% [markdown]
# ## One restriction per head
#
# A head is some rows of the fused weight and some columns of the output weight, given by index.

# %%
d = WIDTH // HEADS


def head(layer, h):
    """The weights of one head."""
    rows = [m * WIDTH + h * d + i for m in range(3) for i in range(d)]
    return {
        f"layers.{layer}.qkv.weight": torch.tensor(rows),
        f"layers.{layer}.out.weight": (slice(None), slice(h * d, (h + 1) * d)),
    }


loss, _ = devsort.module_loss(network, token_losses)
config = devsort.SamplerConfig(
    n_beta=1000, batch_size=32, num_draws=6 if SHORT else 100, num_burnin_steps=2 if SHORT else 50
)
trajectory = devsort.llc_trajectory(
    loss,
    OUT / "checkpoints",
    probe,
    config,
    restrictions={f"layer {i} head {h}": head(i, h) for i in range(2) for h in range(HEADS)},
    store=OUT / "llc.zarr",
    options=devsort.Options(device="cpu", chance_loss=float(np.log(len(letters)))),
)
table = devsort.to_dataframe(trajectory)
print(table.pivot(index="step", columns="restriction", values="llc").round(1).to_string())
print(table.groupby("restriction")["flags"].apply(lambda f: (f != "").mean()).rename("flagged"))

# %% [markdown]
# ## Stages

# %%
stages = devsort.find_stages(trajectory)
devsort.stage_chart(trajectory, stages, OUT / "language.png")
for stage in stages["stages"]:
    print(f"{stage['from']:6g} to {stage['to']:6g}: LLC {stage['llc']}, loss {stage['loss']}")

# %% [markdown]
# ![Loss, LLC and LLC of each head over training](language.png)

# %% [markdown]
# ## What was learned
#
# - Entries of a fused weight are restrictions like any other, so heads need no hooks.
# - With all else frozen, the LLC of every head rises from step 105 on. From step 616 on, the heads
#   of layer 0 are ahead of those of layer 1: 33 ± 1 and 32 ± 1 against 24 ± 2 and 21 ± 1 there, and
#   75 ± 2 and 74 ± 3 against 66 ± 2 and 62 ± 1 at step 2000.
# - The LLC of the whole model at the end is 405 ± 3. Late estimates of some heads are flagged
#   `prior_dominated`.
# - One stage is found, from step 18 on; the estimate at step 10 is left out as an outlier. On text
#   this small network learns steadily, without a turning point.
# - Look at the flags before the curves: until step 58 the LLC of the whole model is negative, at
#   steps 10 and 58 with the flag `negative`, because the chain goes on learning what the checkpoint
#   has not learned yet.
