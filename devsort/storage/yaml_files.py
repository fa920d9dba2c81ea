"""YAML as a person means it.

Plain values alone, no key twice, and nothing that takes for ever to read.
"""

from pathlib import Path
from typing import Any

import yaml

from devsort.errors import UserError

# of a config.yaml, of a mapping in it; YAML can take for ever over more
MAX_BYTES, MAX_KEYS = 100_000, 1000


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping with the safe loader: tags that build objects are refused."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(
                f"{path} is larger than {MAX_BYTES:,} bytes", "give a config as in runs/baseline"
            )
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(
            f"{path} does not exist", "name a folder with a config.yaml, such as runs/baseline"
        ) from None
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path} cannot be read ({e})", "check the file") from None
    try:
        data = parse_yaml(text)
    except ValueError as e:
        raise UserError(
            f"{path} is not valid YAML ({e})", "mend it, or start from runs/baseline/config.yaml"
        ) from None
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UserError(
            f"{path} holds a {type(data).__name__}, expected a mapping of sections",
            "see runs/baseline",
        )
    return data


def parse_yaml(text: str) -> Any:
    """The value of a YAML text.

    Raises:
        ValueError: It is no YAML, holds a tag that builds an object, or a key twice.
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
    """The safe loader.

    It refuses two equal keys, of which the other takes the last, and merges without end.
    """

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
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
