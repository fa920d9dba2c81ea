"""The tutorials as pages: text, code, and what the code printed.

python analysis/tutorial_pages.py    # examples/tutorials/*.py → docs/tutorials/*.md
"""

import argparse
import code
import io
import os
import shutil
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import jupytext

ROOT = Path(__file__).parents[1]


def page(notebook: Path, out: Path) -> str:
    """The notebook as Markdown; it is run, and its pictures go to `out`."""
    parts = []
    shell = code.InteractiveInterpreter({"__name__": "__main__"})
    for cell in jupytext.read(notebook).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        if printed := _run(shell, cell.source):
            parts.append(f"```text\n{printed.rstrip()}\n```")
    return "\n\n".join(parts).replace("](tutorial-", f"]({_seen_from(out)}/tutorial-") + "\n"


def _run(shell: code.InteractiveInterpreter, source: str) -> str:
    with redirect_stdout(io.StringIO()) as printed:
        shell.runcode(compile(source, "<cell>", "exec"))
    return printed.getvalue()


def _seen_from(figures: Path) -> str:
    return os.path.relpath(figures, ROOT / "docs" / "tutorials")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["baseline", "files"])
    figures = ROOT / "docs" / "figures"
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DEVSORT_OUT"] = folder
        for name in parser.parse_args().names:
            text = page(ROOT / "examples" / "tutorials" / f"{name}.py", figures)
            written = ROOT / "docs" / "tutorials" / f"{name}.md"
            written.write_text(text, encoding="utf-8")
            print(written)
        for picture in Path(folder).glob("*.png"):
            shutil.copy(picture, figures)


if __name__ == "__main__":
    main()
