"""Momentum, size of minibatches and burn-in, proposed from what short chains show.

At the settings that are to be tuned, chains run from w* for STEPS steps without burn-in, at several
momenta. Their second half is taken for the plateau. Checkpoints whose LLC is not clearly positive
are left out.

| setting            | evidence                                                                   |
|--------------------|----------------------------------------------------------------------------|
| `batch_size`, B    | the heat, as a share of λ̂, falls as 1/B. B is doubled while it is over HOT |
|                    | and halved while it stays under COOL                                       |
| `momentum`, c      | examples that an independent draw takes: the relaxation τ, in steps, times |
|                    | the B that this c needs. The heat grows with k = (1 + c)/(1 − c). A c whose |
|                    | λ̂ differs from that of the present c by over APART is left out: unstable   |
| `num_burnin_steps` | what the approach to the plateau adds to the mean of the draws, as a share |
|                    | of λ̂: Σ (rise(t) − plateau) / (draws · plateau), from the end of burn-in   |

A setting changes only where the chains decide: heat and relaxation by ERRORS of their standard
errors, the approach where its own error is below LEFT. Else it is kept.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from devsort.llc.flags import drift_of, drifts
from devsort.llc.settle import HOT
from devsort.llc.uncertainty import mean_of
from devsort.sampling.config import SamplerConfig
from devsort.sampling.trace import Trace

MOMENTA = (0.0, 0.5, 0.7, 0.9)
BURNINS = (10, 20, 50, 100)
CHAINS, STEPS = 4, 300
COOL = 0.01  # share of λ̂: heat below this is not worth larger minibatches
HALVINGS, DOUBLINGS = 2, 4  # of the minibatches, at most
LEFT = 0.02  # share of λ̂ that the start of a chain may add to the mean of the draws
ERRORS = 2
WINDOW = 5  # relaxation times that autocorrelations are summed over
FEWEST = 3  # checkpoints that a momentum is judged by
APART = 0.25  # largest difference of λ̂ between two momenta, beyond ERRORS, as a share of it
POSITIVE = 3  # standard errors that λ̂ is above zero

Traces = Mapping[int, Trace]  # training step → trace


@dataclass(frozen=True)
class Tuned:
    """A proposed setting.

    Attributes:
        name: Name of the setting.
        value: The proposed value.
        reason: One sentence.
    """

    name: str
    value: float
    reason: str


@dataclass(frozen=True)
class Chains:
    """What the chains of one momentum show at one checkpoint.

    Attributes:
        momentum: c.
        step: Training step.
        llc: λ̂ of the plateau.
        se: Its standard error.
        heat: Heat as a share of λ̂.
        heat_se: Its standard error.
        relaxation: τ in steps.
    """

    momentum: float
    step: int
    llc: float
    se: float
    heat: float
    heat_se: float
    relaxation: float


def tries(point: SamplerConfig, base: SamplerConfig) -> list[SamplerConfig]:
    """The settings that chains run at.

    Args:
        point: Has nβ, γ and ε.
        base: Has the momentum and minibatches that are to be changed or kept.
    """
    sgld = base.sampling_method == "sgld"
    momenta = (base.momentum,) if sgld else sorted({*MOMENTA, base.momentum})
    fixed = {"num_burnin_steps": 0, "num_draws": STEPS, "num_steps_bw_draws": 1}
    fixed |= {"num_chains": CHAINS, "batch_size": base.batch_size}
    return [point.model_copy(update={**fixed, "momentum": c}) for c in momenta]


def seen(traces: Mapping[SamplerConfig, Traces]) -> list[Chains]:
    """What the chains show, by momentum and checkpoint."""
    return [
        _seen(config, step, trace)
        for config, by_step in traces.items()
        for step, trace in by_step.items()
    ]


def tuned(base: SamplerConfig, traces: Mapping[SamplerConfig, Traces]) -> list[Tuned]:
    """Momentum (of baoab), size of minibatches and burn-in.

    Args:
        base: The settings that are kept where the chains do not decide.
        traces: Of each of `tries`.
    """
    rows = seen(traces)
    usable = {r.step for r in rows if r.momentum == base.momentum and r.llc > POSITIVE * r.se > 0}
    names = [] if base.sampling_method == "sgld" else ["momentum"]
    names += ["batch_size", "num_burnin_steps"]
    if not usable:
        reason = "kept: λ̂ is not positive at any checkpoint that was tried"
        return [Tuned(name, getattr(base, name), reason) for name in names]
    rows = [row for row in rows if row.step in usable]
    c = _momentum(base, rows)
    chosen = next(by_step for config, by_step in traces.items() if config.momentum == c.value)
    own = [row for row in rows if row.momentum == c.value]
    burnin = _burnin(base, {step: trace for step, trace in chosen.items() if step in usable})
    proposals = {t.name: t for t in (c, _batch(base, own), burnin)}
    return [proposals[name] for name in names]


def _seen(config: SamplerConfig, step: int, trace: Trace) -> Chains:
    rise = _plateau(trace)
    whole = mean_of(rise)
    heating = trace.heating[:, trace.heating.shape[1] // 2 :].astype(np.float64)
    heat = mean_of(heating) if heating.any() else None
    llc = whole.value - (heat.value if heat else 0.0)
    return Chains(
        momentum=config.momentum,
        step=step,
        llc=llc,
        se=whole.se,
        heat=heat.value / llc if heat else 0.0,
        heat_se=heat.se / abs(llc) if heat else 0.0,
        relaxation=relaxation(rise),
    )


def relaxation(draws: np.ndarray) -> float:
    """Integrated autocorrelation time of (C, T) draws, τ = 1 + 2 Σ_{k ≤ M} ρ_k, in draws.

    M is the first lag of at least WINDOW τ (Sokal 1997). Geyer's rule, by which errors are
    computed, stops at the first zero of ρ; chains of much momentum swing beyond it.
    """
    centred = draws - draws.mean()
    length = draws.shape[1]
    lags = [(centred[:, k:] * centred[:, : length - k]).mean() for k in range(length // 2)]
    times = 2 * np.cumsum(lags) / lags[0] - 1  # (T / 2,)
    wide = np.arange(len(times)) >= WINDOW * times
    time = times[np.argmax(wide) if wide.any() else -1]
    return float(max(time, 1 / length))


def _plateau(trace: Trace) -> np.ndarray:
    """(C, STEPS / 2) nβ (L − L(w*)) of the second half."""
    rise = trace.config.n_beta * trace.rise.astype(np.float64)
    return rise[:, rise.shape[1] // 2 :]


def _moves(trace: Trace) -> bool:
    plateau = _plateau(trace)
    return drifts(drift_of(plateau), plateau.mean())


def batch_factor(rows: Sequence[Chains]) -> float:
    """The power of two by which to enlarge the minibatches of these chains; 1 keeps them."""
    most = max(row.heat for row in rows)
    low = max(row.heat - ERRORS * row.heat_se for row in rows)
    high = max(row.heat + ERRORS * row.heat_se for row in rows)
    if low > HOT:
        return 2.0 ** min(DOUBLINGS, math.ceil(math.log2(most / HOT)))
    if 0 < high < COOL:
        return 2.0 ** -min(HALVINGS, math.floor(math.log2(COOL / high)))
    return 1.0


def _batch(base: SamplerConfig, rows: Sequence[Chains]) -> Tuned:
    factor, hottest = batch_factor(rows), max(rows, key=lambda row: row.heat)
    size = max(1, round(base.batch_size * factor))
    heat = f"{hottest.heat:.1%} of λ̂ at step {hottest.step}"
    if size > base.batch_size:
        reason = f"the heat of {base.batch_size} is {heat}, and falls as 1/batch_size: "
        reason += f"{hottest.heat / factor:.1%} is left"
    elif size < base.batch_size:
        reason = f"the heat of {base.batch_size} is at most {heat}: "
        reason += f"{size} leave it at {hottest.heat / factor:.1%}"
    elif hottest.heat == 0:
        reason = "kept: no heat is measured"
    else:
        reason = f"kept: the heat is at most {heat}, neither clearly over {HOT:.0%} nor clearly "
        reason += f"under {COOL:.0%}"
    return Tuned("batch_size", size, reason)


def _momentum(base: SamplerConfig, rows: Sequence[Chains]) -> Tuned:
    """The c at which an independent draw takes the fewest examples, if that is clear."""
    by = {c: [r for r in rows if r.momentum == c] for c in sorted({r.momentum for r in rows})}
    present = by.pop(base.momentum)
    if len(present) < FEWEST:
        return Tuned("momentum", base.momentum, f"kept: it takes {FEWEST} checkpoints to tell")
    stable = {c: some for c, some in by.items() if _agree(some, present)}
    if not stable:
        return Tuned("momentum", base.momentum, "kept: at all others λ̂ differs")
    own = _log_examples(present)
    others = {c: _ratio(_log_examples(some) - own) for c, some in stable.items()}
    better = {c: log for c, (log, se) in others.items() if log + ERRORS * se < 0}
    ratios = ", ".join(
        f"{c:g}: {math.exp(log):.2g} ± {math.exp(log) * se:.1g}" for c, (log, se) in others.items()
    )
    what = f"examples an independent draw takes, over those at {base.momentum:g}: {ratios}"
    if better:
        return Tuned("momentum", min(better, key=better.__getitem__), what)
    return Tuned("momentum", base.momentum, f"kept, none is clearly better: {what}")


def _agree(rows: Sequence[Chains], present: Sequence[Chains]) -> bool:
    """Whether λ̂ is the same at two momenta, within errors or APART of it, at every checkpoint."""
    return all(
        abs(a.llc - b.llc) <= max(ERRORS * math.hypot(a.se, b.se), APART * abs(b.llc))
        for a, b in zip(rows, present, strict=True)
    )


def _log_examples(rows: Sequence[Chains]) -> np.ndarray:
    """log of τ times the factor of the minibatches, by checkpoint."""
    return np.log(batch_factor(rows) * np.array([row.relaxation for row in rows]))


def _ratio(logs: np.ndarray) -> tuple[float, float]:
    """Mean and standard error; NaN, which decides nothing, where a chain died."""
    return float(logs.mean()), float(logs.std(ddof=1) / math.sqrt(len(logs)))


def _burnin(base: SamplerConfig, traces: Traces) -> Tuned:
    """The shortest burn-in after which, at every checkpoint, little of the start is left."""
    name, kept = "num_burnin_steps", base.num_burnin_steps
    if moving := [step for step, trace in traces.items() if _moves(trace)]:
        where = ", ".join(map(str, moving))
        reason = f"kept: chains of {STEPS} steps still drift at step {where}; a chain that needs "
        return Tuned(name, kept, reason + "more burn-in gets it")
    tried = [b for b in BURNINS if b < STEPS // 2]
    left = {b: [_left(trace, b, base.num_draws) for trace in traces.values()] for b in tried}
    if max(error for some in left.values() for _, error in some) > LEFT:
        reason = f"kept: the chains cannot tell {LEFT:.0%} of λ̂ from their own noise"
        return Tuned(name, kept, reason)
    short = [b for b, some in left.items() if any(abs(share) > LEFT for share, _ in some)]
    start = next((b for b in tried if b > max(short, default=0)), None)
    if start is None:
        reason = f"kept: after {tried[-1]} steps the start still adds over {LEFT:.0%}"
        return Tuned(name, kept, reason)
    most, error = max(left[start], key=lambda pair: abs(pair[0]))
    reason = f"what is left of the start adds {most:+.1%} ± {error:.1%} to the mean of "
    return Tuned(name, start, reason + f"{base.num_draws} draws, at most")


def _left(trace: Trace, burnin: int, draws: int) -> tuple[float, float]:
    """What the start adds to the mean of the draws after this burn-in, over λ̂, and its error."""
    rise = trace.config.n_beta * trace.rise.astype(np.float64)
    level = mean_of(_plateau(trace))
    half = rise.shape[1] // 2
    approach = rise[:, burnin:half] - level.value
    length = approach.shape[1]
    error = level.se * math.sqrt(1 + half / length)  # of stationary chains
    scale = length / (draws * level.value)
    return float(scale * approach.mean()), scale * error
