"""The contract of every artifact.

An artifact records what it was made from. It has one command that makes it, one checksum and one
verified read. Its own attributes say where it comes from:

| attribute | meaning                                                            |
|-----------|--------------------------------------------------------------------|
| devsort   | version that wrote it; another version is accepted                 |
| format    | what its variables mean; another format is refused                 |
| resolved  | the config sections it was made from, as JSON                      |
| inputs    | identity of the artifacts it was made from                         |
| checksum  | identity of its values                                             |

Reading compares format, config and inputs with what the run says now (`Origin.check`) and names the
command that makes the artifact again. The checksum is compared by the reader of each kind of file:
`storage.tensors`, `storage.datasets` and `storage.objects`.
"""

import hashlib
import json
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devsort import __version__
from devsort.errors import Stale, UserError

MOST_CHANGES = 3  # settings that an error names


@dataclass(frozen=True)
class Origin:
    """What an artifact is made from.

    Attributes:
        command: The command line that makes it.
        resolved: The config sections, as JSON.
        inputs: Identity of its inputs.
        format: What its variables mean, raised when that changes.
        force: `command` makes it again only with `--force`.
    """

    command: str
    resolved: str
    inputs: str = ""
    format: int = 1
    force: bool = True

    @property
    def again(self) -> str:
        """The fix that makes the artifact again."""
        return f"run `{self.command}{' --force' if self.force else ''}` to make it again"

    @property
    def anew(self) -> str:
        """The same for an intact artifact, which is discarded."""
        return self.again.replace("to make", "to discard it and make") if self.force else self.again

    @property
    def attributes(self) -> dict[str, str]:
        """What the artifact records about itself, besides its checksum."""
        return {
            "devsort": __version__,
            "format": str(self.format),
            "resolved": self.resolved,
            "inputs": self.inputs,
        }

    def check(self, found: Mapping[str, Any], path: Path) -> None:
        """Compares the attributes of an artifact with what they should be.

        Raises:
            Stale: It has another format, or was made from another config or from other inputs.
        """
        if str(found.get("format", 1)) != str(self.format):
            raise Stale(f"{path} was written in another format of devsort", self.anew)
        wrong, fix = [], self.anew
        if changed := changes(found.get("resolved"), self.resolved):
            wrong.append(f"another config{changed}")
            fix = alternatives(undo(found.get("resolved"), self.resolved), self.anew)
        if found.get("inputs", "") != self.inputs:
            wrong.append("other inputs")
        if wrong:
            raise Stale(f"{path} was made from {' and '.join(wrong)}", fix)


@dataclass(frozen=True)
class Artifact:
    """What is known about an artifact before it is made.

    Attributes:
        name: Its name in `devsort status` and in the run.
        command: The subcommand that makes it.
        sections: The config sections it depends on.
        inputs: Returns the identity of what it is made from, given the run.
        read: Returns its verified value and its checksum, given the run and the origin.
        format: See `Origin`.
        force: See `Origin`.
    """

    name: str
    command: str
    sections: tuple[str, ...]
    inputs: Callable[[Any], str]
    read: Callable[[Any, Origin], tuple[Any, str]]
    format: int = 1
    force: bool = True


def identity(value: Any) -> str:
    """Sixteen hexadecimal digits that stand for a JSON value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def check_exists(path: Path, origin: Origin) -> None:
    """Raises UserError if there is no such artifact, with the command that makes it."""
    if not path.exists():
        raise UserError(f"{path} is missing", f"run `{origin.command}` first")


def changes(found: Any, expected: str) -> str:
    """Settings that differ, as ` (train.lr was 0.1, is 0.2)`; empty if none does.

    Args:
        found: JSON of the config sections in an artifact; anything, if it is damaged.
        expected: JSON of the sections now.
    """
    if found == expected:
        return ""
    try:
        old, new = (dict(_flat(json.loads(side))) for side in (found, expected))
    except (TypeError, ValueError, AttributeError):
        return " (it does not say which)"
    keys = _different(old, new)
    listed = [f"{key} was {old.get(key)}, is {new.get(key)}" for key in keys[:MOST_CHANGES]]
    if len(keys) > MOST_CHANGES:
        listed.append(f"and {len(keys) - MOST_CHANGES} more")
    return f" ({'; '.join(listed)})" if listed else ""


def undo(found: Any, expected: str) -> str:
    """How to go back to the settings that an artifact was made with: the `--set` to give.

    Empty if the artifact does not name them all, because it is older or damaged.

    Args:
        found: See `changes`.
        expected: See `changes`.
    """
    try:
        old, new = (dict(_flat(json.loads(side))) for side in (found, expected))
    except (TypeError, ValueError, AttributeError):
        return ""
    keys = _different(old, new)
    if not old.keys() >= set(keys):
        return ""
    if len(keys) > MOST_CHANGES:
        return "undo the change"
    options = " ".join(f"--set {shlex.quote(f'{key}={json.dumps(old[key])}')}" for key in keys)
    return f"undo the change, as with `{options}`"


def alternatives(*fixes: str) -> str:
    """Several fixes for one error, joined; empty ones are left out."""
    return ", or ".join(filter(None, fixes))


def _different(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [key for key in {**old, **new} if old.get(key) != new.get(key)]


def _flat(sections: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in sections.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
