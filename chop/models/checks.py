"""What the ready-made models ask of their arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chop.errors import ConfigError, did_you_mean

__all__ = ["check_choice", "check_counts", "check_sizes"]


def check_counts(model: str, counts: Mapping[str, object]) -> None:
    """Raises ConfigError unless every count is an integer above 0."""
    for name, value in counts.items():
        if not _is_count(value):
            raise ConfigError(f"model '{model}': {name} must be an integer above 0, got {value!r}")


def check_sizes(model: str, name: str, sizes: object, least: int = 1) -> None:
    """Raises ConfigError unless the sizes are a list of `least` or more integers above 0."""
    if isinstance(sizes, Sequence) and not isinstance(sizes, str):
        if len(sizes) >= least and all(_is_count(size) for size in sizes):
            return
        sizes = list(sizes)
    raise ConfigError(
        f"model '{model}': {name} must be a list of {least} or more integers above 0, got {sizes!r}"
    )


def check_choice(model: str, name: str, choice: str, choices: Sequence[str]) -> None:
    """Raises ConfigError unless the choice is one of the choices."""
    if choice not in choices:
        near = did_you_mean(choice, choices)
        raise ConfigError(f"model '{model}': unknown {name} '{choice}'{near}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
