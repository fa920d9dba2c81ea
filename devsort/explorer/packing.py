"""Arrays as text: base64 of little-endian numbers, with their type and shape."""

import base64
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

HALF, SINGLE, BYTE = "<f2", "<f4", "|u1"


def packed(values: ArrayLike, kind: str) -> dict[str, Any]:
    """An array for the page.

    Args:
        values: An array of any shape; NaN is allowed.
        kind: HALF (11 bits of precision, up to 65,504), SINGLE or BYTE.

    Raises:
        OverflowError: A number is too large for the kind.
    """
    given = np.asarray(values)
    with np.errstate(over="ignore"):
        stored = given.astype(kind)
    if kind != BYTE and np.isinf(stored).any():
        raise OverflowError(f"{np.nanmax(np.abs(given)):g} does not fit {kind}")
    data = base64.b64encode(np.ascontiguousarray(stored).tobytes()).decode()
    return {"type": kind, "shape": list(stored.shape), "data": data}


def numbers(values: ArrayLike) -> list[float | None]:
    """A list of numbers to six digits; null where one is not finite."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, float)]
