"""A language model is asked with the tokens of its training or its evaluation: runs, exports, folders, adapters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import standins
import torch
from jinja2.exceptions import TemplateError
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.causal_lm import MosLoraCausalLM
from moslora_xtuner.data.prepare import prepare
from moslora_xtuner.data.reading.records import Record
from moslora_xtuner.data.tokens.chat_templates import get_template
from moslora_xtuner.data.tokens.store import open_store
from moslora_xtuner.data.tokens.tokenise import Encoder, tokenise
from moslora_xtuner.errors import DataError, EvaluationError, UsageError
from moslora_xtuner.eval.models.causal_lm import CausalAnswerer, load_encoder, prompt_ids
from moslora_xtuner.eval.models.conversation import TextPartner, Turn, partner
from moslora_xtuner.eval.models.precision import Precision
from moslora_xtuner.eval.models.resolve import find
from moslora_xtuner.eval.models.text_folders import TextFolders, text_folders
from moslora_xtuner.eval.models.text_form import Speech, TextForm, text_form
from moslora_xtuner.eval.tasks.prompts import Question, build
from moslora_xtuner.eval.tasks.registry import BENCHMARKS
from moslora_xtuner.export.merge import export
from moslora_xtuner.training.artifacts import TrainingRecord
from moslora_xtuner.training.hooks import write_parts

ASKED = "Is water wet?\n\nAnswer format: true/false {input} {{ x }} <image>"
ASKED_PLAIN = "What colour is this?\n\nred/green"
CHATML = (
    "{% for m in messages %}{{ '<|start_header_id|>' + m['role'] + '\\n' + m['content'] + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant\\n' }}{% endif %}"
)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standins.make_llama3(tmp_path_factory.mktemp("llm") / "base")


def make_run(base: Path, run: Path, template: str, system: str = "") -> Path:
    """What a training on text alone leaves."""
    config = MosLoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = MosLoraCausalLM(AutoModelForCausalLM.from_pretrained(base), config, use_activation_checkpointing=False)
    torch.manual_seed(3)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data.normal_(std=0.2)
    folder = run / "adapters"
    folder.mkdir(parents=True)
    write_parts(model, folder)
    TrainingRecord(
        llm=str(base), visual_encoder="", template=template, pad_image_to_square=False, visual_select_layer=0,
        dtype={"llm": "float32"}, system=system,
    ).write(folder)  # fmt: skip
    return run


@pytest.fixture(scope="module")
def alpaca(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run, and its exports beside it."""
    folder = tmp_path_factory.mktemp("alpaca")
    run = make_run(llama, folder / "run", "alpaca")
    for form in ("hf", "lora"):
        export(run, folder / form, format=form)
    return folder


def speech(folder: Path, form: TextForm | None = None) -> Speech:
    folders = text_folders(folder)
    assert folders is not None
    return Speech(folders, *load_encoder(folders), form or text_form(folder))


def ids(folder: Path, *words: str, system: str | None = None, form: TextForm | None = None) -> list[int]:
    turns = [Turn(("user", "assistant")[place % 2], text) for place, text in enumerate(words)]
    return speech(folder, form).ids(turns, system)


@pytest.mark.parametrize(
    "place", ["run", "run/adapters", "run/adapters/llm", "hf", "lora", "lora/base", "lora/adapter"]
)
def test_trained_on_alpaca_it_is_asked_as_evaluation_asks(alpaca: Path, llama: Path, place: str) -> None:
    (wanted,) = prompt_ids(load_encoder(TextFolders(llama))[1], [build(BENCHMARKS["boolq"], {"question": ASKED})])
    found = speech(alpaca / place)
    assert found.ids([Turn("user", ASKED)]) == wanted
    assert not found.remembers
    with pytest.raises(UsageError, match="single questions: a conversation cannot go on"):
        found.ids([Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c")])


@pytest.mark.parametrize("place", ["hf", "lora/base"])
def test_engines_ask_so_too(alpaca: Path, llama: Path, place: str) -> None:
    """By the exported tokenizer's chat template; what needs eyes or a second turn is refused."""
    tokenizer = AutoTokenizer.from_pretrained(alpaca / place)
    (wanted,) = prompt_ids(load_encoder(TextFolders(llama))[1], [build(BENCHMARKS["boolq"], {"question": ASKED})])
    asked: list[dict[str, Any]] = [{"role": "user", "content": ASKED}]
    assert tokenizer.apply_chat_template(asked, add_generation_prompt=True) == wanted
    parts = [{"role": "user", "content": [{"type": "text", "text": ASKED}]}]
    assert tokenizer.apply_chat_template(parts, add_generation_prompt=True) == wanted
    image = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "x"}]}]
    with pytest.raises(TemplateError, match="this model reads text, not image"):
        tokenizer.apply_chat_template(image, add_generation_prompt=True)
    longer = [*asked, {"role": "assistant", "content": "true"}, {"role": "user", "content": "Why?"}]
    with pytest.raises(TemplateError, match="trained on single questions"):
        tokenizer.apply_chat_template(longer, add_generation_prompt=True)


@pytest.mark.parametrize("template", ["alpaca_as_asked", "llama3_chat"])
def test_it_is_asked_with_the_tokens_of_the_store(llama: Path, tmp_path: Path, template: str) -> None:
    """Each record's tokens up to its answer, by run, export and exported tokenizer."""
    texts = {"0": "Is water wet?\n\nyes/no", "1": " What <|eot_id|> is it? ", "2": "Say <s> and </s>\t{input}."}
    rows = [
        {"id": name, "conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": "It is so."}]}
        for name, text in texts.items()
    ]
    (tmp_path / "train.json").write_text(json.dumps(rows))
    prepare(tmp_path / "train.json", tmp_path, llama, tmp_path / "store", template=template, loss="answer")
    _, table = open_store(tmp_path / "store", tmp_path)
    run = make_run(llama, tmp_path / "run", template)
    made = export(run, tmp_path / "made")
    engine = AutoTokenizer.from_pretrained(made)
    for place in range(len(table)):
        row = table.row(place)
        asked = [i for i, label in zip(row["input_ids"].tolist(), row["labels"].tolist(), strict=True) if label == -100]
        text = texts[row["id"]]
        assert ids(run, text) == ids(made, text) == asked
        if "<|" not in text:  # an engine lets people write control tokens
            assert engine.apply_chat_template([{"role": "user", "content": text}], add_generation_prompt=True) == asked


def test_a_system_prompt_is_the_trainings_or_the_askers(llama: Path, tmp_path: Path) -> None:
    for template in ("alpaca", "llama3_chat"):
        run = make_run(llama, tmp_path / template, template, system="Be brief.")
        assert ids(run, "a") == ids(run, "a", system="Be brief.") != ids(run, "a", system="Be long.")
        bare = ids(run, "a", system="")
        assert bare == ids(run, "a", form=TextForm(template))
        assert len(bare) < len(ids(run, "a"))
        made = export(run, tmp_path / f"{template}-made")
        engine = AutoTokenizer.from_pretrained(made)
        assert engine.apply_chat_template([{"role": "user", "content": "a"}], add_generation_prompt=True) == ids(
            run, "a"
        )
        assert ids(made, "a") == ids(run, "a")
        assert ids(made, "a", system="Be long.") == ids(run, "a", system="Be long.")


def test_a_chat_goes_on_with_the_tokens_of_training(llama: Path, tmp_path: Path) -> None:
    run = make_run(llama, tmp_path / "run", "llama3_chat")
    engine = AutoTokenizer.from_pretrained(export(run, tmp_path / "made"))
    assert speech(run).remembers
    words = ("What is it?", "A nine.", "And this?")
    turns = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(words)]
    assert ids(run, *words) == engine.apply_chat_template(turns, add_generation_prompt=True)
    assert speech(run).stops == {engine.convert_tokens_to_ids("<|eot_id|>")}


@pytest.fixture(scope="module")
def chat(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a chat template of its own."""
    folder = tmp_path_factory.mktemp("chat") / "model"
    AutoModelForCausalLM.from_pretrained(llama).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder)
    return folder


def test_other_folders_are_asked_by_their_own_chat_template(chat: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat)
    words = ("What is it?", "A nine.", "And this?")
    turns = [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(words)]
    assert ids(chat, *words) == tokenizer.apply_chat_template(turns, add_generation_prompt=True)
    asked = [{"role": "system", "content": "Be brief."}, turns[0]]
    assert ids(chat, words[0], system="Be brief.") == tokenizer.apply_chat_template(asked, add_generation_prompt=True)
    eot = tokenizer.convert_tokens_to_ids("<|eot_id|>")
    assert ids(chat, "say <|eot_id|>").count(eot) == 1  # what people write is text


def test_a_template_without_a_place_for_a_system_prompt(chat: Path) -> None:
    found = speech(chat)
    found.tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}{% endif %}{% endfor %}"
    )
    assert found.ids([Turn("user", "ab")]) == found.encoder(["ab"])[0]
    with pytest.raises(UsageError, match="no place for a system prompt"):
        found.ids([Turn("user", "ab")], "Be brief.")
    found.tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(UsageError, match="refuses this conversation: System role not supported"):
        found.ids([Turn("user", "ab")], "Be brief.")


def test_without_a_chat_template_words_are_asked_as_they_stand(
    llama: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    AutoModelForCausalLM.from_pretrained(llama).save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    found = speech(tmp_path)
    assert found.ids([Turn("user", "Water is")]) == tokenizer("Water is")["input_ids"]
    assert not found.remembers
    with pytest.raises(UsageError, match="a system prompt has no place"):
        found.ids([Turn("user", "a")], "Be brief.")
    asked = partner(find(str(tmp_path)))
    assert "has no chat template: words are asked as they stand" in capsys.readouterr().err
    with pytest.raises(UsageError, match="sees no pictures"):
        list(asked.reply([Turn("user", "a", (b"x",))]))
    with pytest.raises(DataError, match="the model reads 2048: begin a new one"):
        list(asked.reply([Turn("user", "ab " * 3000)]))


def test_an_adapter_of_peft_is_asked_by_its_own_template_else_its_bases(
    chat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(AutoModelForCausalLM.from_pretrained(chat), config).save_pretrained(str(tmp_path))
    assert ids(tmp_path, "a b") == ids(chat, "a b")
    tokenizer = AutoTokenizer.from_pretrained(chat)
    tokenizer.chat_template = {"tool_use": "?", "default": "{{ messages[0]['content'] }}!"}
    tokenizer.save_pretrained(tmp_path)
    assert ids(tmp_path, "a b") == tokenizer("a b!", add_special_tokens=False)["input_ids"]
    partner(find(str(tmp_path)))
    assert "does not say in what form it was trained" in capsys.readouterr().err
    named = partner(find(str(tmp_path)), "alpaca")
    assert isinstance(named, TextPartner)
    assert named.speech.ids([Turn("user", "a")]) == ids(chat, "a", form=TextForm("alpaca"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("place", ["run", "lora"])
def test_the_answer_is_evaluations(alpaca: Path, place: str) -> None:
    model = find(str(alpaca / place), precision=Precision.fp32)
    folders = text_folders(alpaca / place)
    assert folders is not None
    texts = ["Is water wet?", "What is the colour of the box?"]
    wanted = CausalAnswerer(folders, precision=Precision.fp32).answer_batch(
        [Question(build(BENCHMARKS["boolq"], {"question": text}), None, 12) for text in texts]
    )
    asked = partner(model)
    pieces = [list(asked.reply([Turn("user", text)], new_tokens=12)) for text in texts]
    assert ["".join(each).strip() for each in pieces] == wanted
    assert len(set(wanted)) > 1 or len(wanted[0]) > 3


@pytest.mark.parametrize("template", ["alpaca_as_asked", "internlm2_chat"])
def test_an_internlm2s_tokenizer_gives_the_trainings_tokens(tmp_path: Path, template: str) -> None:
    folder = standins.make_internlm2(tmp_path / "internlm2")
    found = Speech(TextFolders(folder), *load_encoder(TextFolders(folder)), TextForm(template))
    encoder = Encoder(found.tokenizer, plain=get_template(template).plain)
    ((wanted, labels),) = tokenise(
        [Record("0", (), ((ASKED_PLAIN, "It is."),))], encoder, get_template(template), "answer"
    )
    asked = found.ids([Turn("user", ASKED_PLAIN)])
    assert wanted[: len(asked)] == asked
    assert labels[len(asked) - 1] == -100 != labels[len(asked)]


def test_a_form_that_cannot_be(llama: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"has no token <\|im_end\|> or <\|im_start\|>: internlm2_chat is not its form"
    ):
        speech(llama, TextForm("internlm2_chat"))
    with pytest.raises(UsageError, match="no chat template 'vicuna'"):
        partner(find(str(llama)), "vicuna")
    with pytest.raises(UsageError, match="no chat template 'vicuna'"):  # of a run by another version, say
        speech(llama, TextForm("vicuna"))
    (tmp_path / "moslora_export.json").write_text("{}")
    with pytest.raises(EvaluationError, match=r"moslora_export.json cannot be used"):
        text_form(tmp_path)
