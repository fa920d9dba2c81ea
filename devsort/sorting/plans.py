"""Plans of planted networks: what each head is made to do, drawn at random."""

from dataclasses import dataclass

import numpy as np

KINDS = ("single", "split", "split-by-attention", "regions", "regions-by-attention", "overlap",
         "suppression", "three", "four", "eight")  # fmt: skip
# nats of noise on the scores of suppressed copiers: it makes 1 to 3 % of the answers wrong
ERRORS = 0.7


@dataclass(frozen=True)
class Plan:
    """What each head is made to do.

    Attributes:
        strength: (H, N), multiples of the embedding's length.
        by_attention: Heads differ in what they attend to rather than in what they copy.
        errors: (N + 1, N), nats added to every head's scores for larger numbers, or None.
    """

    strength: np.ndarray
    by_attention: bool = False
    errors: np.ndarray | None = None

    @property
    def copies(self) -> np.ndarray:
        """(H, N) bool: the head raises this number."""
        return self.strength > 0

    @property
    def suppresses(self) -> np.ndarray:
        """(H, N) bool: the head lowers this number, which another head copies."""
        return (self.strength < 0) & self.copies.any(0)

    @property
    def needed(self) -> np.ndarray:
        """(H, N) bool: no other head copies this number."""
        return self.copies & (self.copies.sum(0) == 1)

    @property
    def labels(self) -> list[str]:
        """The labels that describe the plan, in the order of `heads.LABELS`."""
        shared = (self.copies.sum(0) > 1).mean()
        owners = self.needed.any(1).sum()
        holds = {
            "overlapping": shared > 0,
            "vocabulary-splitting": owners > 1 and shared == 0,
            "copy-suppression": self.suppresses.any(),
        }
        return [label for label, applies in holds.items() if applies]


def draw_plan(kind: str, numbers: int, rng: np.random.Generator) -> Plan:
    """Draws a plan of one of KINDS: ranges, strengths and the order of the heads are random."""
    kind, _, suffix = kind.partition("-by-")
    strength = _ROLES[kind](numbers, rng) * rng.uniform(4, 6)
    strength *= rng.uniform(0.9, 1.1, strength.shape)
    strength = rng.permutation(strength)
    return Plan(strength, bool(suffix), _errors(strength, rng))


def draw_suppressor(ratio: float, numbers: int, rng: np.random.Generator) -> Plan:
    """A copier of all numbers, and a head that subtracts `ratio` of it on a random range."""
    copier = rng.uniform(4, 6) * rng.uniform(0.9, 1.1, numbers)
    strength = rng.permutation(np.stack([copier, -ratio * copier * _range(numbers, rng)]))
    return Plan(strength, errors=_errors(strength, rng))


def _cuts(parts: int, numbers: int, rng: np.random.Generator, shortest: int) -> np.ndarray:
    """Sizes of `parts` neighbouring ranges, none shorter than `shortest`."""
    spare = rng.multinomial(numbers - parts * shortest, rng.dirichlet(np.full(parts, 3.0)))
    return np.repeat(np.arange(parts), shortest + spare)


def _owned(owner: np.ndarray, heads: int) -> np.ndarray:
    return (owner == np.arange(heads)[:, None]).astype(float)


def _single(numbers: int, rng: np.random.Generator) -> np.ndarray:
    return np.ones((1, numbers))


def _split(numbers: int, rng: np.random.Generator) -> np.ndarray:
    return _owned(_cuts(2, numbers, rng, numbers // 6), 2)


def _regions(numbers: int, rng: np.random.Generator) -> np.ndarray:
    parts = int(rng.integers(3, 7))
    return _owned(_cuts(parts, numbers, rng, 4) % 2, 2)


def _overlap(numbers: int, rng: np.random.Generator) -> np.ndarray:
    low, high = rng.integers(0, int(0.15 * numbers) + 1, 2)
    t = np.arange(numbers)
    return np.stack([t < numbers - high, t >= low]).astype(float)


def _range(numbers: int, rng: np.random.Generator) -> np.ndarray:
    """1 on a random range of a fifth to half of the numbers, 0 elsewhere."""
    width = int(rng.integers(numbers // 5, numbers // 2))
    start = int(rng.integers(0, numbers - width + 1))
    t = np.arange(numbers)
    return ((t >= start) & (t < start + width)).astype(float)


def _suppressor(numbers: int, rng: np.random.Generator) -> np.ndarray:
    return -rng.uniform(0.2, 0.35) * _range(numbers, rng)


def _errors(strength: np.ndarray, rng: np.random.Generator) -> np.ndarray | None:
    _, numbers = strength.shape
    suppressed = (strength < 0).any()
    return ERRORS * rng.standard_normal((numbers + 1, numbers)) if suppressed else None


def _suppression(numbers: int, rng: np.random.Generator) -> np.ndarray:
    return np.stack([np.ones(numbers), _suppressor(numbers, rng)])


def _three(numbers: int, rng: np.random.Generator) -> np.ndarray:
    return np.vstack([_split(numbers, rng), _suppressor(numbers, rng)])


def _four(numbers: int, rng: np.random.Generator) -> np.ndarray:
    return np.vstack([_three(numbers, rng), np.zeros(numbers)])


def _eight(numbers: int, rng: np.random.Generator) -> np.ndarray:
    return _owned(_cuts(8, numbers, rng, 3), 8)


_ROLES = {
    "single": _single,
    "split": _split,
    "regions": _regions,
    "overlap": _overlap,
    "suppression": _suppression,
    "three": _three,
    "four": _four,
    "eight": _eight,
}
