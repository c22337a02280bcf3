"""A tiny language model as the judge: its verdicts are those of model.generate, each computed once."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from moslora_xtuner.errors import EvaluationError, UsageError
from moslora_xtuner.eval.judges.base import Ask, JudgeAway, Refused, VerdictLog
from moslora_xtuner.eval.judges.local_judge import LocalJudge
from moslora_xtuner.eval.judges.openai_judge import JudgeAddress

TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<end>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_judge(folder: Path, *, template: str | None = TEMPLATE, context: int = 256, seed: int = 0) -> Path:
    """A random LLaMA of two layers that reads bytes."""
    special = ["<s>", "<end>", "<|user|>", "<|assistant|>"]
    letters = [*special, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE({letter: place for place, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<end>", additional_special_tokens=special[2:]
    )
    if template is not None:
        fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(letters), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=context, bos_token_id=0, eos_token_id=1, initializer_range=0.4,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_judge(tmp_path_factory.mktemp("judges") / "tiny-judge")


def by_hand(folder: Path, text: str, new: int) -> str:
    """The greedy answer token by token, without `generate`."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).float(), AutoTokenizer.from_pretrained(folder)
    ids = tokenizer(f"<|user|>{text}<end><|assistant|>", add_special_tokens=False)["input_ids"]
    start = len(ids)
    while len(ids) < start + new and (len(ids) == start or ids[-1] != 1):
        with torch.no_grad():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return str(tokenizer.decode(ids[start:], skip_special_tokens=True)).strip()


def test_the_verdict_is_the_models_own_greedy_answer(folder: Path, tmp_path: Path) -> None:
    mine = LocalJudge(folder, VerdictLog(tmp_path / "v.jsonl"), new_tokens=12, device="cpu")
    texts = ["Is it red?", "是吗？", "yes or no"]
    expected = [by_hand(folder, text, 12) for text in texts]
    assert all(expected)
    assert len(set(expected)) == 3
    assert [mine.reply(text, Ask()).text for text in texts] == expected
    short = mine.reply(texts[0], Ask(max_tokens=3))
    assert (short.text, short.cut) == (by_hand(folder, texts[0], 3), True)
    assert short.text != expected[0]
    assert mine.reply(texts[0], Ask(max_tokens=1000)).text == expected[0]  # new_tokens is the limit
    # Greedy at any temperature, and each time: the same reply, not computed again.
    assert mine.reply(texts[1], Ask(temperature=0.5, attempt=2)).text == expected[1]
    assert mine.asked == 4
    assert not mine.repeats


def test_threads_ask_once_and_a_second_start_asks_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"question {n % 4}" for n in range(24)]
    mine = LocalJudge(folder, VerdictLog(tmp_path / "v.jsonl"), new_tokens=6, device="cpu")
    with ThreadPoolExecutor(8) as pool:
        found = [reply.text for reply in pool.map(lambda text: mine.reply(text, Ask()), texts)]
    assert mine.asked == 4
    assert found[:4] == [by_hand(folder, text, 6) for text in texts[:4]]
    mine.close()

    def no_model(*_: object, **__: object) -> None:
        raise AssertionError("loaded for nothing")

    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", no_model)
    again = LocalJudge(moved, VerdictLog(tmp_path / "v.jsonl"), new_tokens=6, device="cpu")
    assert [again.reply(text, Ask()).text for text in texts] == found
    assert again.asked == 0


def test_other_weights_are_another_judge(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "v.jsonl"
    LocalJudge(folder, VerdictLog(file), new_tokens=6, device="cpu").reply("x", Ask())
    other = LocalJudge(make_judge(tmp_path / "tiny-judge", seed=1), VerdictLog(file), new_tokens=6, device="cpu")
    assert other.reply("x", Ask()).text == by_hand(tmp_path / "tiny-judge", "x", 6)
    assert (other.asked, len(other.verdicts)) == (1, 2)


def test_a_question_longer_than_the_context(tmp_path: Path) -> None:
    made = make_judge(tmp_path / "short", context=20)
    mine = LocalJudge(made, VerdictLog(tmp_path / "v.jsonl"), device="cpu")
    assert mine.reply("x" * 12, Ask()).text == by_hand(made, "x" * 12, 5)  # with three special tokens 15 of the 20
    with pytest.raises(Refused, match=r"reads 20 tokens at most, a question to it has 33"):
        mine.reply("x" * 30, Ask())
    assert len(mine.verdicts) == 1


def test_folders_that_are_no_judge(folder: Path, export: Path, tmp_path: Path) -> None:
    def refused(at: Path, words: str) -> None:
        with pytest.raises(EvaluationError, match=words):
            LocalJudge(at, VerdictLog(tmp_path / "v.jsonl"))

    (tmp_path / "empty").mkdir()
    refused(tmp_path / "missing", r"missing is no folder of a model")
    refused(tmp_path / "empty", r"empty is no folder of a model")
    refused(make_judge(tmp_path / "plain", template=None), "has no chat template")
    refused(export, "holds a llava, which is no language model")
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "config.json").write_text('{"model_type": "no such"}')
    refused(broken, "cannot be read as a model")
    (broken / "model.safetensors").unlink()
    refused(broken, "no weights in safetensors")
    torn = shutil.copytree(folder, tmp_path / "torn")
    weights = torn / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(JudgeAway, match="torn cannot be loaded"):
        LocalJudge(torn, VerdictLog(tmp_path / "v.jsonl"), device="cpu").reply("x", Ask())


def test_its_address(tmp_path: Path) -> None:
    found = JudgeAddress.read(f"local:{tmp_path}/my judge@1/")
    assert (found.folder, found.url, found.model) == (tmp_path.resolve() / "my judge@1", None, "my judge@1")
    assert found.file_name == "my-judge-1"
    assert JudgeAddress.read("local:.").model == Path.cwd().name
    with pytest.raises(UsageError, match="local:FOLDER"):
        JudgeAddress.read("local:")
    assert json.dumps(JudgeAddress.read("localhost").url) == "null"
