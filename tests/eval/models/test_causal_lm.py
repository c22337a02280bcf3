"""A language model asked in batches answers as it does alone, with and without beams, adapter and dropout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import standins
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from moslora_xtuner.adapters import MosLoraConfig
from moslora_xtuner.errors import EvaluationError, UsageError
from moslora_xtuner.eval.models.causal_lm import CausalAnswerer, load_encoder, prompt_ids
from moslora_xtuner.eval.models.precision import Precision
from moslora_xtuner.eval.models.resolve import LocalModel, find, require_askable
from moslora_xtuner.eval.models.text_folders import TextFolders, text_folders
from moslora_xtuner.eval.models.text_model import TextModel
from moslora_xtuner.eval.tasks.prompts import Question, build
from moslora_xtuner.eval.tasks.registry import BENCHMARKS
from moslora_xtuner.export.form import LLAVA, ExportForm
from moslora_xtuner.llm.load import load_internlm2

TARGETS = ["q_proj", "k_proj", "v_proj", "up_proj", "down_proj"]
TEXTS = [
    "is it?",
    "a much longer question about the box, the cup and the key",
    "w\n\nAnswer format: true/false",
    "ab" * 20,
]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return standins.make_llama3(tmp_path_factory.mktemp("llm"))


def questions(beams: int) -> list[Question]:
    benchmark = BENCHMARKS["boolq"]
    return [Question(build(benchmark, {"question": text}), None, 8, beams) for text in TEXTS]


def alone(model: Any, tokenizer: Any, question: Question) -> str:
    """The authors' way but for dropout: one prompt, tokenised by the tokenizer itself, no padding."""
    ids = tokenizer(question.text, return_tensors="pt")["input_ids"]
    made = model.generate(ids, num_beams=question.beams, do_sample=False, max_new_tokens=question.max_new_tokens)
    whole: str = tokenizer.decode(made[0], skip_special_tokens=True)
    return whole.split("### Response:")[1].strip()


@pytest.mark.parametrize("beams", [1, 4])
def test_batched_equals_one_by_one(llama: Path, beams: int) -> None:
    """Four prompts of other lengths: no answer flips. Without the mask over the padding three of four do."""
    asked = questions(beams)
    answerer = CausalAnswerer(TextFolders(llama), device="cpu")
    tokenizer, model = AutoTokenizer.from_pretrained(llama), LlamaForCausalLM.from_pretrained(llama)
    single = [alone(model, tokenizer, question) for question in asked]
    assert answerer.answer_batch(asked) == single
    assert [text for question in asked for text in answerer.answer_batch([question])] == single
    assert len(set(single)) > 1


def test_the_prompt_by_hand() -> None:
    wanted = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request. \n\n"
        "                ### Instruction:\n                is it {so}?\n\nAnswer format: true/false\n\n"
        "                ### Response:\n                "
    )
    for name in ("boolq", "boolq_greedy", "SmallWorlds_boolq"):
        row = {"question": "is it {so}?\n\nAnswer format: true/false"}
        assert build(BENCHMARKS[name], row) == wanted


def test_the_prompt_is_the_tokenizers_own_ids(llama: Path) -> None:
    _, encoder = load_encoder(TextFolders(llama))
    texts = [question.text for question in questions(4)]
    assert prompt_ids(encoder, texts) == [AutoTokenizer.from_pretrained(llama)(text)["input_ids"] for text in texts]
    (written,) = prompt_ids(encoder, ["say <|eot_id|>"])
    assert encoder.eos[0] not in written  # what somebody wrote is text


@pytest.mark.parametrize("mixed", [False, True])
def test_an_adapter_answers_with_its_dropout_off(llama: Path, tmp_path: Path, mixed: bool) -> None:
    options: dict[str, Any] = {"r": 4, "lora_alpha": 64, "lora_dropout": 0.9, "target_modules": TARGETS}
    torch.manual_seed(1)
    kind = MosLoraConfig if mixed else LoraConfig
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(llama), kind(task_type="CAUSAL_LM", **options))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.1)
    tuned.save_pretrained(tmp_path / "adapter")
    asked = questions(4)
    model = find(str(tmp_path / "adapter"))
    assert isinstance(model, TextModel)
    answerer = CausalAnswerer(model.folders, device="cpu")
    found = answerer.answer_batch(asked)
    assert found == answerer.answer_batch(asked)
    merged = tuned.merge_and_unload().eval()
    tokenizer = AutoTokenizer.from_pretrained(llama)
    assert found == [alone(merged, tokenizer, question) for question in asked]
    assert found != CausalAnswerer(TextFolders(llama), device="cpu").answer_batch(asked)


def test_internlm2_is_asked_as_the_llama_that_it_is(tmp_path: Path) -> None:
    folder = standins.make_internlm2(tmp_path / "internlm2")
    answerer = CausalAnswerer(TextFolders(folder), device="cpu")
    rows = prompt_ids(answerer.encoder, [question.text for question in questions(1)])
    original = load_internlm2(str(folder)).eval()
    for row in rows:
        ids = torch.tensor([row])
        with torch.no_grad():
            wanted, got = original(input_ids=ids).logits, answerer.model(input_ids=ids).logits
        assert torch.allclose(wanted, got, atol=1e-4)
    assert len(answerer.answer_batch(questions(4))) == len(TEXTS)


def test_stops_are_the_tokenizers_and_the_models(llama: Path, tmp_path: Path) -> None:
    """LLaMA-3 Instruct names two in generation_config.json."""
    model = LlamaForCausalLM.from_pretrained(llama)
    model.generation_config.eos_token_id = [7, 9]
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(llama).save_pretrained(tmp_path)
    answerer = CausalAnswerer(TextFolders(tmp_path), device="cpu")
    assert answerer.stops == {7, 9, answerer.tokenizer.eos_token_id}
    a, b = answerer.tokenizer.encode("ab", add_special_tokens=False)
    assert answerer._text([a, 9, b]) == answerer.tokenizer.decode([a])


def test_what_a_folder_is(llama: Path, tmp_path: Path) -> None:
    assert text_folders(llama) == TextFolders(llama)
    assert text_folders(tmp_path) is None
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava", "text_config": {}}))
    assert text_folders(tmp_path) is None
    run = tmp_path / "run"
    (run / "adapters" / "llm").mkdir(parents=True)
    (run / "adapters" / "llm" / "adapter_config.json").write_text("{}")
    record = {"llm": str(llama), "visual_encoder": "", "template": "alpaca"}
    told = {**record, "pad_image_to_square": False, "visual_select_layer": -2, "format": 1}
    (run / "adapters" / "training.json").write_text(json.dumps(told))
    assert text_folders(run) == text_folders(run / "adapters") == TextFolders(llama, run / "adapters" / "llm")
    (tmp_path / "config.json").unlink()
    (tmp_path / "base").symlink_to(llama)
    (tmp_path / "adapter").symlink_to(run / "adapters" / "llm")
    (tmp_path / "moslora_export.json").write_text(json.dumps({"name": "apart"}))
    assert text_folders(tmp_path) == TextFolders(tmp_path / "base", tmp_path / "adapter")
    assert find(str(tmp_path)).name == "apart"
    (run / "adapters" / "training.json").write_text(json.dumps({**told, "llm": str(tmp_path / "gone")}))
    with pytest.raises(EvaluationError, match="gone, which is no model's folder here"):
        text_folders(run)


def test_a_hubs_name_is_its_folder_in_the_cache(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes name models of the hub; what was trained on one is asked where it lies, and nothing is fetched."""
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    snapshot.symlink_to(llama)
    refs = tmp_path / "hub" / "models--owner--name" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(tmp_path / "hub"))
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name, found in (("owner/name", TextFolders(snapshot, adapter)), ("owner/other", None)):
        (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": name}))
        if found is not None:
            assert text_folders(adapter) == found
            continue
        with pytest.raises(EvaluationError, match="owner/other, which is no model's folder here"):
            text_folders(adapter)


def test_words_and_pictures_are_not_mixed_up(llama: Path) -> None:
    model = find(str(llama), name="words")
    require_askable(model, [BENCHMARKS["boolq"]])
    with pytest.raises(UsageError, match="words is a language model and sees no pictures: MME cannot be asked"):
        require_askable(model, [BENCHMARKS["boolq"], BENCHMARKS["MME"]])
    form = ExportForm(LLAVA, "llava", "", "{input}")
    llava = LocalModel("llava", "llava", llama, form, "", Precision.fp32)
    with pytest.raises(UsageError, match="llava is no language model's folder: boolq"):
        require_askable(llava, [BENCHMARKS["boolq"]])
