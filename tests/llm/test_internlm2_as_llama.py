"""InternLM2 as LLaMA computes the same; the fused projection comes apart as the model uses it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from standins import as_llama
from xtuner._lite.modelings.internlm2 import InternLM2Config, InternLM2ForCausalLM

from moslora_xtuner.errors import ExportError
from moslora_xtuner.llm.internlm2_as_llama import split_wqkv
from moslora_xtuner.llm.load import load_internlm2, load_llama


def test_a_fused_projection_by_hand() -> None:
    # Two groups of (two queries, key, value), one row each: q0 q1 k0 v0 q2 q3 k1 v1.
    q, k, v = split_wqkv(torch.arange(8.0)[:, None], heads=4, key_value_heads=2)
    assert (q.flatten().tolist(), k.flatten().tolist(), v.flatten().tolist()) == ([0, 1, 4, 5], [2, 6], [3, 7])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("heads", [(4, 2), (4, 4), (4, 1)])
def test_equals_in_float64(bias: bool, heads: tuple[int, int]) -> None:
    torch.manual_seed(0)
    config = InternLM2Config(
        vocab_size=50, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=heads[0],
        num_key_value_heads=heads[1], bias=bias, rope_theta=1e6, initializer_range=0.3,
    )  # fmt: skip
    model = InternLM2ForCausalLM(config).double().eval()
    for parameter in model.parameters():  # biases and norms too
        torch.nn.init.normal_(parameter, std=0.3)
    ids = torch.randint(50, (2, 17))
    with torch.no_grad():
        wanted, found = (m(input_ids=ids).logits.float() for m in (model, as_llama(model)))
    # InternLM2 gives its logits in float32, and both keep their rotary tables in it.
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6 * float(wanted.abs().max()))


def test_saved_and_loaded_by_stock_classes(internlm2: Path, tmp_path: Path) -> None:
    model = load_internlm2(str(internlm2)).eval()
    as_llama(model).save_pretrained(tmp_path)
    llama = load_llama(str(tmp_path)).eval()
    ids = torch.arange(40)[None]
    with torch.no_grad():
        wanted, found = model(input_ids=ids).logits, llama(input_ids=ids).logits
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)
    assert llama.config.rope_scaling == {"rope_type": "dynamic", "factor": 2.0}
    assert llama.config.max_position_embeddings == 2048


def test_tied_embeddings_are_refused() -> None:
    config = InternLM2Config(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        tie_word_embeddings=True,
    )  # fmt: skip
    with pytest.raises(ExportError, match="tied embeddings"):
        as_llama(InternLM2ForCausalLM(config))
