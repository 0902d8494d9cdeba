"""Configuration: both spellings of the passes, overrides, and every way to be wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from chop.config import load_config
from chop.config.schema import Config, PassCall, TrainConfig
from chop.errors import ConfigError

ARRAY = """
name = "x"
[[passes]]
name = "fold_batch_norm"
[[passes]]
name = "quantize"
by = "type"
[passes.default.config]
weight_width = 8
"""
TABLES = """
name = "x"
[passes.fold_batch_norm]
[passes.quantize]
by = "type"
[passes.quantize.default.config]
weight_width = 8
"""


@pytest.mark.parametrize("text", [ARRAY, TABLES])
def test_both_spellings_of_the_passes_say_the_same(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    config = load_config(path, ["passes.quantize.default.config.weight_width=4"])
    quantize: dict[str, object] = {"by": "type", "default": {"config": {"weight_width": 4}}}
    assert config.passes == (
        PassCall(name="fold_batch_norm"),
        PassCall(name="quantize", arguments=quantize),
    )
    assert config.compiler_config() == {
        "name": "x",
        "hardware": {},
        "passes": [{"name": "fold_batch_norm"}, {"name": "quantize", **quantize}],
    }


def test_defaults() -> None:
    assert load_config() == Config()
    assert Config().compiler_config() == {"name": "design", "hardware": {}}


def test_the_callers_mapping_is_not_changed() -> None:
    source = {"passes": [{"name": "quantize", "by": "type"}], "train": {"epochs": 1}}
    config = load_config(source, ["passes.quantize.by=name", "train.epochs=2"])
    assert config.train == TrainConfig(epochs=2)
    assert source == {"passes": [{"name": "quantize", "by": "type"}], "train": {"epochs": 1}}


def test_overrides_take_toml_values_and_bare_words() -> None:
    config = load_config(
        None,
        [
            "dataset.name=digits",
            "hardware.lanes.fc1=[4, 8]",
            'hardware.lanes."layers.0"=[1, 2]',
            "simulate.stall_probability=0.7",
            "simulate.check_streams=true",
            "synthesize.target=ecp5-85k",
            "model.name=mlp",
            "model.arguments={sizes=[4, 2]}",
            "model.arguments.bias=false",
        ],
    )
    assert config.dataset is not None
    assert config.dataset.name == "digits"
    assert config.hardware == {"lanes": {"fc1": [4, 8], "layers.0": [1, 2]}}
    assert config.simulate.stall_probability == 0.7
    assert config.simulate.check_streams is True
    assert config.synthesize is not None
    assert config.synthesize.target == "ecp5-85k"
    assert config.model is not None
    assert config.model.arguments == {"sizes": [4, 2], "bias": False}


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text('[model]\npath = "models/net.py:make"\n')
    config = load_config(tmp_path / "x.toml")
    assert config.model is not None
    assert config.model.path == f"{tmp_path}/models/net.py:make"


def test_model_option_replaces_the_table(tmp_path: Path) -> None:
    table = {"model": {"name": "mlp", "arguments": {"sizes": [4, 2]}}}
    same = load_config(table, model="mlp").model
    assert same is not None
    assert (same.name, same.arguments) == ("mlp", {"sizes": [4, 2]})
    other = load_config(table, model="JSC_Tiny").model
    assert other is not None
    assert (other.name, other.arguments) == ("JSC_Tiny", {})
    from_file = load_config(None, model="some/net.py:make")
    assert from_file.name == "net"
    assert from_file.model is not None
    assert from_file.model.path == "some/net.py:make"
    saved = tmp_path / "saved.graph"
    saved.write_bytes(b"")
    graph = load_config(None, model=str(saved)).model
    assert graph is not None
    assert graph.graph == str(saved)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"trian": {}}, "config: unknown key 'trian'; did you mean 'train'?"),
        (
            {"train": {"epoch": 1}},
            "config: unknown key 'train.epoch'; did you mean 'epochs'?",
        ),
        (
            {"train": {"epochs": 0}},
            "config: 'train.epochs' must be greater than or equal to 1, got 0",
        ),
        (
            {"train": {"epochs": "many"}},
            "config: 'train.epochs' must be a valid integer, got 'many'",
        ),
        (
            {"train": {"optimizer": "lamb"}},
            "config: 'train.optimizer' must be 'adam', 'adamw' or 'sgd', got 'lamb'",
        ),
        (
            {"train": {"patience": 3}},
            "config: 'train' must have validation_fraction above 0 when patience is 3, got 0.0",
        ),
        ({"dataset": {}}, "config: 'dataset.name' is missing; add it"),
        (
            {"model": {}},
            "config: 'model' must have exactly one of name, path and graph, got none",
        ),
        (
            {"model": {"name": "mlp", "path": "x.py:f"}},
            "config: 'model' must have exactly one of name, path and graph, got name and path",
        ),
        (
            {"simulate": {"stall_probability": 1.0}},
            "config: 'simulate.stall_probability' must be less than 1, got 1.0",
        ),
        ({"seed": -1}, "config: 'seed' must be greater than or equal to 0, got -1"),
        (
            {"simulate": {"seed": 2**32}},
            "config: 'simulate.seed' must be less than or equal to 4294967295, got 4294967296",
        ),
        (
            {"name": "../up"},
            "config: 'name' must match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]*$', got '../up'",
        ),
        (
            {"passes": [{"by": "type"}]},
            "config: 'passes.0' must be a table with a name, got {'by': 'type'}",
        ),
        ({"passes": {"quantize": 8}}, "config: 'passes.quantize' must be a table, got 8"),
        ({"passes": "quantize"}, "config: 'passes' must be a list of tables, got 'quantize'"),
    ],
)
def test_a_wrong_table_is_one_line(source: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(source)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs", "override 'epochs': must read key=value, e.g. train.epochs=5"),
        ("=5", "override '=5': must read key=value, e.g. train.epochs=5"),
        (
            "a b=1",
            "override 'a b=1': 'a b' is not a TOML key: "
            "Expected '=' after a key in a key/value pair (at line 1, column 3)",
        ),
        (
            "passes.quantise.by=name",
            "override 'passes.quantise.by=name': no pass 'quantise' in the list; "
            "did you mean 'quantize'?",
        ),
        (
            "passes.twice.by=name",
            "override 'passes.twice.by=name': pass 'twice' stands 2 times in the list; "
            "edit the file instead",
        ),
    ],
)
def test_a_wrong_override_is_one_line(override: str, message: str) -> None:
    passes = [{"name": "quantize"}, {"name": "twice"}, {"name": "twice"}]
    with pytest.raises(ConfigError) as caught:
        load_config({"passes": passes}, [override])
    assert str(caught.value) == message


def test_an_override_of_passes_needs_a_list() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, ["passes.quantize.by=name"])
    assert str(caught.value) == (
        "override 'passes.quantize.by=name': no list of passes to change; give a --config"
    )


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(ConfigError) as caught:
        load_config(missing)
    assert str(caught.value) == f"config '{missing}': no such file; see configs/ for examples"
    broken = tmp_path / "broken.toml"
    broken.write_text("name = \n")
    with pytest.raises(ConfigError) as caught:
        load_config(broken)
    assert str(caught.value) == f"config '{broken}': Invalid value (at line 1, column 8)"


def test_a_python_file_without_a_function_is_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, model="net.py")
    assert str(caught.value) == "model 'net.py': must name a function; use 'net.py:make_model'"


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[2] / "configs").glob("*.toml")), ids=lambda p: p.stem
)
def test_every_shipped_configuration_is_valid_and_named_after_its_file(path: Path) -> None:
    assert load_config(path).name == path.stem
