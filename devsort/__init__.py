"""devsort: developmental interpretability with singular learning theory.

The instrument samples and analyses any network. The laboratory, `devsort.sorting`, is a small
transformer that learns to sort lists. See docs/architecture.md.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the same names as in _PUBLIC, for editors and type checkers
    from devsort.errors import UserError as UserError
    from devsort.explorer import explore as explore
    from devsort.llc import Estimate as Estimate
    from devsort.llc.describe import load_trajectory as load_trajectory
    from devsort.llc.devinterp import Imported as Imported
    from devsort.llc.devinterp import from_devinterp as from_devinterp
    from devsort.llc.estimate import estimate as estimate
    from devsort.llc.units import check_units as check_units
    from devsort.networks.calibrate import Calibration as Calibration
    from devsort.networks.calibrate import calibrate as calibrate
    from devsort.networks.frames import to_dataframe as to_dataframe
    from devsort.networks.responses import influences as influences
    from devsort.networks.responses import response_trajectory as response_trajectory
    from devsort.networks.responses import susceptibilities as susceptibilities
    from devsort.networks.stages import compare as compare
    from devsort.networks.stages import find_stages as find_stages
    from devsort.networks.stages import stage_chart as stage_chart
    from devsort.networks.trajectory import Options as Options
    from devsort.networks.trajectory import llc_trajectory as llc_trajectory
    from devsort.sampling import SamplerConfig as SamplerConfig
    from devsort.sampling import Trace as Trace
    from devsort.sampling import module_loss as module_loss
    from devsort.sampling import sample as sample
    from devsort.sampling.geometry import Block as Block
    from devsort.stages import Trajectory as Trajectory
    from devsort.stages import read_csv as read_csv
    from devsort.susceptibility.api import Responses as Responses

__version__ = "0.1.0"

_PUBLIC = {
    "UserError": "devsort.errors",
    "SamplerConfig": "devsort.sampling",
    "Trace": "devsort.sampling",
    "Block": "devsort.sampling.geometry",
    "module_loss": "devsort.sampling",
    "sample": "devsort.sampling",
    "estimate": "devsort.llc",
    "Estimate": "devsort.llc",
    "check_units": "devsort.llc.units",
    "Imported": "devsort.llc.devinterp",
    "from_devinterp": "devsort.llc.devinterp",
    "load_trajectory": "devsort.llc.describe",
    "to_dataframe": "devsort.networks.frames",
    "Options": "devsort.networks.trajectory",
    "llc_trajectory": "devsort.networks.trajectory",
    "Calibration": "devsort.networks.calibrate",
    "calibrate": "devsort.networks.calibrate",
    "find_stages": "devsort.networks.stages",
    "stage_chart": "devsort.networks.stages",
    "compare": "devsort.networks.stages",
    "Trajectory": "devsort.stages",
    "read_csv": "devsort.stages",
    "susceptibilities": "devsort.networks.responses",
    "influences": "devsort.networks.responses",
    "response_trajectory": "devsort.networks.responses",
    "Responses": "devsort.susceptibility.api",
    "explore": "devsort.explorer",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Loads a public name when it is first used, so that `import devsort` stays fast."""
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'devsort' has no attribute {name!r}")
