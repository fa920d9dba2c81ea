"""Checks samplers against known answers.

`formulas` has learning coefficients and exact averages of chains, `quadrature` computes posterior
means at finite nβ and step size, `potentials` has losses with known answers, `cases` has the
settings and tolerances of each check, and `validate` is the command.
"""

from devsort.validation.cases import Case, all_cases
from devsort.validation.potentials import Potential
from devsort.validation.quadrature import Truth
from devsort.validation.validate import check, run_cases

__all__ = ["Case", "Potential", "Truth", "all_cases", "check", "run_cases"]
