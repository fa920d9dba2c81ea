"""An LLC table and head-mode scores with the names of the pipeline's artifacts and known curves."""

import numpy as np
import xarray as xr
from scipy.stats import t as student

STEPS = np.unique(np.round(np.geomspace(1, 6000, 44))).astype(int)
EVENTS = [{"event": "split_onset", "step": 700, "ci95": [600, 800], "share": 1.0}]


def llc_table(
    edges=(1, 30, 300, 6000), levels=(20.0, 20.0, 900.0, 300.0), noise=0.03, seed=0
) -> xr.Dataset:
    """The whole model follows lines between (edges, levels); h0 has 60 % of it and h1 30 %.

    Four chains each, with the intervals of Student's t.
    """
    rng = np.random.default_rng(seed)
    full = np.interp(np.log10(STEPS), np.log10(edges), levels)
    parts = np.stack([full, 0.6 * full, 0.3 * full], 1)  # (checkpoint, restriction)
    chains = parts[..., None] * (1 + 2 * noise * rng.standard_normal((*parts.shape, 4)))
    flags = np.zeros((*parts.shape, 2), bool)
    flags[3, 0, 1] = True
    dims = ("checkpoint", "restriction")
    llc, se = chains.mean(-1), chains.std(-1, ddof=1) / 2
    half = student.ppf(0.975, 6) * se
    return xr.Dataset(
        {
            "llc": (dims, llc),
            "se": (dims, se),
            "ci95": ((*dims, "bound"), np.stack([llc - half, llc + half], -1)),
            "llc_chain": ((*dims, "chain"), chains),
            "flags": ((*dims, "flag"), flags),
            "checkpoint_loss": (
                "checkpoint",
                np.interp(np.log10(STEPS), np.log10([1, 30, 300, 6000]), [4, 3.9, 0.05, 0.04]),
            ),
        },
        coords={
            "checkpoint": STEPS,
            "restriction": ["full", "h0", "h1"],
            "flag": ["diverged", "drift"],
            "bound": ["low", "high"],
        },
    )


def head_scores() -> xr.Dataset:
    """The split sets in at step 700, overlap ends there."""
    split = 1 / (1 + np.exp(-(np.log10(STEPS) - np.log10(700)) / 0.1))
    values = np.stack([split, 0 * split, 1 - split], 1)
    names = ["vocabulary_splitting", "copy_suppression", "overlap"]
    return xr.Dataset(
        {"scores": (("checkpoint", "score"), values)}, coords={"checkpoint": STEPS, "score": names}
    )
