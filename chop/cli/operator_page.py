"""docs/operators.md: what the registry, and the headers of the RTL, say of every operator."""

from __future__ import annotations

import importlib.util
import operator as python_operators
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional

from chop.formats.base import Format
from chop.formats.registry import format_class, hardware_formats
from chop.ir.parts import part
from chop.ops.base import Op
from chop.ops.registry import operators

__all__ = ["operator_page"]

_WIDTH = 120
# Where a function is looked for, in the order in which people write it.
_HOMES = (
    ("functional", functional),
    ("torch", torch),
    ("torch.special", torch.special),
    ("operator", python_operators),
)
# What stands in a captured graph for calls of other names.
_OWN: dict[object, str] = {
    getattr: "x.T",
    part: "split, chunk, unbind of torch or x",
}
_INTRO = """\
# Operators

Generated from the operators' registry and the RTL's headers by `make docs`: change `chop/ops/` and
`hw/`, not this file. A call, or a form of one, that is not listed here is refused with its place in
the source and what to use instead.

*Spellings*: `nn` is torch.nn, `functional` torch.nn.functional, `x.` stands before a method of a
tensor, `[_]` says that the form in place is read, too. *Tensors*: how many operands depend on the
network's inputs; all others are constants. *Cycles*: per sample as long as the input keeps up, and
from a beat of the input to that of the result. Lanes are elements a cycle, as the scheduler chooses
them.
"""


def operator_page() -> str:
    """Returns the page in Markdown; the same registry gives the same bytes."""
    ops = sorted(operators(), key=lambda op: op.name)
    modules = sorted(path.stem for path in (_rtl() / "layers").glob("*.sv"))
    modules += sorted({m for op in ops for m in _modules(op)} - set(modules))
    parts = [_INTRO, _formats(), "## Operators\n", *map(_section, ops)]
    parts += ["## RTL\n\nThe layers' headers, as they stand in `hw/layers/`.\n"]
    parts += map(_hardware, modules)
    return "\n".join(parts)


def _formats() -> str:
    lines = ["| format | streams | weights | biases |", "|---|---|---|---|"]
    roles = {role: set(hardware_formats(role)) for role in ("data", "weight", "bias")}
    for name in sorted(set().union(*roles.values())):
        marks = ("yes" if name in roles[role] else "" for role in roles)
        lines.append(f"| `{name}` | {' | '.join(marks)} |")
    return "Formats with hardware:\n\n" + "\n".join(lines) + "\n"


def _section(op: Op[Any]) -> str:
    rows = [
        ("Spellings", _spellings(op.targets)),
        ("With a constant first", _spellings(op.reversed_targets)),
        ("Tensors", "any number" if op.arity is None else str(op.arity)),
        ("Streams", _streams(op)),
        ("Constants", "`weight` or `bias`, in any format with hardware" if _has_layer(op) else ""),
        ("RTL", ", ".join(f"`{module}`" for module in _modules(op)) or "none: wires"),
        ("Cycles", "none" if not _modules(op) else op.cycles),
        ("Limits", op.limits),
    ]
    items = [_wrapped(f"- {label}: {text}") for label, text in rows if text]
    return "\n".join([f"### {op.name}\n", _wrapped(op.summary, ""), "", *items, ""])


def _wrapped(text: str, indent: str = "  ") -> str:
    return textwrap.fill(
        text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )


def _modules(op: Op[Any]) -> tuple[str, ...]:
    return op.modules or ((op.module,) if op.module else ())


def _has_layer(op: Op[Any]) -> bool:
    return type(op).layer is not Op.layer


def _streams(op: Op[Any]) -> str:
    """Returns which of the formats with hardware an operator reads."""
    classes = {name: format_class(name) for name in hardware_formats("data")}
    # Blocks share exponents: their elements are no integers of one step.
    blocks = [name for name, format in classes.items() if format.encode is not Format.encode]
    scaled = [name for name, format in classes.items() if format.scale is not Format.scale]
    if op.is_layout:
        return f"all formats ({', '.join(blocks)}: the last axis stays as it is)"
    refused = [] if op.reads_coded else blocks
    if type(op).infer_scale is Op.infer_scale:
        refused = sorted({*refused, *scaled})
    return f"all formats but {', '.join(refused)}" if refused else "all formats"


def _spellings(targets: Iterable[object]) -> str:
    names = dict.fromkeys(map(_spelling, targets))
    told = []
    for name in names:
        if name.endswith("_") and name[:-1] in names:
            continue
        told.append(f"`{name}[_]`" if f"{name}_" in names else f"`{name}`")
    return ", ".join(told)


def _spelling(target: object) -> str:
    if isinstance(target, str):
        return f"x.{target}"
    if target in _OWN:
        return _OWN[target]
    if isinstance(target, type):
        home = "nn" if target.__module__.startswith("torch.nn.") else target.__module__
        return f"{home}.{target.__name__}"
    for home, module in _HOMES:
        # By what it is: some functions have another name than the one they are called by.
        names = [n for n, found in vars(module).items() if found is target and n[0] != "_"]
        if names:
            own = getattr(target, "__name__", "")
            return f"{home}.{own if own in names else min(names)}"
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__name__', target)}"


def _hardware(module: str) -> str:
    """Returns the header of a module: the comment before it."""
    (path,) = _rtl().rglob(f"{module}.sv")
    lines = path.read_text(encoding="utf-8").splitlines()
    header = lines[: next(i for i, line in enumerate(lines) if not line.startswith("//"))]
    told = "\n".join(f"    {line.removeprefix('//').removeprefix(' ')}".rstrip() for line in header)
    return f"### `{module}`\n\n{told}\n"


def _rtl() -> Path:
    package = importlib.util.find_spec("chop.hw")
    assert package is not None
    assert package.submodule_search_locations is not None
    return Path(package.submodule_search_locations[0])
