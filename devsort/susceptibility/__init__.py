"""How a network responds to its data: susceptibilities, influence, the kernel of the losses.

`response` has the equations with their sign and factor, `moments` the sums over draws behind them,
`observe` what is evaluated at the draws of a sampler, and `api` the entry points for any loss.
"""

from devsort.susceptibility.moments import Moments
from devsort.susceptibility.response import Response, correlation, covariance, susceptibility

__all__ = ["Moments", "Response", "correlation", "covariance", "susceptibility"]
