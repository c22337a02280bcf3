"""What no recipe trains is in the compute dtype, visual encoder included: nothing frozen is kept or made float32."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import Config
from places import CONFIGS

LLAVA = sorted(path.stem for path in CONFIGS.glob("llava_*.py"))
HALF = "torch.bfloat16"
NORMS = ("norm.weight", "layernorm.weight")
# PEFT's prepare_model_for_kbit_training makes these float32 as well. DeepSpeed takes them back to half precision.
ENDS = ("tok_embeddings.weight", "embed_tokens.weight", ".output.weight", ".lm_head.weight")


pytestmark = pytest.mark.slow


@pytest.fixture(params=LLAVA)
def recipe(request: pytest.FixtureRequest, llava_environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """A recipe on stand-ins, in bf16 as on a GPU."""
    import moslora_xtuner.plugin  # noqa: F401

    for variable, value in llava_environment.items():
        monkeypatch.setenv(variable, value)
    config = Config.fromfile(CONFIGS / f"{request.param}.py", import_custom_modules=False)
    changes = {"model.llm.torch_dtype": HALF, "model.visual_encoder.torch_dtype": HALF}
    if "quantization_config" in config.model.llm:
        changes["model.llm.quantization_config.bnb_4bit_compute_dtype"] = "bfloat16"
    config.merge_from_dict(changes)
    return config


def frozen(part: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: weight for name, weight in part.named_parameters() if not weight.requires_grad}


def in_float32(part: torch.nn.Module) -> set[str]:
    return {name for name, weight in frozen(part).items() if weight.dtype == torch.float32}


def test_nothing_frozen_is_float32(recipe: Any) -> None:
    """As loaded, as built, and after a first step; the very weights that were loaded, not copies of them."""
    from xtuner.model.utils import traverse_dict
    from xtuner.registry import BUILDER

    from moslora_xtuner.data.dataset import collate

    quantised = "quantization_config" in recipe.model.llm
    options = {key: value for key, value in recipe.model.items() if key not in ("llm", "visual_encoder")}
    parts = {}  # built as the model builds them, to look at them before it does anything with them
    for name in ("llm", "visual_encoder"):
        traverse_dict(recipe.model[name])
        parts[name] = BUILDER.build(recipe.model[name]).requires_grad_(False)
        assert not in_float32(parts[name])
    loaded = {weight.data_ptr() for part in parts.values() for weight in part.parameters()}

    model = BUILDER.build({**options, **parts})
    assert model.visual_encoder.dtype == torch.bfloat16
    require_half(model, quantised)
    kept = {name: weight.data_ptr() for name, weight in frozen(model).items()}
    if not quantised:
        assert set(kept.values()) == loaded

    store = BUILDER.build(recipe.train_dataloader.dataset)
    batch = collate([store[0], store[1]], recipe.train_dataloader.collate_fn.image_tokens)
    assert "pixel_values" in batch["data"]
    loss = model.train()(**batch, mode="loss")["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    require_half(model, quantised)
    assert {name: weight.data_ptr() for name, weight in frozen(model).items()} == kept
    assert all(weight.grad is None for weight in frozen(model).values())


def require_half(model: torch.nn.Module, quantised: bool) -> None:
    """Nothing in float32, in a model that was quantised for adapters the norms alone, as in QLoRA, and its two ends."""
    prepared = quantised and hasattr(model.llm, "peft_config")
    allowed = (*NORMS, *ENDS) if prepared else ()
    assert {name for name in in_float32(model) if not name.endswith(allowed)} == set()
    assert not in_float32(model.visual_encoder)
    norms = {name for name in in_float32(model) if name.endswith(NORMS)}
    assert bool(norms) == prepared
