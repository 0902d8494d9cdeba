"""A plain mapping into a pydantic model, with errors in our wording."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from chop.errors import ConfigError, did_you_mean

__all__ = ["parse_section"]

Model = TypeVar("Model", bound=BaseModel)


def parse_section(cls: type[Model], values: Mapping[str, object], who: str) -> Model:
    """Returns `values` as a checked cls.

    Raises ConfigError with one line for the first fault: who, the key, the rule, the value; an
    unknown key comes with the nearest valid one.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        faults = error.errors()
        # A misspelt key often makes another one "missing": name the cause, not the effect.
        unknown = [fault for fault in faults if fault["type"] == "extra_forbidden"]
        fault = (unknown or faults)[0]
        raise ConfigError(f"{who}: {_describe(cls, fault)}") from error


def _describe(cls: type[BaseModel], fault: Any) -> str:
    location: tuple[str | int, ...] = fault["loc"]
    key = ".".join(str(part) for part in location)
    if fault["type"] == "extra_forbidden":
        known = _section_at(cls, location[:-1]).model_fields
        return f"unknown key '{key}'{did_you_mean(str(location[-1]), known)}"
    if fault["type"] == "missing":
        return f"'{key}' is missing; add it"
    if fault["type"] == "value_error":
        return f"'{key}' {fault['ctx']['error']}"
    rule = str(fault["msg"]).replace("Input should be", "must be").replace("String should", "must")
    return f"'{key}' {rule}, got {fault['input']!r}"


def _section_at(cls: type[BaseModel], location: tuple[str | int, ...]) -> type[BaseModel]:
    for part in location:
        if isinstance(part, str):
            annotation = cls.model_fields[part].annotation
            choices = (annotation, *get_args(annotation))
            cls = next(
                choice
                for choice in choices
                if isinstance(choice, type) and issubclass(choice, BaseModel)
            )
    return cls
