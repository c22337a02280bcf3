"""The exported chat template gives the ids that training gave for the same conversation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import standins
from jinja2.exceptions import TemplateError

from moslora_xtuner.data.reading.records import Record, read_record
from moslora_xtuner.data.tokens.chat_templates import get_template
from moslora_xtuner.data.tokens.tokenise import IMAGE_TOKEN_INDEX, Encoder, tokenise
from moslora_xtuner.export.processor import engine_tokenizer
from moslora_xtuner.llm.load import load_tokenizer

FAMILIES = {"llama3": "llama3_chat", "internlm2": "internlm2_chat", "internlm2 with a first space": "internlm2_chat"}
WORDS = {
    "one turn": [("What colour?", "Red.")],
    "picture first": [("<image>\nWhat colour?", "Red.")],
    "picture last": [("What colour?\n<image>", "Red.")],
    "picture between": [("What <image> colour?  ", " Red, with a space.")],
    "picture alone": [("<image>", "A cat.")],
    "several turns": [("<image>\nWhat?", "A cat."), ("  Where ? ", "On the mat.\n"), ("你好，世界", "{'a': [1]}")],
    "several pictures": [("<image>\n<image>\nWhat differs?", "Nothing."), ("And <image> this?", "All.")],
    "odd": [("{input} {{ bos_token }} {% x %} \\n \"quoted\" 'so'", "😀 naïve\tтab")],
}


@pytest.fixture(scope="module", params=FAMILIES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("model") / "llm"
    name = str(request.param)
    if name == "llama3":
        standins.make_llama3(folder)
    else:
        standins.make_internlm2(folder, prefix=name.endswith("space"))
    return folder, FAMILIES[name]


def trained(folder: Path, template: str, turns: list[tuple[str, str]], system: str = "") -> list[int]:
    marks = sum(human.count("<image>") for human, _ in turns)
    record = Record("x", ("a.png",) * marks, tuple(turns), system)
    ((ids, _),) = tokenise([record], Encoder(load_tokenizer(folder)), get_template(template))
    return ids


def rendered(tokenizer: Any, messages: list[dict[str, Any]], **options: Any) -> list[int]:
    token = tokenizer.convert_tokens_to_ids("<image>")
    ids: list[int] = tokenizer.apply_chat_template(messages, tokenize=True, **options)
    # Through its text, as `processor(text=...)` and `LLM.generate` do: no second BOS.
    text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
    assert tokenizer(text)["input_ids"] == ids
    assert set(tokenizer(text)) == {"input_ids", "attention_mask"}
    return [IMAGE_TOKEN_INDEX if index == token else index for index in ids]


def messages(turns: list[tuple[str, str]], system: str | None = None, parts: bool = False) -> list[dict[str, Any]]:
    """A conversation as APIs have it; with `parts` as lists, the pictures in their places."""

    def said(text: str) -> Any:
        if not parts:
            return text
        pieces: list[dict[str, str]] = []
        for place, piece in enumerate(text.split("<image>")):
            if place:
                pieces.append({"type": "image"})
            if piece := piece.removeprefix("\n") if place else piece:
                pieces.append({"type": "text", "text": piece})
        return pieces

    found = [] if system is None else [{"role": "system", "content": said(system)}]
    for human, answer in turns:
        found += [{"role": "user", "content": said(human)}, {"role": "assistant", "content": said(answer)}]
    return found


@pytest.mark.parametrize("system", ["", "Be brief.\nAnswer in one word."])
@pytest.mark.parametrize("words", WORDS)
def test_the_ids_of_training(model: tuple[Path, str], words: str, system: str) -> None:
    folder, template = model
    tokenizer = engine_tokenizer(str(folder), get_template(template))
    turns = WORDS[words]
    wanted = trained(folder, template, turns, system)
    assert rendered(tokenizer, messages(turns, system or None)) == wanted
    if words != "several pictures":
        assert rendered(tokenizer, messages(turns, system or None, parts=True)) == wanted
    # Up to the last answer: what an engine generates from, and what it goes on with.
    answer = turns[-1][1]
    before = trained(folder, template, [*turns[:-1], (turns[-1][0], "")], system)
    empty = trained(folder, template, [("", "")])
    suffix = len(empty) - len(trained_prompt(folder, template, ""))
    prompt = messages(turns, system or None)[:-1]
    assert rendered(tokenizer, prompt, add_generation_prompt=True) == before[: len(before) - suffix]
    if answer == answer.strip() and "naïve" not in answer:  # transformers cuts blanks off the message it goes on with
        begun = rendered(tokenizer, messages(turns, system or None), continue_final_message=True)
        assert begun == wanted[: len(begun)]
        assert len(wanted) - len(begun) == suffix


def trained_prompt(folder: Path, template: str, human: str) -> list[int]:
    encoder = Encoder(load_tokenizer(folder))
    (ids,) = encoder([get_template(template).instruction.format(input=human)])
    return encoder.bos + ids


def test_a_llava_is_asked_in_the_form_of_its_training(model: tuple[Path, str]) -> None:
    """Also where a language model's evaluation would ask otherwise."""
    folder, _ = model
    template = get_template("alpaca")
    written = engine_tokenizer(str(folder), template).apply_chat_template(
        messages([("What is it?", "")])[:1], add_generation_prompt=True, tokenize=False
    )
    assert written.endswith(template.instruction.format(input="What is it?"))


def test_several_pictures_as_parts_stay_where_they_are(model: tuple[Path, str]) -> None:
    folder, template = model
    tokenizer = engine_tokenizer(str(folder), get_template(template))
    image, text = {"type": "image"}, {"type": "text", "text": "What differs?"}
    turns = [("<image>\n<image>\nWhat differs?", "All."), ("What differs?<image>\n<image>\n", "So.")]
    found = [
        {"role": "user", "content": [image, image, text]},
        {"role": "assistant", "content": [{"type": "text", "text": "All."}]},
        {"role": "user", "content": [text, {"type": "image_url", "image_url": {"url": "x"}}, image]},
        {"role": "assistant", "content": "So."},
    ]
    assert rendered(tokenizer, found) == trained(folder, template, turns)


def test_the_system_prompt_of_the_training_opens_what_has_none(model: tuple[Path, str]) -> None:
    folder, template = model
    own = 'Say "yes" or \\no.\n'
    tokenizer = engine_tokenizer(str(folder), get_template(template), own)
    turns = WORDS["picture first"]
    assert rendered(tokenizer, messages(turns)) == trained(folder, template, turns, own)
    assert rendered(tokenizer, messages(turns, "Other.")) == trained(folder, template, turns, "Other.")
    assert rendered(tokenizer, messages(turns, "")) == trained(folder, template, turns)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ([{"role": "assistant", "content": "x"}], "user first"),
        ([{"role": "user", "content": "x"}, {"role": "user", "content": "y"}], "take turns"),
        ([{"role": "user", "content": "x"}, {"role": "system", "content": "y"}], "comes first"),
        ([{"role": "tool", "content": "x"}], "not tool"),
        ([{"role": "user", "content": [{"type": "video"}]}], "not video"),
    ],
)
def test_what_was_never_trained_is_refused(model: tuple[Path, str], wrong: list[dict[str, Any]], why: str) -> None:
    folder, template = model
    with pytest.raises(TemplateError, match=why):
        engine_tokenizer(str(folder), get_template(template)).apply_chat_template(wrong, tokenize=False)


def test_record_by_record_as_the_store_has_them(llava_environment: dict[str, str]) -> None:
    """The mix's stand-in: every record's ids in the token store, from its JSON by the template."""
    import json

    from moslora_xtuner.data.tokens.store import open_store

    images = Path(llava_environment["LLAVA_IMAGES"])
    (raw,) = images.parent.glob("*.json")
    for family, template in (("LLAMA3_8B", "llama3_chat"), ("INTERNLM2_7B", "internlm2_chat")):
        tokenizer = engine_tokenizer(llava_environment[family], get_template(template))
        _, table = open_store(Path(llava_environment[family.partition("_")[0] + "_STORE"]), images)
        stored = {table.row(place)["id"]: table.row(place)["input_ids"].tolist() for place in range(len(table))}
        for place, row in enumerate(json.loads(raw.read_text())):
            record, _ = read_record(row, place)
            assert record is not None
            turns = list(record.turns)
            assert rendered(tokenizer, messages(turns, record.system or None)) == stored[record.id]
            assert rendered(tokenizer, messages(turns, record.system or None, parts=True)) == stored[record.id]
