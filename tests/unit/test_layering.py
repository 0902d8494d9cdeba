"""The layers of the house: who may import whom, and how long a file and a function may be."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_FILE_LINES = 500
_FUNCTION_LINES = 60

# The spine, lowest first: a layer imports only what stands before it.
_SPINE = ("errors", "formats", "ir", "ops", "schedule", "passes", "flows", "search", "cli")

# What each subpackage of chop may import beside itself. A new one gets its row here.
_MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "tools": {"errors"},
    "config": {"errors"},
    "datasets": {"errors"},
    "compress": {"errors"},
    "models": {"errors", "config", "ir"},
    "formats": {"errors"},
    "ir": {"errors", "formats"},
    "integer": {"errors", "formats"},
    "nn": {"errors", "config", "formats"},
    "ops": {"errors", "formats", "integer", "ir", "nn"},
    "schedule": {"errors", "formats", "ir", "ops"},
    "sim": {"errors", "formats", "ir", "tools"},
    "synth": {"errors", "formats", "ir", "tools"},
    "report": {"errors", "formats", "ir"},
    "passes": {
        "errors", "config", "formats", "integer", "ir", "nn", "ops", "report", "schedule", "sim",
        "synth",
    },
    "flows": {
        "errors", "tools", "compress", "config", "datasets", "models", "formats", "integer", "ir",
        "nn", "ops", "report", "schedule", "sim", "synth", "passes",
    },
    "cli": {
        "errors", "tools", "config", "datasets", "models", "formats", "ir", "ops", "report",
        "synth", "passes", "flows", "search",
    },
    "search": {
        "errors", "tools", "config", "datasets", "models", "formats", "ir", "nn", "ops", "synth",
        "passes", "flows",
    },
    "hw": set(),
    "configs": set(),
    # chop/__init__.py: the names that users write.
    "": {"errors", "ir", "flows", "search"},
}  # fmt: skip

# The conversion between formats is the compiler's own: it places one where no user's node stands.
_NAMED_OPERATORS = {"chop.ops.cast"}


@dataclass(frozen=True)
class _Module:
    name: str
    path: Path
    tree: ast.Module

    @property
    def layer(self) -> str:
        return _layer(self.name)

    def imports(self) -> Iterator[str]:
        """Yields what is imported anywhere in the file: a late import breaks a layer as well."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                source = self._absolute(node)
                # `from chop import synth` is an import of chop.synth.
                if source in ("chop", "chop.ops"):
                    yield from (f"{source}.{alias.name}" for alias in node.names)
                else:
                    yield source

    def _absolute(self, node: ast.ImportFrom) -> str:
        """Returns the whole name of what a relative import means."""
        if node.level == 0:
            return node.module or ""
        package = self.name.split(".")
        if self.path.name != "__init__.py":
            package.pop()
        package = package[: len(package) - node.level + 1]
        return ".".join((*package, *(node.module or "").split(".")))


def _layer(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


@cache
def _modules() -> tuple[_Module, ...]:
    folders = (("chop", "chop"), ("passes", "chop.passes"), ("hw", "chop.hw"))
    found = []
    for folder, package in (*folders, ("configs", "chop.configs")):
        for path in sorted((_ROOT / folder).rglob("*.py")):
            parts = path.relative_to(_ROOT / folder).with_suffix("").parts
            name = ".".join((package, *(part for part in parts if part != "__init__")))
            found.append(_Module(name, path, ast.parse(path.read_text(encoding="utf-8"))))
    return tuple(found)


def _operator_files() -> set[str]:
    (registry,) = (module for module in _modules() if module.name == "chop.ops.registry")
    return {x for x in registry.imports() if x.startswith("chop.ops.")} - {"chop.ops.base"}


def test_the_house_is_where_it_is_looked_for() -> None:
    layers = {module.layer for module in _modules()}
    assert layers == set(_MAY_IMPORT)
    assert len(_operator_files()) >= 8


def test_the_table_keeps_the_spine() -> None:
    for layer, allowed in _MAY_IMPORT.items():
        if layer in _SPINE:
            above = set(_SPINE[_SPINE.index(layer) :])
            assert not allowed & above, f"{layer} must not import {sorted(allowed & above)}"
    assert _MAY_IMPORT["sim"] == _MAY_IMPORT["synth"] == {"errors", "formats", "ir", "tools"}
    assert _MAY_IMPORT["hw"] == set()


@pytest.mark.parametrize("layer", sorted(_MAY_IMPORT))
def test_a_layer_imports_only_what_it_may(layer: str) -> None:
    wrong = [
        f"{module.name} imports {imported}"
        for module in _modules()
        if module.layer == layer
        for imported in module.imports()
        if imported.split(".")[0] == "chop" and _layer(imported) not in _MAY_IMPORT[layer] | {layer}
    ]
    assert wrong == []


def test_nobody_imports_the_second_copies() -> None:
    """From the repository's root, `passes` and `hw` are importable and a copy of chop.passes."""
    wrong = [
        f"{module.name} imports {imported}"
        for module in _modules()
        for imported in module.imports()
        if imported.split(".")[0] in ("passes", "hw", "configs")
    ]
    assert wrong == []


def test_only_the_registry_names_operators() -> None:
    operators = _operator_files() - _NAMED_OPERATORS
    wrong = [
        f"{module.name} imports {imported}"
        for module in _modules()
        if module.layer != "ops"
        for imported in module.imports()
        if imported in operators
    ]
    assert wrong == []


def test_no_file_is_too_long() -> None:
    sources = [
        path
        for folder in ("chop", "passes", "hw", "tests", "benchmarks")
        for path in sorted((_ROOT / folder).rglob("*"))
        if path.suffix in (".py", ".sv", ".j2") and path.is_file()
    ]
    assert len(sources) > 100
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources}
    wrong = [f"{p.relative_to(_ROOT)}: {n} lines" for p, n in lines.items() if n > _FILE_LINES]
    assert wrong == []


def test_no_function_is_too_long() -> None:
    wrong = []
    for module in _modules():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno is not None
                length = node.end_lineno - node.lineno + 1
                if length > _FUNCTION_LINES:
                    wrong.append(f"{module.name}.{node.name}: {length} lines")
    assert wrong == []
