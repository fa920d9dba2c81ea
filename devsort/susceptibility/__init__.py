"""How a network answers to its data: susceptibilities, influence, the kernel of the losses.

`response` has the equations, the sign and the factor; `moments` the sums over draws that they are
made of; `observe` what is evaluated at the draws of a sampler; `api` the entry points for any loss.
"""

from devsort.susceptibility.moments import Moments
from devsort.susceptibility.response import Response, correlation, covariance, susceptibility

__all__ = ["Moments", "Response", "correlation", "covariance", "susceptibility"]
