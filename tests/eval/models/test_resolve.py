"""What MODEL may be: every form of one tuned model gives the same answers."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tuned_runs import tuned_model, write_run

from moslora_xtuner.errors import EvaluationError, UsageError
from moslora_xtuner.eval.models import resolve
from moslora_xtuner.eval.models.chat_format import chat_format
from moslora_xtuner.eval.models.precision import Precision
from moslora_xtuner.eval.models.resolve import LocalModel, find
from moslora_xtuner.eval.tasks.prompts import Question
from moslora_xtuner.export.merge import export


@pytest.fixture(scope="module")
def run(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished MoSLoRA run."""
    return write_run(
        tuned_model(tiny_base, "moslora"),
        tiny_base / "llm",
        tiny_base / "visual_encoder",
        tmp_path_factory.mktemp("run") / "mine",
    )


@pytest.fixture(scope="module")
def questions(picture: Callable[..., bytes]) -> list[Question]:
    return [Question(f"which digit is {number}?", picture(number), 8) for number in range(4)]


def answers(word: Path | str, questions: list[Question], **options: Any) -> list[str]:
    model = find(str(word), quiet=True, **options)
    ((_, texts),) = model.pool(1, 8).run([questions])
    return texts


def test_every_form_answers_alike(run: Path, questions: list[Question], tmp_path: Path) -> None:
    merged = answers(export(run, tmp_path / "hf"), questions)
    assert len(set(merged)) > 1
    assert answers(run, questions) == merged
    assert answers(run / "adapters", questions) == merged
    assert answers(export(run, tmp_path / "lora", format="lora"), questions) == merged


def test_a_run_is_exported_once_and_again_when_it_changes(
    run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    first = find(str(copy))
    assert isinstance(first, LocalModel)
    assert first.name == "copy"
    assert first.folder.is_relative_to(os.environ["MOSLORA_CACHE"])
    capfd.readouterr()
    again = find(str(copy))
    assert "exporting" not in capfd.readouterr().err
    assert again == first
    projector = copy / "adapters" / "projector" / "model.safetensors"
    content = bytearray(projector.read_bytes())
    content[-3] ^= 1
    projector.write_bytes(content)
    assert find(str(copy), quiet=True).sha256 != first.sha256


def test_a_published_llava_is_asked_in_its_own_chat_form(export: Path, tmp_path: Path) -> None:
    """Without our file; one with the same template written as a chat template is asked the same."""
    from transformers import AutoTokenizer, CLIPImageProcessor, LlavaProcessor

    folder = Path(shutil.copytree(export, tmp_path / "published"))
    (folder / "moslora_export.json").unlink()
    with pytest.raises(EvaluationError, match="chat template"):
        find(str(folder))
    template = (
        "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
        "{% for part in m.content %}{% if part.type == 'image' %}<image>\n{% else %}{{ part.text }}{% endif %}"
        "{% endfor %}<|eot_id|>{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    processor = LlavaProcessor(
        CLIPImageProcessor.from_pretrained(folder),
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=template,
    )
    processor.save_pretrained(folder)
    model, ours = find(str(folder)), find(str(export))
    assert isinstance(model, LocalModel)
    assert isinstance(ours, LocalModel)
    question = "<image>\nWhat is {this}?"
    assert model.form.prompt(question) == ours.form.prompt(question)
    assert (model.form.bos, model.form.pad_image_to_square, model.name) == (True, False, "published")


def test_a_model_in_the_hubs_cache_is_found_by_its_name(
    export: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A published LLaVA without our file is called by its repository, not by the commit that its folder is named."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    commit = "a" * 40

    def put(name: str, content: Path) -> Path:
        root = tmp_path / f"models--owner--{name}"
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(commit)
        return Path(shutil.copytree(content, root / "snapshots" / commit))

    snapshot = put("exported", export)
    model = find("owner/exported")
    assert isinstance(model, LocalModel)
    assert (model.name, model.folder, model.source) == ("tiny", snapshot, "owner/exported")
    published = put("published", export)
    (published / "moslora_export.json").unlink()
    form = dataclasses.replace(chat_format(export), name=commit)  # as a chat template would be read there
    monkeypatch.setattr(resolve, "chat_format", lambda folder: form)
    assert find("owner/published").name == "published"
    put("adapters-of-mine", run)
    assert find("owner/adapters-of-mine", quiet=True).name == "adapters-of-mine"
    assert find("owner/published", name="mine").name == "mine"


def test_the_number_format_belongs_to_the_model(export: Path, questions: list[Question]) -> None:
    found = {kind: find(str(export), precision=kind) for kind in Precision}
    assert {kind: model.facts["precision"] for kind, model in found.items()} == {kind: kind.value for kind in Precision}
    plain = answers(export, questions, precision=Precision.fp32)
    assert answers(export, questions) == plain  # the default without a GPU
    model: Any = find(str(export), precision=Precision.bf16).pool(1, 8)
    assert str(model.answerer.model.dtype) == "torch.bfloat16"
    assert len(answers(export, questions, precision=Precision.bf16)) == 4


def test_in_four_bits_the_language_model_alone_is_quantised(
    new_export: Callable[..., Path], questions: list[Question], tmp_path: Path
) -> None:
    import torch
    from bitsandbytes.nn import Linear4bit

    export = new_export(tmp_path / "wide", width=64)  # one block of quantised weights
    pool: Any = find(str(export), precision=Precision.four_bit).pool(1, 8)
    model = pool.answerer.model
    four_bit = {name for name, module in model.named_modules() if isinstance(module, Linear4bit)}
    assert len(four_bit) == 2 * 7
    assert all(name.startswith("language_model.model.layers") for name in four_bit)
    assert model.vision_tower.dtype == torch.float32
    ((_, texts),) = pool.run([questions])
    assert len(texts) == 4


def test_what_is_no_model_is_said(tmp_path: Path, export: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing is no folder: give an export"):
        find("nothing")
    with pytest.raises(UsageError, match=r"not in the hub's cache.*--download"):
        find("owner/name")
    with pytest.raises(UsageError, match="no model that can be evaluated"):
        find(str(tmp_path))
    for kind in ("llava", "llava_llama"):  # as LLaVA's authors and XTuner publish: no parts of Hugging Face's
        other = {"model_type": kind, "architectures": ["LlavaLlamaForCausalLM"], "mm_vision_tower": "x"}
        (tmp_path / "config.json").write_text(json.dumps(other))
        with pytest.raises(EvaluationError, match=r"another layout .*LlavaLlamaForCausalLM.*-hf or -transformers"):
            find(str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UsageError, match="no model that can be evaluated"):
        find(str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(EvaluationError, match="cannot be read"):
        find(str(tmp_path))
