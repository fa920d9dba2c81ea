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
# # Read the files, plot them
#
# This tutorial is for those who want to analyse a run with their own tools. A run writes plain
# formats: zarr, which xarray reads, and JSON, so no part of devsort is needed to read them. It
# takes a few seconds and needs the results of `make`: `python examples/tutorials/files.py`.

# %%
import json
import os
from pathlib import Path

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

RUN = Path(os.environ.get("DEVSORT_RUN", "runs/baseline"))
OUT = Path(os.environ.get("DEVSORT_OUT", "tutorial"))
OUT.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## llc.zarr: draws and estimates
#
# The file has one estimate for each checkpoint and restriction (the weights that move), and the
# draws behind it.

# %%
llc = xr.open_zarr(RUN / "llc.zarr", consolidated=False)
print(dict(llc.sizes))
full = llc.sel(restriction="full")
table = full[["llc", "se", "rhat", "ess"]].to_dataframe().drop(columns="restriction")
print(table.round(2))

# %% [markdown]
# The LLC is nβ times the mean rise of the loss over the draws, less the heat: what the noise of
# minibatches adds (docs/sampling.md). So it can be computed again from the draws:

# %%
rise = (full.loss - full.init_loss).mean(["chain", "draw"])
again = llc.attrs["sampler"]["n_beta"] * rise - full.heat
print("largest difference:", float(abs(again - full.llc).max().round(3)))

# %% [markdown]
# Which estimates of head 0 are flagged, and why:

# %%
flags = llc["flags"].sel(restriction="h0").to_pandas()
print(flags.loc[flags.any(axis=1), flags.any(axis=0)])

# %% [markdown]
# ## heads.zarr: what the heads do
#
# The file says for each checkpoint, head and number how much the loss on that number rises
# without that head.

# %%
heads = xr.open_zarr(RUN / "heads.zarr", consolidated=False)
last = heads.isel(checkpoint=-1)
need = last.loss_increase.to_pandas().T
need.columns = [f"head {h}" for h in need.columns]
print(need.round(2).head(8))
print(last.scores.to_pandas().round(3))

# %% [markdown]
# ## stages.json: boundaries, stages, events

# %%
stages = json.loads((RUN / "stages.json").read_text())
frame = pd.DataFrame(stages["stages"])
print(frame[["name", "from", "to", "llc", "loss"]])

# %% [markdown]
# ## A plot of your own
#
# The LLC of the whole model and of each head, relative to its largest value, with the boundaries.

# %%
COLOURS = {"full": "#333333", "h0": "#0173b2", "h1": "#de8f05"}  # as in devsort's charts
figure = Figure(figsize=(6, 3), layout="constrained")
ax = figure.subplots()
for name in llc.restriction.values:
    curve = llc.llc.sel(restriction=name)
    label = "whole model" if name == "full" else f"head {name[1:]}"
    ax.plot(llc.checkpoint, curve / curve.max(), "o-", ms=3, color=COLOURS[name], label=label)
for boundary in stages["boundaries"]:
    ax.axvspan(*boundary["ci95"], color="0.85", lw=0)
    ax.axvline(boundary["step"], color="0.5", lw=0.8)
ax.set(xscale="log", xlabel="training step", ylabel="LLC / its maximum", ylim=(-0.1, 1.1))
ax.xaxis.set_major_formatter("{x:g}")
ax.legend(frameon=False)
figure.savefig(OUT / "tutorial-files.png", dpi=150)

# %% [markdown]
# ![LLC of the whole model and of each head relative to their maxima](tutorial-files.png)
