"""All settings as YAML that can be pasted into a config: key, value, range and meaning."""

from collections.abc import Iterator
from typing import Any

import yaml

from devsort.storage.settings import Section

COLUMN = 36  # where comments begin
TECHNICAL = 10**9  # larger bounds only guard the arithmetic and are not shown
BOUNDS = {
    "minimum": "from {:g}",
    "exclusiveMinimum": "over {:g}",
    "maximum": "to {:g}",
    "exclusiveMaximum": "below {:g}",
}


def reference(section: Section) -> str:
    """The YAML of a config and of all sections in it."""
    return "\n".join(_lines(section, ""))


def _lines(section: Section, indent: str) -> Iterator[str]:
    schemas = type(section).model_json_schema()["properties"]
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield f"{indent}{name}:"
            yield from _lines(value, indent + "  ")
            continue
        setting = f"{indent}{name}: {_yaml(value)}"
        notes = "; ".join(filter(None, (allowed(schemas[name]), field.description)))
        yield f"{setting:{COLUMN}} # {notes}"


def _yaml(value: Any) -> str:
    plain = list(value) if isinstance(value, tuple) else value
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix("...\n").strip()


def allowed(schema: dict[str, Any]) -> str:
    """The range or the choices of a setting, given its JSON schema; empty if there is none."""
    if "anyOf" in schema:
        return " or ".join(filter(None, map(allowed, schema["anyOf"])))
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "null":
        return "null"
    shown = {key: text for key, text in BOUNDS.items() if schema.get(key, TECHNICAL) < TECHNICAL}
    return " ".join(text.format(schema[key]) for key, text in shown.items())
