"""The names that `import devsort` offers, and that offering them costs nothing."""

import subprocess
import sys

import devsort


def test_every_public_name_is_there_and_says_what_it_is():
    for name in devsort.__all__:
        found = getattr(devsort, name)
        assert isinstance(found, str) or found.__doc__


def test_importing_devsort_loads_no_library():
    code = (
        "import sys, devsort; print([m for m in ('torch', 'numpy', 'xarray') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n"
