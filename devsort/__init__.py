"""devsort: developmental interpretability with singular learning theory.

The instrument samples and estimates on any network; the laboratory, `devsort.sorting`, is a small
transformer that sorts lists. See docs/architecture.md.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "SamplerConfig": "devsort.sampling",
    "module_loss": "devsort.sampling",
    "sample": "devsort.sampling",
    "estimate": "devsort.llc",
    "check_units": "devsort.llc.units",
    "from_devinterp": "devsort.llc.devinterp",
    "load_trajectory": "devsort.llc.describe",
    "to_dataframe": "devsort.networks.frames",
    "Options": "devsort.networks.trajectory",
    "llc_trajectory": "devsort.networks.trajectory",
    "calibrate": "devsort.networks.calibrate",
    "find_stages": "devsort.networks.stages",
    "stage_chart": "devsort.networks.stages",
    "compare": "devsort.networks.stages",
    "susceptibilities": "devsort.networks.responses",
    "influences": "devsort.networks.responses",
    "explore": "devsort.explorer",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used: `import devsort` stays fast."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'devsort' has no attribute {name!r}")
