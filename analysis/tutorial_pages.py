"""The tutorials and worked examples as pages: text, code, and what the code printed.

python analysis/tutorial_pages.py    # examples/**/*.py → docs/tutorials/*.md
python analysis/tutorial_pages.py grokking --work results    # resumes from a store in results
"""

import argparse
import code
import io
import os
import re
import shutil
import tempfile
from contextlib import redirect_stdout
from pathlib import Path

import jupytext

ROOT = Path(__file__).parents[1]
EXAMPLES = ("grokking", "superposition", "language")
TUTORIALS = ("baseline", "files")


def page(notebook: Path, out: Path) -> str:
    """Runs a notebook and returns it as Markdown; its pictures go to `out`."""
    parts = []
    shell = code.InteractiveInterpreter({"__name__": "__main__"})
    for cell in jupytext.read(notebook).cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        source = cell.source.strip("\n")
        parts.append(f"```python\n{source}\n```")
        if output := _run(shell, cell.source):
            parts.append(f"```text\n{output.rstrip()}\n```")
    text = re.sub(r"\(docs/([\w-]+)\.md\)", r"([\1](../\1.md))", "\n\n".join(parts) + "\n")
    return re.sub(r"\]\(([\w-]+\.png)\)", rf"]({_from_pages(out)}/\1)", text)


def _run(shell: code.InteractiveInterpreter, source: str) -> str:
    with redirect_stdout(io.StringIO()) as output:
        shell.runcode(compile(source, "<cell>", "exec"))
    return output.getvalue()


def _from_pages(figures: Path) -> str:
    return os.path.relpath(figures, ROOT / "docs" / "tutorials")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    names = [*EXAMPLES, *TUTORIALS]
    parser.add_argument("names", nargs="*", default=names, metavar="NAME", help=", ".join(names))
    parser.add_argument("--work", type=Path, help="folder for the results, which is kept")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names:
            write_page(name, Path(args.work or folder) / name)


def write_page(name: str, work: Path) -> None:
    """Writes the page of a notebook, and copies its pictures to those of the docs."""
    os.environ["DEVSORT_OUT"] = str(work)
    inside = "" if name in EXAMPLES else "tutorials"
    figures, target = ROOT / "docs" / "figures", ROOT / "docs" / "tutorials" / f"{name}.md"
    target.write_text(page(ROOT / "examples" / inside / f"{name}.py", figures), encoding="utf-8")
    for picture in work.glob("*.png"):
        shutil.copy(picture, figures)
    print(target)


if __name__ == "__main__":
    main()
