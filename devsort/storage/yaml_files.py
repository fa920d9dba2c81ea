"""YAML as a person means it.

Plain values only, numbers by the core schema of YAML 1.2, no duplicate keys, and nothing that takes
forever to read. YAML 1.1, which PyYAML reads, takes 0512 for 330, 1:30 for 90, `no` for false, and
1e3 for text.
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from devsort.errors import UserError

# of a config.yaml, and of a mapping in it; larger YAML can take forever to read
MAX_BYTES, MAX_KEYS = 100_000, 1000

# what plain text means, in the order of trial: tag, pattern, first characters
CORE = (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    ("merge", r"<<", ["<"]),
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping with the safe loader, which refuses tags that build objects."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(
                f"{path} is larger than {MAX_BYTES:,} bytes",
                "see `devsort config` for what it holds",
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist", "name a run folder, or make one with `devsort init FOLDER`"
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} cannot be read ({e})", "check the file") from None
    try:
        data = parse_yaml(text)
    except ValueError as e:
        raise UserError(
            f"{path} is not valid YAML ({e})", "mend it, or start from what `devsort config` prints"
        ) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(
            f"{path} holds a {type(data).__name__}, expected a mapping of sections",
            "see `devsort config`",
        )
    return data


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: It is not YAML, has a tag that builds an object, or a duplicate key.
    """
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.YAMLError as e:
        raise ValueError(str(e)) from None
    # PyYAML's constructors raise KeyError, IndexError and more on scalars like `!!bool x`
    except Exception as e:
        raise ValueError(f"{type(e).__name__}: {e}") from None


class _Loader(yaml.SafeLoader):
    """The safe loader with the core schema of YAML 1.2.

    It refuses duplicate keys, of which PyYAML takes the last, and endless merges.
    """

    yaml_implicit_resolvers: ClassVar[dict] = {}  # type: ignore[misc]

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else id(key)
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {name!r} is there twice", key.start_mark
                )
            seen.add(name)
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_KEYS:
            raise yaml.constructor.ConstructorError(
                None, None, "merges make too many keys", node.start_mark
            )

    def construct_integer(self, node: yaml.ScalarNode) -> int:
        """An integer; leading zeros mean nothing: 0512 is 512."""
        text = self.construct_scalar(node)
        return int(text, 0 if text[:2] in ("0x", "0o") else 10)

    def construct_number(self, node: yaml.ScalarNode) -> float:
        """A float; .inf and .nan are written with a dot."""
        return float(re.sub(r"\.(inf|nan)$", r"\1", self.construct_scalar(node).lower()))


for _tag, _pattern, _first in CORE:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_integer)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)
