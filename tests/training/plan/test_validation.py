"""What a plan says of held-out records: how often, at what cost, and that they fit the training's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import instructions
import pytest
import standins

from moslora_xtuner.data.prepare import prepare
from moslora_xtuner.data.tokens.store import Table
from moslora_xtuner.training.plan.make import make_plan
from moslora_xtuner.training.plan.outcome import Plan, Step, text
from moslora_xtuner.training.plan.setting import read_setting
from moslora_xtuner.training.plan.validation import trained_on

Make = Callable[..., Plan]
COMMONSENSE = "commonsense_moslora"


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model and its store of 96 records, and 7 that are held out in five stores and as they are."""
    root = tmp_path_factory.mktemp("planned")
    found = instructions.environment(root / "data")
    llm = Path(found["COMMONSENSE_LLM"])
    source = instructions.make_records(root / "held_out.json", 7, seed=5)
    for name, options in (("good", {}), ("answer", {"loss": "answer"}), ("asked", {"template": "alpaca_as_asked"})):
        prepare(source, root, llm, root / name, **{"template": "alpaca", **options})  # type: ignore[arg-type]
    other = standins.make_internlm2(root / "other")
    prepare(source, root, other, root / "foreign", template="alpaca")
    return found | {name: str(root / name) for name in ("good", "answer", "asked", "foreign", "held_out.json")}


@pytest.fixture
def planned(places: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Make:
    def make(data: str | None, *options: str, **more: object) -> Plan:
        for name in ("COMMONSENSE_LLM", "COMMONSENSE_STORE"):
            monkeypatch.setenv(name, places[name])
        if data is not None:
            monkeypatch.setenv("COMMONSENSE_VALIDATION", places[data])
        return make_plan(
            read_setting(COMMONSENSE, options=("param_scheduler.warmup_steps=1", *options), **more)  # type: ignore[arg-type]
        )

    return make


def step(plan: Plan) -> Step:
    (found,) = (step for step in plan.steps if step.title == "validation")
    return found


def test_without_one_there_is_no_word_of_it(planned: Make) -> None:
    plan = planned(None)
    assert plan.problems == []
    assert "validation" not in text(plan)


def test_how_often_and_at_what_cost(planned: Make, places: dict[str, str]) -> None:
    """96 records, three times, in micro-batches of 4 on one process: 72 iterations."""
    plan = planned("good", "default_hooks.checkpoint.interval=20", processes=1)
    assert plan.problems == []
    said = step(plan).facts
    assert said[0] == (
        "every 20 iterations (5 steps) and after the last one: 4 times; the adapter of the lowest loss is kept"
    )
    tokens = sum(Table(Path(places["good"]) / "records.arrow").column("length"))
    assert f"7 records, {tokens:,} tokens" in said[1]
    trained = 3 * sum(Table(Path(places["COMMONSENSE_STORE"]) / "records.arrow").column("length"))
    # Forward alone, 2 operations a weight and token, beside forward twice and backward.
    share = 100 * 4 * 2 * tokens / (4 * 2 * tokens + 6 * trained)
    assert f"{share:.2g} % of them in 4 validations" in text(plan, 200)
    last = planned("good", "default_hooks.validation.keep=last", "default_hooks.validation.interval=31", processes=1)
    assert step(last).facts[0] == (
        "every 31 iterations (7.75 steps) and after the last one: 3 times; the adapter of the last step is kept"
    )
    once = planned("good", "default_hooks.checkpoint.interval=-1", processes=1)
    assert step(once).facts[0].startswith("after the last step: once, there is nothing to choose from; ")


@pytest.mark.parametrize(
    ("data", "option", "said"),
    [
        ("answer", "", "has its loss on the answers alone, the config says 'all': prepare it again"),
        ("asked", "", "was made with template alpaca_as_asked, the config says alpaca"),
        ("foreign", "", "was made with another tokenizer"),
        ("good", "default_hooks.validation.data=/nowhere/store", "no token store in /nowhere/store"),
        ("good", "default_hooks.validation.keep=first", "keep is 'first': give best or last"),
        ("good", "default_hooks.validation.intervall=3", "did you mean interval?"),
        ("answer", "train_dataloader.dataset.loss=None", "training's store has its loss on 'all', that of the"),
    ],
)
def test_what_does_not_fit_is_refused(data: str, option: str, said: str, planned: Make) -> None:
    plan = planned(data, *filter(None, [option]))
    (problem,) = plan.problems
    assert said in problem


def test_records_that_are_trained_on_as_well_are_counted(planned: Make, places: dict[str, str]) -> None:
    plan = planned("good", f"default_hooks.validation.data={places['COMMONSENSE_STORE']}")
    assert "96 of these records are trained on as well" in text(plan, 200)
    one, other = (Table(Path(places[name]) / "records.arrow") for name in ("COMMONSENSE_STORE", "good"))
    assert trained_on(one, one) == 96
    assert trained_on(one, other) == 0


def test_a_file_is_tokenised_at_the_launch(planned: Make) -> None:
    plan = planned("held_out.json")
    assert plan.problems == []
    assert "is tokenised at the launch: give --validation" in step(plan).facts[1]


def test_of_a_llava(make: Make, llava_environment: dict[str, str]) -> None:
    store = llava_environment["LLAMA3_STORE"]
    plan = make("llava_llama3_lora", options=[f"default_hooks.validation.data={store}"], processes=1)
    assert plan.problems == []
    assert "120 of these records are trained on as well" in text(plan, 200)
    assert "in 1 validation" in text(plan, 200)
    blind = make_plan(read_setting(COMMONSENSE, options=[f"default_hooks.validation.data={store}"]))
    assert any("template llama3_chat" in problem for problem in blind.problems)
