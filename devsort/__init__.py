"""devsort: developmental interpretability on a transformer that sorts lists.

The modules in pipeline order: `task` → `model` → `train` → `sampling` → `llc` → `circuits` →
`heads` → `stages` → `charts` → `cli`; `config`, `artifacts` and `errors` stand below all of them.
See docs/architecture.md.
"""

__version__ = "0.1.0"
