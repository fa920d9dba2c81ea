"""Known answers for any sampler.

Formulas, potentials with computable posterior means, and the cases that check ours. `formulas` has
learning coefficients and exact chain averages, `quadrature` posterior means at finite nβ and step
size, `potentials` losses with their truth, `cases` settings and tolerances, `validate` the command.
"""

from devsort.validation.cases import Case, all_cases
from devsort.validation.potentials import Potential
from devsort.validation.quadrature import Truth
from devsort.validation.validate import check, run_cases

__all__ = ["Case", "Potential", "Truth", "all_cases", "check", "run_cases"]
