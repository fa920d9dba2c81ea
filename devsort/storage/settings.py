"""Groups of settings: frozen and strict; a refusal lists everything that is wrong.

Each group is defined in the package that uses it.
"""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from devsort.errors import UserError

if TYPE_CHECKING:  # pydantic has no public name for this class
    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

PositiveInt = Annotated[int, Field(ge=1, le=10**9)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Positive = Annotated[float, Field(gt=0, lt=1e12, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, lt=1e12, allow_inf_nan=False)]


class _OneLine(ModelMetaclass):
    """Makes the class report all refused values in one line, as the commands do."""

    def __call__(cls, *args: Any, **values: Any) -> Any:
        try:
            return super().__call__(*args, **values)
        except ValidationError as e:
            fix = "`devsort config` prints every setting with its range"
            raise UserError(f"{cls.__name__}: {problems(e)}", fix) from None


class Section(BaseModel, metaclass=_OneLine):
    """A frozen group of settings that refuses unknown keys.

    Raises:
        UserError: A value is refused; the line lists all refused values.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean_as_number(cls, value: Any, info: ValidationInfo) -> Any:
        expected = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and expected is not bool:
            raise ValueError("Input should not be true or false")
        return value


def set_key(data: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Sets a dotted key of a nested mapping in place; `where` names the source in the error.

    Raises:
        UserError: A part of the key stands for a value, not for a section.
    """
    *sections, name = key.split(".")
    for section in sections:
        data = data.setdefault(section, {})
        if not isinstance(data, dict):
            raise UserError(f"{where}: {section} is not a section", "see `devsort config --help`")
    data[name] = value


def problems(error: ValidationError) -> str:
    """Everything that a validation refuses, in one line: key, what is wrong, the value."""

    def problem(e: Any) -> str:
        key = ".".join(str(part) for part in e["loc"])
        if e["type"] == "extra_forbidden":
            return f"unknown key {key}"
        got = "" if isinstance(e["input"], dict) else f" (got {_shown(e['input'])})"
        what = e["msg"].removeprefix("Value error, ") + got
        return f"{key}: {what}" if key else what

    errors = error.errors()
    more = [f"and {len(errors) - 8} more"] if len(errors) > 8 else []
    return "; ".join([problem(e) for e in errors[:8]] + more)


def _shown(value: Any) -> str:
    if not isinstance(value, str | int | float | None):
        # not its text: a few YAML aliases can expand to gigabytes
        return f"a {type(value).__name__}"
    if isinstance(value, int) and value.bit_length() > 256:
        return "a huge integer"
    return repr(str(value)[:80])
