"""Adapters of a LLaVA under the module names of transformers 4.48 and of 5: taken exactly where stock LoRA is."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter
from moslora_xtuner.errors import AdapterError

TARGETS = ["q_proj", "v_proj", "fc1", "up_proj"]
FORMS: dict[str, list[tuple[str, str]]] = {
    "4.48": [
        (r"model\.model\.language_model\.layers", "model.language_model.model.layers"),
        (r"model\.model\.vision_tower\.(?:vision_model\.)?", "model.vision_tower.vision_model."),
    ],
    "5": [
        (r"model\.language_model\.model\.layers", "model.model.language_model.layers"),
        (r"model\.(?:model\.)?vision_tower\.(?:vision_model\.)?", "model.model.vision_tower."),
    ],
    "as saved": [],
    "of no release": [(r"vision_tower", "eye")],
}


def llava() -> nn.Module:
    torch.manual_seed(0)
    text = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        initializer_range=0.2,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8,
        initializer_factor=2.0,
    )  # fmt: skip
    return LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=63)
    ).eval()


def answer(model: nn.Module) -> Tensor:
    ids = torch.tensor([[1, 63, 63, 63, 63, 5, 9]])
    pixels = torch.linspace(-2, 2, 3 * 16 * 16).reshape(1, 3, 16, 16).sin()
    with torch.no_grad():
        return model(input_ids=ids, pixel_values=pixels, attention_mask=torch.ones_like(ids)).logits


@pytest.mark.parametrize("form", FORMS)
def test_renamed_modules(tmp_path: Path, form: str) -> None:
    model = get_peft_model(llava(), MosLoraConfig(r=4, target_modules=TARGETS)).eval()
    generator = torch.Generator().manual_seed(1)
    for _, parameter in sorted((n, p) for n, p in model.named_parameters() if "lora_" in n):
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    model.save_pretrained(str(tmp_path / "mixed"), save_embedding_layers=False)
    fold_adapter(tmp_path / "mixed", tmp_path / "plain")
    wanted = answer(model)
    assert not torch.allclose(wanted, answer(llava()))

    def rename(key: str) -> str:
        for pattern, replacement in FORMS[form]:
            key = re.sub(pattern, replacement, key)
        return key

    for name in ("mixed", "plain"):
        file = tmp_path / name / "adapter_model.safetensors"
        save_file({rename(key): value for key, value in load_file(file).items()}, file)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plain = PeftModel.from_pretrained(llava(), str(tmp_path / "plain"))
    stock_takes_it = not any("missing adapter keys" in str(warning.message) for warning in caught)
    assert stock_takes_it or form != "as saved"
    load: Callable[[], PeftModel] = lambda: PeftModel.from_pretrained(llava(), str(tmp_path / "mixed"))  # noqa: E731
    if stock_takes_it:
        assert torch.allclose(answer(plain.eval()), wanted, atol=1e-5)
        assert torch.equal(answer(load().eval()), wanted)
    else:
        with pytest.raises(AdapterError, match="nothing was changed: missing"):
            load()
