"""Names of adapters that an old PEFT cuts out of the names of tensors: found on disk, told before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import peft
import pytest
import torch
from packaging.version import Version
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from moslora_xtuner.adapters import fold_adapter
from moslora_xtuner.errors import AdapterError

Llama = Callable[..., nn.Module]
CUT = ["w", "m", "q", "lora", "mlp", "self"]


@pytest.mark.parametrize("name", [*CUT, "default", "english"])
@pytest.mark.parametrize("kind", ["MOSLORA", "LORA"])
def test_names_that_peft_has_damaged_are_found(
    llama: Llama, logits: Callable[[nn.Module], Tensor], tmp_path: Path, name: str, kind: str
) -> None:
    from moslora_xtuner.adapters import MosLoraConfig

    maker = MosLoraConfig if kind == "MOSLORA" else LoraConfig
    config = maker(r=4, target_modules=["q_proj", "up_proj"], task_type="CAUSAL_LM")
    old = Version(peft.__version__) < Version("0.18")
    cut = old and name in CUT
    # One with mixers is not let be trained under such a name, so it is saved as another and cut as PEFT would.
    by_hand = cut and kind == "MOSLORA"
    model = get_peft_model(llama(), config, adapter_name="english" if by_hand else name)
    generator = torch.Generator().manual_seed(0)
    for parameter in (p for n, p in model.named_parameters() if "lora_" in n):
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model.eval().save_pretrained(str(tmp_path), save_embedding_layers=False)
    path = tmp_path if name == "default" else tmp_path / ("english" if by_hand else name)
    if by_hand:
        path = path.rename(tmp_path / name)
        file = path / "adapter_model.safetensors"
        tensors = {key.replace(".weight", f".{name}.weight"): value for key, value in load_file(file).items()}
        save_file({key.replace(f".{name}", ""): value for key, value in tensors.items()}, file)
    if cut:
        with pytest.raises(AdapterError, match=r"0\.17"):
            fold_adapter(path, tmp_path / "folded")
        renamed = path.rename(tmp_path / "copied")
        with pytest.raises(AdapterError, match=r"0\.17"):
            fold_adapter(renamed, tmp_path / "folded")
        if kind == "MOSLORA":
            with pytest.raises(AdapterError, match="nothing was changed"):
                PeftModel.from_pretrained(llama(), str(renamed))
        return
    plain = PeftModel.from_pretrained(llama(), str(fold_adapter(path, tmp_path / "folded")))
    assert torch.allclose(logits(plain.eval()), logits(model), atol=1e-5)


@pytest.mark.parametrize("name", [*CUT, "lora_AB", "model", "layers", "self_attn", "q_proj", "weight"])
def test_a_name_that_peft_would_cut_out_of_others_is_told_before_training(llama: Llama, name: str) -> None:
    from moslora_xtuner.adapters import MosLoraConfig

    config = MosLoraConfig(r=4, target_modules=["q_proj", "up_proj"])
    base = llama()
    before = [(where, type(module)) for where, module in base.named_modules()]
    if Version(peft.__version__) >= Version("0.18"):
        get_peft_model(base, config, adapter_name=name)
        return
    with pytest.raises(AdapterError, match="would be lost when it is saved"):
        get_peft_model(base, config, adapter_name=name)
    assert [(where, type(module)) for where, module in base.named_modules()] == before
    model = get_peft_model(llama(), config)
    with pytest.raises(AdapterError, match="would be lost when it is saved"):
        model.add_adapter(name, config)
