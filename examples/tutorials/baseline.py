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
# # From checkpoints to stages, in pieces
#
# This tutorial is for newcomers to devsort. `make` does all of this in one go; here each step
# stands alone: a checkpoint, its loss, one LLC, the trajectory, the heads, the stages. It needs
# the results of `make` in `runs/baseline` and takes about a minute. Run it from the folder of the
# repository: `python examples/tutorials/baseline.py`.
#
# Names from `devsort.sorting` belong to the laboratory, the small sorting network. They are not
# public and may change. For a network of your own you need none of them.

# %%
import os
from pathlib import Path

import devsort
from devsort.sorting.artifacts import HEADS
from devsort.sorting.checkpoints import load_checkpoint, sampled_steps
from devsort.sorting.geometry import sorter_blocks
from devsort.sorting.heads.step import stored_events
from devsort.sorting.model import forward, losses, model_shape
from devsort.sorting.run import open_run
from devsort.sorting.task import eval_batch, sampling_set

SHORT = "DEVSORT_SHORT" in os.environ  # the tests' form: few draws
OUT = Path(os.environ.get("DEVSORT_OUT", "tutorial"))
OUT.mkdir(parents=True, exist_ok=True)
run = open_run(os.environ.get("DEVSORT_RUN", "runs/baseline"))
task = run.config.task

# %% [markdown]
# ## A checkpoint
#
# Training saves the weights more often early than late. A checkpoint is a dict of named tensors.
# We take the one where the LLC is largest.

# %%
trajectory = devsort.load_trajectory(run.path)
full = trajectory.sel(restriction="full")
step = int(full.llc.idxmax("checkpoint"))
params = load_checkpoint(run, step)
print(f"{len(run.steps())} saved, {len(sampled_steps(run))} sampled; this one: step {step}")
for name, tensor in params.items():
    print(f"  {name:22} {tuple(tensor.shape)}")

# %% [markdown]
# ## What the network does there
#
# A list, a separator, and then the sorted list, one answer after the other. The loss is the
# cross-entropy of the right number, in nats.

# %%
lists = eval_batch(task, 3)
answers = forward(params, lists.tokens).argmax(-1)  # (B, L)
for given, answer in zip(lists.tokens[:, : task.list_length], answers, strict=True):
    print(given.tolist(), "→", answer.tolist())

# %% [markdown]
# ## One LLC
#
# `sample` walks around the weights and records losses. `estimate` turns them into the LLC. All
# that it needs is a loss per example, a function of named tensors and a batch. `blocks` says
# which weights share a scale: here each head of an attention weight has its own.

# %%
data = sampling_set(task, run.config.llc.dataset_size)


def loss(weights, batch):
    """The loss of each list (B,)."""
    return losses(weights, *batch)


config = run.config.llc.sampler
if SHORT:
    config = config.model_copy(update={"num_draws": 8, "num_burnin_steps": 4})
blocks = sorter_blocks(model_shape(task, run.config.model))
trace = devsort.sample(loss, params, (data.tokens, data.targets), config, blocks=blocks)
found = devsort.estimate(trace)
print(f"here:   LLC {found.llc:.1f} ± {found.se:.1f}, R-hat {found.rhat:.2f} {found.flags}")
stored = full.sel(checkpoint=step)
print(f"stored: LLC {float(stored.llc):.1f} ± {float(stored.se):.1f}")

# %% [markdown]
# Both are the same estimate, with different random numbers. The stored one was made by `devsort
# llc`, whose kernels are written for this network and are faster.
#
# ## The trajectory
#
# `devsort llc` does the same for each sampled checkpoint, for the whole model and for each head
# alone.

# %%
table = devsort.to_dataframe(trajectory).query("restriction == 'full'")
print(table[["step", "llc", "se", "loss", "flags"]].round(2).to_string(index=False))

# %% [markdown]
# ## The heads
#
# `devsort heads` asks at every saved checkpoint which head copies and which is needed, and dates
# events.

# %%
events = stored_events(run.read(HEADS))
for event in events:
    print(event["event"], "at step", event["step"], "between", event["ci95"])

# %% [markdown]
# ## The stages
#
# Boundaries come from the LLC alone. The events are then placed among them.

# %%
dated = {event["event"]: (event["step"], tuple(event["ci95"])) for event in events}
stages = devsort.find_stages(trajectory, run.config.stages, events=dated)
for stage in stages["stages"]:
    print(f"{stage['from']:6.0f} to {stage['to']:6.0f}: LLC {stage['llc']}")
for event in stages["events"]:
    print(f"{event['event']}: {event['boundary_distance_log10']:.2f} decades from a boundary")

# %% [markdown]
# ## The chart

# %%
devsort.stage_chart(trajectory, stages, OUT / "tutorial-baseline.png")

# %% [markdown]
# ![The stages of the run over its loss and LLC](tutorial-baseline.png)
#
# `devsort stages` also names the stages, by rules on the LLC, the loss and the heads.
