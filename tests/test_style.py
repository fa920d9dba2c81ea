"""The package keeps its own rules; a violation is told in words that say what to do."""

import ast
import statistics
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "devsort"
MAX_FILE, MAX_BODY, MEDIAN_BODY, MAX_ARGUMENTS = 300, 60, 10, 8

# The pipeline order of docs/architecture.md. A module imports modules of earlier lines only.
ORDER = [
    ("errors",),
    ("rng", "progress", "threads", "processes", "files", "yaml_files"),
    ("config", "weights"),
    ("artifacts",),
    ("checkpoints", "task"),
    ("model", "layout"),
    ("kernels",),
    ("train",),
    ("sampling",),
    ("llc",),
    ("validation", "bench"),
    ("circuits",),
    ("heads", "planted"),
    ("stages",),
    ("charts", "status", "refusals"),
    ("sweep",),
    ("cli",),
]
RANK = {module: rank for rank, line in enumerate(ORDER) for module in line}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Check = Callable[[str, str], Iterator[str]]


def functions(text: str) -> list[Function]:
    """All functions and methods of a source text, nested ones included."""
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, Function)]


def body_lines(function: Function) -> int:
    """Lines of a body, from its first statement after the docstring to its last."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def too_long_files(name: str, text: str) -> Iterator[str]:
    lines = len(text.splitlines())
    if lines > MAX_FILE:
        yield f"{name} has {lines} lines, at most {MAX_FILE} are allowed: move a part that has a name out of it"


def too_long_functions(name: str, text: str) -> Iterator[str]:
    for f in functions(text):
        if body_lines(f) > MAX_BODY:
            yield (
                f"{name}:{f.lineno}: the body of {f.name} has {body_lines(f)} lines, at most {MAX_BODY} are allowed: "
                "split it into named functions"
            )


def too_many_arguments(name: str, text: str) -> Iterator[str]:
    for f in functions(text):
        a = f.args
        given = [*a.posonlyargs, *a.args, *a.kwonlyargs]
        count = len([g for g in given if g.arg not in ("self", "cls")])
        if count > MAX_ARGUMENTS:
            yield (
                f"{name}:{f.lineno}: {f.name} takes {count} arguments, at most {MAX_ARGUMENTS} are allowed: "
                "put settings into a config object"
            )


def imports_against_the_order(name: str, text: str) -> Iterator[str]:
    module = name.removeprefix("devsort/").removesuffix(".py").partition("/")[0]
    if module == "__init__":
        return
    if module not in RANK:
        yield f"{name} has no place in the pipeline: add {module} to ORDER in tests/test_style.py"
        return
    for line, target in imported_modules(text):
        if target not in RANK:
            yield f"{name}:{line}: imports {target}, which has no place in the pipeline: add it to ORDER"
        elif target != module and RANK[target] >= RANK[module]:
            yield (
                f"{name}:{line}: {module} imports {target}, which is no earlier module: move what it needs into one"
            )


def imported_modules(text: str) -> Iterator[tuple[int, str]]:
    """Line and top-level module of every import from devsort, wherever it stands.

    Names in devsort itself are none.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "devsort":
            dotted = [
                f"devsort.{alias.name}" for alias in node.names if not alias.name.startswith("__")
            ]
        elif isinstance(node, ast.ImportFrom):
            dotted = [node.module or ""]
        else:
            continue
        yield from ((node.lineno, d.split(".")[1]) for d in dotted if d.startswith("devsort."))


# attributes of these modules that draw from, or set, a generator that all code shares
SHARED = {"np.random": {"default_rng", "Generator", "SeedSequence", "PCG64"}, "random": set()}


def shared_randomness(name: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Attribute):
            continue
        owner = ast.unparse(node.value)
        if (owner in SHARED and node.attr not in SHARED[owner]) or (owner, node.attr) == (
            "torch",
            "manual_seed",
        ):
            yield (
                f"{name}:{node.lineno}: {owner}.{node.attr} uses a generator that all code shares: "
                "draw from devsort.rng.stream"
            )


def unsafe_readers(name: str, text: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        safe = any(
            k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords
        )
        if called in ("pickle.load", "pickle.loads", "yaml.load", "eval", "exec") or (
            called == "torch.load" and not safe
        ):
            yield f"{name}:{node.lineno}: {called} can run what a file holds: use devsort.storage.artifacts or a safe loader"


CHECKS = [
    too_long_files,
    too_long_functions,
    too_many_arguments,
    imports_against_the_order,
    shared_randomness,
    unsafe_readers,
]


def sources() -> dict[str, str]:
    """Text of every module, under its path from the project root."""
    return {
        str(p.relative_to(PACKAGE.parent)): p.read_text() for p in sorted(PACKAGE.rglob("*.py"))
    }


@pytest.mark.parametrize("check", CHECKS, ids=lambda c: c.__name__)
def test_the_package_keeps_the_rule(check):
    found = [message for name, text in sources().items() for message in check(name, text)]
    assert not found, "\n" + "\n".join(found)


def test_functions_are_small():
    lengths = [body_lines(f) for text in sources().values() for f in functions(text)]
    median = statistics.median(lengths)
    assert median <= MEDIAN_BODY, (
        f"half of the functions have more than {median} lines, {MEDIAN_BODY} are allowed"
    )


def body(lines: int) -> str:
    return "def f():\n    '''Says.\n\n    More.\n    '''\n" + "    x = 1\n" * lines


VIOLATIONS = {
    "file": (
        too_long_files,
        "x = 1\n" * 301,
        "devsort/task.py has 301 lines, at most 300 are allowed: move a part that has a name out of it",
    ),
    "function": (
        too_long_functions,
        body(61),
        "devsort/task.py:1: the body of f has 61 lines, at most 60 are allowed: split it into named functions",
    ),
    "method": (
        too_long_functions,
        "class A:\n" + "\n".join("    " + line for line in body(61).splitlines()),
        "devsort/task.py:2: the body of f has 61 lines, at most 60 are allowed: split it into named functions",
    ),
    "arguments": (
        too_many_arguments,
        "def f(self, a, b, c, d, /, e, f, g, *, h, i): ...",
        "devsort/task.py:1: f takes 9 arguments, at most 8 are allowed: put settings into a config object",
    ),
    "later module": (
        imports_against_the_order,
        "import torch\nfrom devsort.sorting.model import Shape",
        "devsort/task.py:2: task imports model, which is no earlier module: move what it needs into one",
    ),
    "hidden in a function": (
        imports_against_the_order,
        "def f():\n    from devsort.charts.style import INK",
        "devsort/task.py:2: task imports charts, which is no earlier module: move what it needs into one",
    ),
    "from the package": (
        imports_against_the_order,
        "from devsort import __version__, train",
        "devsort/task.py:1: task imports train, which is no earlier module: move what it needs into one",
    ),
    "plain import": (
        imports_against_the_order,
        "import devsort.cli.commands",
        "devsort/task.py:1: task imports cli, which is no earlier module: move what it needs into one",
    ),
    "import without a place": (
        imports_against_the_order,
        "import devsort.misc",
        "devsort/task.py:1: imports misc, which has no place in the pipeline: add it to ORDER",
    ),
    "numpy's generator": (
        shared_randomness,
        "import numpy as np\nx = np.random.rand(3)",
        "devsort/task.py:2: np.random.rand uses a generator that all code shares: draw from devsort.rng.stream",
    ),
    "torch's generator": (
        shared_randomness,
        "import torch\ntorch.manual_seed(0)",
        "devsort/task.py:2: torch.manual_seed uses a generator that all code shares: draw from devsort.rng.stream",
    ),
    "unpickling": (
        unsafe_readers,
        "import torch\nx = torch.load('w.pt', weights_only=False)",
        "devsort/task.py:2: torch.load can run what a file holds: use devsort.storage.artifacts or a safe loader",
    ),
}


@pytest.mark.parametrize("case", VIOLATIONS)
def test_a_violation_is_told_in_plain_words(case):
    check, text, message = VIOLATIONS[case]
    assert list(check("devsort/task.py", text)) == [message]


def test_a_module_without_a_place_is_told():
    expected = (
        "devsort/misc.py has no place in the pipeline: add misc to ORDER in tests/test_style.py"
    )
    assert list(imports_against_the_order("devsort/misc.py", "")) == [expected]


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (too_long_files, "x = 1\n" * 300),
        (too_long_functions, body(60)),
        (too_many_arguments, "def f(self, a, b, c, d, e, f, g, h): ..."),
        (
            imports_against_the_order,
            "import numpy\nfrom devsort import __version__\nfrom devsort.rng import stream",
        ),
        (
            shared_randomness,
            "import numpy as np\nrng = np.random.Generator(np.random.PCG64(0))\nrng.random(3)",
        ),
        (
            unsafe_readers,
            "import torch, yaml\ntorch.load('w.pt', weights_only=True)\nyaml.safe_load('')",
        ),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_what_keeps_the_rule_passes(check, text):
    assert list(check("devsort/task.py", text)) == []
