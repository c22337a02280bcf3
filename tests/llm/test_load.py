"""Checkpoints are loaded by family, and never run code of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from moslora_xtuner.errors import ConfigError
from moslora_xtuner.llm.families import family, read_config
from moslora_xtuner.llm.load import load_internlm2, load_llama, load_llm, load_tokenizer


def test_each_family_by_its_class(llama3: Path, internlm2: Path) -> None:
    assert type(load_llm(llama3)).__name__ == "LlamaForCausalLM"
    model = load_llm(internlm2)
    assert type(model).__module__ == "xtuner._lite.modelings.internlm2.modeling_internlm2"
    assert type(model.model.layers[0].attention).__name__ == "InternLM2SdpaAttention"
    assert type(load_tokenizer(internlm2)).__name__ == "InternLM2Tokenizer"


def test_attention_is_the_one_that_was_asked_for(internlm2: Path) -> None:
    ids = torch.arange(24).reshape(2, 12)
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    with torch.no_grad():
        outputs = [
            load_internlm2(str(internlm2), attn_implementation=kind).eval()(input_ids=ids, attention_mask=mask).logits
            for kind in ("eager", "sdpa")
        ]
    # Both mask what comes later and what is padding; rounding apart they agree.
    torch.testing.assert_close(outputs[0][mask.bool()], outputs[1][mask.bool()], rtol=0, atol=1e-4)


def test_another_family_is_refused_in_words(llama3: Path, internlm2: Path) -> None:
    with pytest.raises(ConfigError, match="type 'internlm2', the config is for 'llama': give weights of that family"):
        load_llama(str(internlm2))
    with pytest.raises(ConfigError, match="type 'llama', the config is for 'internlm2'"):
        load_internlm2(str(llama3))


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no checkpoint at"):
        family(tmp_path / "none" / "sub")
    with pytest.raises(ConfigError, match=r"it has no config\.json"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigError, match="no checkpoint at"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    with pytest.raises(ConfigError, match="'gpt2': llama or internlm2 are supported"):
        load_llm(tmp_path)
    with pytest.raises(ConfigError, match="no tokenizer at"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ConfigError, match="names no model_type"):
        family(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "null", '{"version": "1.0"}', '{"model": {"type": "BPE", "vocab": {}, "merges": ["a b"]}}', "cut"],
)
def test_a_damaged_tokenizer_is_refused_in_words(llama3: Path, tmp_path: Path, content: str) -> None:
    for file in llama3.glob("*token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    load_tokenizer(tmp_path)
    file = tmp_path / "tokenizer.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text[: len(text) // 2] if content == "cut" else content, encoding="utf-8")
    with pytest.raises(ConfigError, match="tokenizer at"):
        load_tokenizer(tmp_path)


def test_a_tokenizer_file_without_end_is_not_read(llama3: Path, tmp_path: Path) -> None:
    for file in llama3.glob("*token*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        with (tmp_path / name).open("ab") as file:
            before = file.tell()
            file.truncate(200 * 2**20)  # a hole: it takes no room
        with pytest.raises(ConfigError, match=f"{name} has 200 MiB, more than the 100"):
            load_tokenizer(tmp_path)
        (tmp_path / name).open("ab").truncate(before)
