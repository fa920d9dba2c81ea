"""What copy-suppression is for: what changes without a head, or without its suppression.

Six networks are compared on the same lists: the whole one; the head replaced by its mean output
(`ablated`); the head reduced to its suppression (`suppression`), see `heads.suppression`; the head
without its suppression (`rest`); and the head without its suppression of the answer only
(`without_own`), or of the answer's competitors only (`without_competitors`). As in McDougall et
al. 2023 (arXiv 2310.04625), the head's effect is the rise of the loss when it is ablated, and the
share of it that `suppression` keeps is
1 − (loss of `suppression` − loss) / (loss of `ablated` − loss).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from devsort.sorting.heads.measures import answer_loss, direct_effect, residual, scale
from devsort.sorting.heads.suppression import written
from devsort.sorting.model import Shape, activations, unembed
from devsort.sorting.task import Batch

CONDITIONS = ("whole", "ablated", "suppression", "rest", "without_own", "without_competitors")
BINS = 15  # of equal width in confidence, as usual for calibration error (Guo et al. 2017)


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram: answers binned by confidence.

    Confidence is the probability of the most likely number.

    Attributes:
        count: (BINS,), answers in a bin.
        confidence: (BINS,), their mean confidence; NaN in an empty bin.
        accuracy: (BINS,), share of them that are correct; NaN in an empty bin.
    """

    count: np.ndarray
    confidence: np.ndarray
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """Expected calibration error Σ count · |accuracy − confidence| / Σ count."""
        full = self.count > 0
        gap = np.abs(self.accuracy - self.confidence)[full]
        return float((self.count[full] * gap).sum() / self.count.sum())


@dataclass(frozen=True)
class Condition:
    """How a network answers: means over answers, with loss and entropy in nats, and calibration."""

    loss: float
    accuracy: float
    entropy: float
    confidence: float
    reliability: Reliability

    @property
    def values(self) -> dict[str, float]:
        """All values by name."""
        names = ("loss", "accuracy", "entropy", "confidence")
        numbers = {name: getattr(self, name) for name in names}
        return numbers | {"calibration_error": self.reliability.error}

    def less(self, other: "Condition") -> dict[str, float]:
        """Each value minus that of another condition."""
        return {name: value - other.values[name] for name, value in self.values.items()}


@dataclass(frozen=True)
class Function:
    """What one head does for the network.

    Attributes:
        head: Index of the head.
        conditions: By name, in the order of CONDITIONS.
        kept: Share of the head's effect on the loss that suppression alone keeps; NaN if the effect
            is below 1e-6 nats.
        self_repair: (H,), what each other head's direct effect on the answer gains in logits when
            this head is ablated. In one layer no head reads another's output, so all of it comes
            through the scale of the final layer norm.
    """

    head: int
    conditions: dict[str, Condition]
    kept: float
    self_repair: np.ndarray


@torch.inference_mode()
def head_function(params: Mapping[str, Tensor], shape: Shape, batch: Batch, head: int) -> Function:
    """Compares the whole network with one in which a head is ablated or reduced to a part."""
    act = activations(params, batch.tokens)
    resid = residual(params, act)
    output = act.head_out[:, head]  # (B, L, D)
    mean = output.mean((0, 1))
    part = written(params, shape, act.pattern[:, head], batch, head)
    without_head = resid - output + mean
    streams = (
        resid,
        without_head,
        without_head + part.whole,
        resid - part.whole,
        resid - part.own,
        resid - part.competitors,
    )
    results = (condition(unembed(params, stream), batch.targets) for stream in streams)
    conditions = dict(zip(CONDITIONS, results, strict=True))
    effect = conditions["ablated"].loss - conditions["whole"].loss
    remaining = conditions["suppression"].loss - conditions["whole"].loss
    direct = direct_effect(
        params, shape, act.head_out - act.head_out.mean((0, 2), keepdim=True), batch
    )
    gain = direct / scale(without_head, shape)[:, None] - direct / scale(resid, shape)[:, None]
    repair = gain.mean((0, 2)).cpu().numpy()
    repair[head] = 0.0
    return Function(
        head, conditions, 1 - remaining / effect if abs(effect) > 1e-6 else float("nan"), repair
    )


def condition(logits: Tensor, targets: Tensor) -> Condition:
    """Loss, accuracy, entropy, confidence and calibration of logits (B, L, V)."""
    log_p = logits.log_softmax(-1)
    p, guess = log_p.exp().max(-1)
    right = guess == targets
    return Condition(
        answer_loss(logits, targets).mean().item(),
        right.float().mean().item(),
        -(log_p.exp() * log_p).sum(-1).mean().item(),
        p.mean().item(),
        reliability(p.flatten().cpu().numpy(), right.flatten().cpu().numpy()),
    )


def reliability(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> Reliability:
    """Bins answers by confidence in (0, 1].

    `right` says whether the most likely number was the answer.
    """
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    filled = np.where(count > 0, count, np.nan)
    sums = (
        np.bincount(place, weights=x.astype(float), minlength=bins) for x in (confidence, right)
    )
    return Reliability(count, *(s / filled for s in sums))
