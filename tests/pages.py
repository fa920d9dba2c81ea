"""What the explorer's page holds, for tests."""

import base64
from typing import Any

import numpy as np


def unpacked(value: dict[str, Any]) -> np.ndarray:
    """The inverse of `packed`, up to the rounding of its kind."""
    flat = np.frombuffer(base64.b64decode(value["data"]), value["type"])
    return flat.reshape(value["shape"])
