"""Arrays as text: base64 of little-endian numbers, with their type and shape."""

import base64
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

HALF, SINGLE, BYTE = "<f2", "<f4", "|u1"
LARGEST_HALF = float(np.finfo(np.float16).max)


def packed(values: ArrayLike, kind: str) -> dict[str, Any]:
    """An array for the page.

    Args:
        values: Of any shape; NaN is kept.
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


def unpacked(value: dict[str, Any]) -> np.ndarray:
    """The inverse of `packed`, up to the rounding of its kind."""
    flat = np.frombuffer(base64.b64decode(value["data"]), value["type"])
    return flat.reshape(value["shape"])


def numbers(values: ArrayLike) -> list[float | None]:
    """A list of numbers to six digits; null where one is not finite."""
    return [float(f"{v:.6g}") if np.isfinite(v) else None for v in np.asarray(values, float)]
