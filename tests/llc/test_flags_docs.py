"""docs/flags.md tells every flag, and its example prints what it says."""

import re
from pathlib import Path

from devsort.llc import FLAGS

PAGE = (Path(__file__).parents[2] / "docs" / "flags.md").read_text()


def test_every_flag_is_explained_with_a_remedy():
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", PAGE, re.MULTILINE)
    assert [name for name, _, _ in rows] == list(FLAGS)
    assert all(len(seen) > 20 and len(remedy) > 5 for _, seen, remedy in rows)


def test_the_example_prints_what_it_says(capsys):
    code = PAGE.partition("```python\n")[2].partition("```")[0]
    exec(code, {})  # noqa: S102  the text of the documentation
    assert capsys.readouterr().out == "True\n"
    assert code.splitlines()[-1].endswith("# True: the best answer here is a guess")
