"""`chop search`: what it finds, that one seed is one result, and how it refuses."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from chop.cli.main import main
from chop.config.load import load_config
from chop.search import load_result, search
from chop.search.result import StudyResult
from chop.search.session import Standing

WIDTHS = [2, 3, 8]
JOB: dict[str, Any] = {
    "name": "iris",
    "model": {"name": "mlp", "arguments": {"sizes": [4, 8, 3]}},
    "dataset": {"name": "iris"},
}
TERNARY = {"name": "ternary", "data_in_width": 8}
SPACE = [{"select": {"type": "linear"}, "seeds": {"weight_width": WIDTHS}}]
SEARCH: dict[str, Any] = {"strategy": "brute_force", "objectives": ["loss"], "space": SPACE}


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _run(change: dict[str, Any], job: dict[str, Any] | None = None, **options: Any) -> StudyResult:
    return search(load_config({**JOB, **(job or {}), "search": {**SEARCH, **change}}), **options)


def test_brute_force_visits_all_and_finds_the_best(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("job.toml").write_text(
        """
        name = "iris"
        [model]
        name = "mlp"
        arguments = { sizes = [4, 8, 3] }
        [dataset]
        name = "iris"
        [search]
        strategy = "brute_force"
        objectives = ["loss"]
        constraints = ["luts <= 30 % of baseline"]
        [[search.space]]
        select = { type = "linear" }
        seeds = { weight_width = [2, 3, 8] }
        [[search.space]]
        pass = "hardware"
        seeds = { target_initiation_interval = { low = 4, high = 8, step = 4 } }
        """,
        encoding="utf-8",
    )
    assert main(["search", "--config", "job.toml", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    found = load_result(Path("runs/iris/search.json"))
    assert printed["best"] == found.best
    settings = [tuple(t.parameters.values()) for t in found.trials]
    assert settings == list(itertools.product(WIDTHS, WIDTHS, (4, 8)))
    bound = 0.30 * found.baseline.metrics["luts"]
    assert found.constraints[0].bound == pytest.approx(bound)
    kept = [t for t in found.trials if t.metrics["luts"] <= bound]
    assert 0 < len(kept) < len(found.trials)
    assert found.best is not None
    best = found.trial(found.best)
    assert best.metrics["loss"] == min(t.metrics["loss"] for t in kept)
    assert [t.metrics["interval"] for t in found.trials] == [
        t.parameters["hardware.target_initiation_interval"] for t in found.trials
    ]

    # The file that was written is the trial that was found.
    assert main(["eval", "--config", "runs/iris/best.toml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["integer_accuracy"] == best.metrics["accuracy"]
    assert main(["emit", "--config", "runs/iris/best.toml", "--json"]) == 0
    design = json.loads(capsys.readouterr().out)
    assert design["predicted_initiation_interval"] == best.metrics["interval"]
    assert design["predicted_latency_cycles"] == best.metrics["latency"]

    assert main(["search", "--config", "job.toml", "--resume"]) == 0
    assert "18 complete; brute_force" in capsys.readouterr().out
    assert load_result(Path("runs/iris/search.json")).trials == found.trials


@pytest.mark.parametrize("strategy", ["tpe", "gp", "nsga2", "cmaes"])
def test_one_seed_one_result_also_when_it_was_stopped(strategy: str) -> None:
    change = {
        "strategy": strategy,
        "seed": 3,
        "constraints": ["luts <= 250"],
        "space": [{"select": {"type": "linear"}, "seeds": {"weight_width": {"low": 2, "high": 9}}}],
    }
    whole = _run({**change, "trials": 14, "storage": "whole.journal"})
    assert len({tuple(t.parameters.items()) for t in whole.trials}) > 5

    def stop(standing: Standing) -> None:
        if standing.done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run({**change, "storage": "parts.journal", "trials": 9}, watch=stop)
    assert len(load_result(Path("runs/iris/search.json")).trials) == 5
    change["storage"] = "parts.journal"
    assert len(_run({**change, "trials": 9}, resume=True).trials) == 9
    parts = _run({**change, "trials": 14}, resume=True)
    assert [t.values for t in parts.trials] == [t.values for t in whole.trials]
    assert [t.parameters for t in parts.trials] == [t.parameters for t in whole.trials]


def test_another_seed_is_another_result() -> None:
    change = {"strategy": "random", "trials": 6, "storage": "journal"}
    space = [{"select": {"type": "linear"}, "seeds": {"weight_width": {"low": 2, "high": 9}}}]
    first, second = (_run({**change, "space": space, "seed": s}, restart=True) for s in (3, 4))
    assert [t.parameters for t in first.trials] != [t.parameters for t in second.trials]


def test_processes_of_this_machine_share_a_study() -> None:
    found = _run({"workers": 2, "storage": "journal"})
    assert [tuple(t.parameters.values()) for t in found.trials] == list(
        itertools.product(WIDTHS, WIDTHS)
    )
    assert {t.state for t in found.trials} == {"complete"}
    # Not this one: it only looked on.
    assert all(not t.user["worker"].endswith(f":{os.getpid()}") for t in found.trials)


def test_several_objectives_warm_starts_and_formats() -> None:
    found = _run(
        {
            "strategy": "nsga2",
            "trials": 12,
            "objectives": ["loss", "average_bits", "energy"],
            "warm_start": [{"config": TERNARY, "data_in_width": 4}],
            "space": [
                {
                    "select": {"regex": "fc.*"},
                    "seeds": {
                        "config": [
                            {"name": "integer", "weight_width": 6, "data_in_width": 8},
                            TERNARY,
                            {"name": "binary", "data_in_width": 8},
                        ]
                    },
                },
                {"select": {"type": "linear"}, "each": False, "seeds": {"data_in_width": [3, 4]}},
            ],
        }
    )
    first = found.trials[0]
    assert first.user["origin"] == "warm start"
    assert first.parameters == {
        "fc1.config": TERNARY,
        "fc2.config": TERNARY,
        "linear.data_in_width": 4,
    }
    assert first.metrics["average_bits"] == 2
    assert len(found.pareto) > 1
    assert found.best in found.pareto
    for number in found.pareto:
        assert Path(f"runs/iris/pareto/{number}.toml").is_file()


def test_an_infeasible_study_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    found = _run({"constraints": ["luts <= 20"]})
    assert (found.best, found.pareto) == (None, ())
    least = min(t.metrics["luts"] for t in found.trials)
    assert found.nearest is not None
    assert found.trial(found.nearest).metrics["luts"] == least
    assert not Path("runs/iris/best.toml").exists()
    sets = [
        'model={name="mlp",arguments={sizes=[4,8,3]}}',
        'dataset={name="iris"}',
        'search={strategy="brute_force",objectives=["loss"],constraints=["luts <= 20"],'
        'space=[{select={type="linear"},seeds={weight_width=[2,3,8]}}]}',
        'name="iris"',
    ]
    options = [option for text in sets for option in ("--set", text)]
    assert main(["search", "--resume", *options]) == 0
    printed = capsys.readouterr().out
    assert "nearest trial" in printed
    assert f"trial {found.nearest} misses luts <= 20 (it has {least:,.0f})" in " ".join(
        printed.split()
    )


def test_settings_that_only_together_are_refused_are_trials_with_a_reason() -> None:
    job = {"hardware": {"target_initiation_interval": 8, "max_multipliers": 9}}
    space = [
        {
            "pass": "hardware",
            "seeds": {"target_initiation_interval": [2, 8], "max_multipliers": [9, 64]},
        }
    ]
    # Each alone is fine beside the other's 8 and 9 but for 2 with 9.
    with pytest.raises(Exception, match="target_initiation_interval = 2 is refused: hardware: "):
        _run({"space": space}, job)
    job = {"hardware": {"target_initiation_interval": 8, "max_multipliers": 64}}
    found = _run({"space": space}, job, restart=True)
    states = {tuple(t.parameters.values()): t.state for t in found.trials}
    assert states == {
        (2, 9): "refused",
        (2, 64): "complete",
        (8, 9): "complete",
        (8, 64): "complete",
    }
    (refused,) = (t for t in found.trials if t.state == "refused")
    assert "more than max_multipliers = 9" in refused.user["reason"]


def test_trials_that_train_report_stop_early_and_are_what_the_file_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    job = {"train": {"epochs": 1, "learning_rate": 0.01}, "simulate": {"samples": 50}}
    found = _run(
        {
            "strategy": "random",
            "trials": 8,
            "objectives": ["accuracy"],
            "train": "fine_tune",
            "epochs": 2,
            "pruner": "median",
            "space": [{"select": {"type": "linear"}, "seeds": {"weight_width": [2, 3, 4, 5, 6]}}],
        },
        job,
    )
    states = [t.state for t in found.trials]
    assert set(states) == {"complete", "pruned"}
    assert all(len(t.intermediate) == 2 for t in found.trials if t.state == "complete")
    assert all(len(t.intermediate) < 3 for t in found.trials if t.state == "pruned")
    assert found.best is not None
    assert main(["eval", "--config", "runs/iris/best.toml", "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)["integer_accuracy"]
    assert evaluated == found.trial(found.best).metrics["accuracy"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"objectives": ["lutes"]},
            "search.objectives: no metric 'lutes'; did you mean 'luts'?",
        ),
        (
            {"objectives": ["yosys_luts"]},
            "job 'iris': 'yosys_luts' is measured, not predicted: to search by it, add "
            "[search.measure] with when = 'every'",
        ),
        (
            {"measure": {"metrics": ["luts"]}},
            "search.measure.metrics: 'luts' is predicted in every trial, not measured; "
            "leave it out",
        ),
        (
            {"measure": {"metrics": ["fmax"], "target": "xc7"}},
            "search.measure.metrics: target 'xc7' has no 'fmax': nextpnr from PyPI has no AMD "
            "part; run synth/vivado.tcl in Vivado for timing",
        ),
        (
            {"space": [{"select": {"name": "fc9"}, "seeds": {"weight_width": [2]}}]},
            "search.space.0.select: no node 'fc9'; did you mean 'fc2'?",
        ),
        (
            {"space": [{"select": {"type": "conv2d"}, "seeds": {"weight_width": [2]}}]},
            "search.space.0.select: no operator 'conv2d'; did you mean 'conv'?",
        ),
        (
            {"space": [{"pass": "prun", "seeds": {"x": [1]}}]},
            "search.space.0: pass 'prun' is not in the list of passes; use fold_batch_norm, "
            "hardware, quantize",
        ),
        (
            {"space": [{"select": {"type": "linear"}, "seeds": {"weight_widht": [2]}}]},
            "search.space.0: weight_widht = 2 is refused: pass 'quantize': 'fc1'.config: "
            "unknown key 'weight_widht'; did you mean 'weight_width'?",
        ),
        (
            {"space": [{"select": {"type": "linear"}, "seeds": {"weight_width": [4, 0]}}]},
            "search.space.0: weight_width = 0 is refused: pass 'quantize': 'fc1'.config: "
            "'weight_width' must be greater than or equal to 1, got 0",
        ),
        (
            {"space": [{"select": {"type": "linear"}, "seeds": {"weight_width": 4}}]},
            "search.space.0: 'weight_width' must be a list of choices or {low, high, step}, got 4",
        ),
        (
            {"space": [*SPACE, *SPACE]},
            "search.space.1: 'weight_width' of node 'fc1' is searched twice; take it out of one",
        ),
        (
            {
                "strategy": "cmaes",
                "space": [
                    {
                        "select": {"type": "linear"},
                        "seeds": {"weight_format": ["binary", "ternary"]},
                    }
                ],
            },
            "search.strategy = 'cmaes' needs numbers, and parameter 'fc1.weight_format' has "
            "choices without an order; use tpe, gp, nsga2, random or brute_force",
        ),
        (
            {"trials": 5},
            "search.strategy = 'brute_force' visits all 9 settings, more than search.trials = 5; "
            "leave trials out, or use tpe",
        ),
        (
            {"train": "fine_tune"},
            "job 'iris': search.train = 'fine_tune' needs a [train] table",
        ),
        (
            {"storage": "oracle://x"},
            "storage 'oracle://x': unknown kind 'oracle'; did you mean 'journal'?",
        ),
        (
            {"storage": "mysql://user:secret@localhost/x"},
            "storage 'mysql+pymysql://user@localhost/x': the driver 'pymysql' is not installed; "
            "pip install 'pymysql'",
        ),
        (
            {"constraints": ["yosys_luts <= 5"]},
            "job 'iris': 'yosys_luts' is measured, not predicted: to search by it, add "
            "[search.measure] with when = 'every'",
        ),
    ],
)
def test_what_does_not_fit_is_one_error(change: dict[str, Any], message: str) -> None:
    from chop.errors import ConfigError

    with pytest.raises(ConfigError) as caught:
        _run(change)
    assert str(caught.value) == message
    # It may be put right and run again.
    assert not list(Path("runs/iris").glob("search.json"))


def test_a_storage_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    table = 'search.storage="postgresql://nobody:secret@127.0.0.1:9/x"'
    Path("job.toml").write_text(
        'name = "iris"\n[model]\nname = "mlp"\narguments = { sizes = [4, 8, 3] }\n'
        '[dataset]\nname = "iris"\n[search]\nobjectives = ["loss"]\n[[search.space]]\n'
        'select = { type = "linear" }\nseeds = { weight_width = [2, 3] }\n',
        encoding="utf-8",
    )
    assert main(["search", "--config", "job.toml", "--set", table]) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: storage 'postgresql+psycopg://nobody@127.0.0.1:9/x': cannot be opened: "
    )
    assert error.endswith("; is the server running, and does the database exist?\n")
    assert "secret" not in error
    assert main(["search", "--set", 'model.name="mlp"']) == 2
    assert capsys.readouterr().err == (
        "error: job 'design': a search needs a [search] table; see configs/search_digits.toml\n"
    )


def test_a_study_that_is_there_is_not_overwritten() -> None:
    _run({})
    with pytest.raises(Exception, match=r"go on with it by --resume, delete it by --restart"):
        _run({})
    with pytest.raises(Exception, match=r"is of another configuration: only trials, workers"):
        _run({"objectives": ["size"]}, resume=True)
    found = _run({"objectives": ["size"]}, restart=True)
    assert found.objectives == (("size", "minimize"),)
    assert found.trial(found.best or 0).parameters == {"fc1.weight_width": 2, "fc2.weight_width": 2}
