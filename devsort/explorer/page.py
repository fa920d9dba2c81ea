"""The page: one HTML file with its style, script and data, which loads nothing else.

Its content security policy allows only this script, by its hash, and no request. The data are JSON
in an element that is never executed, and only become text.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from devsort import __version__
from devsort.charts import ribbon, style
from devsort.errors import UserError
from devsort.explorer.advice import ADVICE
from devsort.storage.files import write_atomic

MARK = b"<!doctype html>\n<!-- made by devsort explore -->"
SCRIPTS = (
    "dom.js",
    "arrays.js",
    "colours.js",
    "scale.js",
    "state.js",
    "flags.js",
    "chart.js",
    "ribbon.js",
    "heatmap.js",
    "controls.js",
    "tables.js",
    "evidence.js",
    "export.js",
    "responses.js",
)


def write_page(
    out: Path,
    runs: Sequence[Mapping[str, Any]],
    comparison: Mapping[str, Any] | None = None,
    scripts: Sequence[str] = (),
) -> Path:
    """Writes the page; the same arguments give the same bytes.

    Args:
        out: The file; an older page is replaced.
        runs: What is shown of each run: name, frames (steps of the slider), stages, panels, traces,
            responses, about, and what `scripts` read.
        comparison: The JSON object of `devsort compare`, or None.
        scripts: The text of further scripts; each adds a section with `addSection`.

    Raises:
        UserError: The file exists and is not a page of devsort.
    """
    refuse_other(out)
    data = {"version": __version__, "style": look(), "advice": ADVICE, "runs": list(runs)}
    write_atomic(out, page({**data, "comparison": comparison}, scripts).encode())
    return out


def page(data: Mapping[str, Any], scripts: Sequence[str] = ()) -> str:
    """The text of the page."""
    parts = [*map(web, SCRIPTS), *scripts, web("main.js")]
    script = '\n(() => {\n"use strict";\n' + "\n".join(parts) + "\n})();\n"
    css = "\n" + web("style.css")
    return Template(web("page.html")).substitute(
        script=script,
        style=css,
        script_hash=_hash(script),
        style_hash=_hash(css),
        data=harmless(data),
    )


def harmless(data: Mapping[str, Any]) -> str:
    """JSON that cannot contain HTML: every `<`, `>` and `&` is escaped."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def look() -> dict[str, Any]:
    """Colours of the figures."""
    return {
        "palette": style.PALETTE,
        "heads": style.HEADS,
        "flag": style.FLAG,
        "flag_markers": style.FLAG_MARKERS,
        "tint": ribbon.TINT,
        "edge": ribbon.EDGE,
    }


def refuse_other(out: Path) -> None:
    """Raises UserError if `out` is a folder or a file that devsort did not write."""
    if out.is_dir():
        raise UserError(f"{out} is a folder", "give a file with --out")
    if out.is_file() and not out.read_bytes()[: len(MARK)] == MARK:
        raise UserError(f"{out} is a file that devsort did not write", "give another with --out")


def web(name: str) -> str:
    """The text of a file of the page."""
    return files("devsort.explorer").joinpath("web", name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
