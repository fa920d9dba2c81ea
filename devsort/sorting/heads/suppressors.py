"""The heads of one network that suppress: which numbers, by how much, of which copier, and why.

There is one row per head; docs/head-modes.md lists its keys.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from devsort.sorting.heads.function import head_function
from devsort.sorting.heads.suppression import attention_similarity, qk_similarity
from devsort.sorting.model import Shape, activations
from devsort.sorting.task import Batch

if TYPE_CHECKING:
    import xarray as xr

# the head replaced by its mean output; without its suppression; without a part of that
CHANGES = ("ablated", "rest", "without_own", "without_competitors")


@torch.inference_mode()
def suppressors(
    params: Mapping[str, Tensor], shape: Shape, batch: Batch, one: "xr.Dataset", extent: float
) -> list[dict[str, Any]]:
    """Describes each head that suppresses at least a share `extent` of the numbers.

    Args:
        params: State dict.
        shape: Its dimensions.
        batch: Evaluation lists.
        one: The measurements of this network, see `analysis.dataset`.
        extent: Share of all numbers.
    """
    share = one.suppresses.mean("number").values
    pattern = activations(params, batch.tokens).pattern
    qk = qk_similarity(params, shape)
    rows = []
    for head in np.flatnonzero(share >= extent).tolist():
        own = one.sel(head=head)
        numbers = own.suppresses.values.astype(bool)
        copier = int(one.copy_effect.values[:, numbers].sum(-1).argmax())
        attention = attention_similarity(pattern, batch, torch.from_numpy(numbers))
        rows.append(
            {
                "head": head,
                "copier": copier,
                "share": float(share[head]),
                **_strength(own),
                "attention_similarity": float(attention[head, copier]),
                "qk_similarity": float(qk[head, copier]),
                "changes": changes(params, shape, batch, head),
                "numbers": [_number(own.sel(number=t)) for t in np.flatnonzero(numbers)],
            }
        )
    return rows


def changes(
    params: Mapping[str, Tensor], shape: Shape, batch: Batch, head: int
) -> dict[str, dict[str, float]]:
    """What each of CHANGES adds to loss, accuracy, entropy, confidence and calibration error."""
    conditions = head_function(params, shape, batch, head).conditions
    return {name: conditions[name].less(conditions["whole"]) for name in CHANGES}


def _strength(head: "xr.Dataset") -> dict[str, Any]:
    return {
        "ratio": float(head.lowered_ratio),
        "ratio_ci95": head.lowered_ratio_ci95.values.tolist(),
        "gain": float(head.mean_suppression_gain),
        "gain_ci95": head.mean_suppression_gain_ci95.values.tolist(),
        "z": float(head.suppression_z),
    }


def _number(cell: "xr.Dataset") -> dict[str, Any]:
    effect, spread = float(cell.copy_effect), 1.96 * float(cell.copy_effect_se)
    return {
        "number": int(cell.number),
        "copy_effect": effect,
        "copy_effect_ci95": [effect - spread, effect + spread],
        "ratio": float(cell.copy_ratio),
        "ratio_ci95": cell.copy_ratio_ci95.values.tolist(),
    }
