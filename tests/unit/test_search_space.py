"""Spaces, constraints, fronts and results: what a study is made of, without a study."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chop.config.load import load_config
from chop.errors import ConfigError, DataError
from chop.search.constraints import entry_of, parse_constraint, violation_of
from chop.search.pareto import best_of, front_of, nearest_of
from chop.search.result import (
    Baseline,
    ConstraintEntry,
    Direction,
    ParameterEntry,
    StudyResult,
    TrialResult,
    load_result,
    write_result,
)
from chop.search.space import Parameter, Space

REFERENCES = {"float": {"accuracy": 0.95}, "baseline": {"luts": 2000.0, "accuracy": 0.9}}


@pytest.mark.parametrize(
    ("text", "sense", "bound"),
    [
        ("accuracy >= float - 1 point", ">=", 0.94),
        ("accuracy>=float-0.5 points", ">=", 0.945),
        ("accuracy >= float - 2 %", ">=", 0.93),
        ("accuracy >= 97 %", ">=", 0.97),
        ("accuracy >= 0.97", ">=", 0.97),
        ("accuracy >= float", ">=", 0.95),
        ("accuracy >= baseline + 1 point", ">=", 0.91),
        ("luts <= 20_000", "<=", 20_000),
        ("luts <= 60 % of baseline", "<=", 1200),
        ("luts <= 0.6 * baseline", "<=", 1200),
        ("luts <= baseline - 100", "<=", 1900),
        ("energy <= 1.5e3", "<=", 1500),
    ],
)
def test_constraints_mean_what_they_say(text: str, sense: str, bound: float) -> None:
    entry = entry_of(parse_constraint(text), REFERENCES)
    assert (entry.text, entry.sense) == (text, sense)
    assert entry.bound == pytest.approx(bound, rel=1e-12)
    # At the bound it is kept; a step beyond it is not.
    step = 1e-6 * bound if sense == "<=" else -1e-6 * bound
    assert violation_of(entry, entry.bound) <= 0 < violation_of(entry, entry.bound + step)


_FORMS = (
    "write '<metric> <= <number>' or '>=', where the number may be '97 %', 'float - 1 point', "
    "'baseline + 100' or '60 % of baseline'"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("accuracy > 0.9", f"is not understood; {_FORMS}"),
        ("luts", f"is not understood; {_FORMS}"),
        ("luts <= -5", f"'-5' is not understood; {_FORMS}"),
        ("luts <= many", f"'many' is not understood; {_FORMS}"),
        ("accuracy >= float - point", f"'float - point' is not understood; {_FORMS}"),
        ("acuracy >= 0.9", "no metric 'acuracy'; did you mean 'accuracy'?"),
        (
            "luts <= float",
            "the float network has no 'luts'; write a number or 'baseline'",
        ),
        (
            "luts <= 60 %",
            "'%' is for accuracies, not for 'luts'; write a number, or '60 % of baseline'",
        ),
        (
            "accuracy >= 97",
            "an accuracy is a share in 0..1, got 97; write '97 %' or points",
        ),
    ],
)
def test_other_texts_are_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_constraint(text)
    assert str(caught.value) == f"constraint '{text}': {message}"


def test_a_reference_without_the_metric() -> None:
    with pytest.raises(ConfigError) as caught:
        entry_of(parse_constraint("dsps <= 60 % of baseline"), REFERENCES)
    assert str(caught.value) == (
        "constraint 'dsps <= 60 % of baseline': baseline has no 'dsps' (a baseline is the "
        "configuration itself, refused or not measured); write a number"
    )


def _space(*counts: int) -> Space:
    return Space(
        tuple(
            Parameter(f"fc{i}.width", "quantize", (f"fc{i}",), "width", tuple(range(n)), True, 0)
            for i, n in enumerate(counts)
        )
    )


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_numbers_of_settings_are_all_settings_once(counts: list[int]) -> None:
    space = _space(*counts)
    found = [tuple(space.nth(number).values()) for number in range(space.size)]
    assert found == list(itertools.product(*(range(n) for n in counts)))
    for parameter in space.parameters:
        assert [parameter.choice(parameter.stored(c)) for c in parameter.choices] == list(
            parameter.choices
        )


def test_choices_of_any_kind_are_kept_apart() -> None:
    choices = (True, 1, "1", [1, 4], {"name": "binary"}, None)
    parameter = Parameter("x", "quantize", (), "x", choices, False, 0)
    assert [parameter.choice(parameter.stored(c)) for c in choices[:2]] == [True, 1]
    assert all(parameter.choice(parameter.stored(c)) == c for c in choices[3:])


def test_last_words_set_all_that_end_so() -> None:
    space = _space(3, 3)
    assert space.matching({"width": 2}) == {"fc0.width": 2, "fc1.width": 2}
    assert space.matching({"width": 2, "fc1.width": 0}) == {"fc0.width": 2, "fc1.width": 0}
    with pytest.raises(ConfigError, match=r"no parameter 'widht'; did you mean 'width'\?"):
        space.matching({"widht": 2})
    with pytest.raises(ConfigError) as caught:
        space.matching({"fc0.width": 7})
    assert str(caught.value) == "parameter 'fc0.width': 7 is not a choice; use 0, 1, 2"


def _trials(seed: int, count: int, objectives: int) -> list[TrialResult]:
    rng = random.Random(seed)
    return [
        TrialResult(
            number,
            "complete",
            values=tuple(float(rng.randrange(6)) for _ in range(objectives)),
            feasible=rng.random() < 0.7,
            violation=rng.random(),
            parameters={"x": number},
        )
        for number in range(count)
    ]


@given(st.integers(0, 2**32), st.integers(0, 30), st.integers(1, 3))
def test_a_front_is_what_nothing_dominates(seed: int, count: int, objectives: int) -> None:
    trials = _trials(seed, count, objectives)
    less: Direction = "minimize"
    directions = (less,) * objectives
    front = front_of(trials, directions)

    def beaten(trial: TrialResult) -> bool:
        return any(
            other.feasible
            and other.values != trial.values
            and all(a <= b for a, b in zip(other.values, trial.values, strict=True))
            for other in trials
        )

    expected = {t.number for t in trials if t.feasible and not beaten(t)}
    assert {t.number for t in front} == expected
    best = best_of(front, directions)
    assert (best is None) == (not expected)
    if best is not None and objectives == 1:
        assert best.values == min(t.values for t in trials if t.feasible)
    nearest = nearest_of(trials)
    assert nearest is None or nearest.violation == min(t.violation for t in trials)


def test_the_same_settings_are_on_a_front_once() -> None:
    first = TrialResult(0, "complete", (1.0,), True, parameters={"x": 1})
    again = replace(first, number=1)
    other = replace(first, number=2, parameters={"x": 2})
    assert [t.number for t in front_of([first, again, other], ["minimize"])] == [0, 2]


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    result = StudyResult(
        name="s",
        objectives=(("accuracy", "maximize"), ("luts", "minimize")),
        constraints=(ConstraintEntry("luts <= 5", "luts", "<=", 5.0),),
        parameters=(ParameterEntry("fc1.width", (2, 4)), ParameterEntry("lanes", ([1, 2], [2, 2]))),
        trials=(
            TrialResult(
                0,
                "complete",
                (0.5, 4.0),
                True,
                0.0,
                {"fc1.width": 2},
                {"luts": 4.0},
                {"yosys_luts": 5.0},
                (0.1, 0.2),
                1.5,
                {"worker": "w"},
            ),
            TrialResult(1, "refused", user={"reason": "no"}),
        ),
        best=0,
        pareto=(0,),
        nearest=None,
        baseline=Baseline({"accuracy": 0.9}, {"luts": 9.0}),
        settings={"strategy": "tpe"},
        seconds=2.0,
    )
    path = tmp_path / "search.json"
    write_result(result, path)
    assert load_result(path) == result
    assert result.trial(1).state == "refused"
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match="is not a study of version 1; run 'chop search' again"):
        load_result(path)
    with pytest.raises(DataError, match="make one with 'chop search'"):
        load_result(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objective": ["luts"]}, "unknown key 'search.objective'; did you mean 'objectives'?"),
        (
            {"pruner": "median"},
            "'search' must train when pruner is 'median', got train = 'none'; "
            "set train = 'fine_tune', or pruner = 'none'",
        ),
        (
            {"pruner": "median", "train": "fine_tune", "objectives": ["luts", "loss"]},
            "'search' must have one objective when pruner is 'median', got 2; "
            "write the others as constraints",
        ),
        ({"epochs": 3}, "'search' must train when epochs are given, got train = 'none'"),
        ({"objectives": ["luts", "luts"]}, "'search' must have every objective once"),
    ],
)
def test_tables_that_contradict_themselves(change: dict[str, object], message: str) -> None:
    space = [{"select": {"type": "linear"}, "seeds": {"weight_width": [2, 4]}}]
    table = {"objectives": ["luts"], "space": space, **change}
    with pytest.raises(ConfigError) as caught:
        load_config({"search": table})
    assert str(caught.value) == f"config: {message}"
