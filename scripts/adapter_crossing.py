"""Adapters saved with one release of peft and transformers, loaded with another; test_adapter_matrix.sh runs it.

python scripts/adapter_crossing.py save DIR         adapters of every kind, their base model and its logits
python scripts/adapter_crossing.py load DIR ...     each of them loaded here: the same logits, or exit status 1
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import peft
import torch
import transformers
from peft import PeftModel, get_peft_model
from torch import Tensor, nn

from moslora_xtuner.adapters import MosLoraConfig, fold_adapter

IDS = torch.tensor([[1, 5, 9, 2, 7, 3, 11, 4]])
TARGETS = ["q_proj", "v_proj", "down_proj"]
KINDS: dict[str, dict[str, object]] = {
    "learned": {"mixer_init": "orthogonal"},
    "frozen": {"mixer_init": "orthogonal", "freeze_mixer": True},
    "butterfly": {"mixer": "butterfly"},
    "identity": {"mixer": "identity"},
    "dora": {"use_dora": True},
    "patterns": {"rank_pattern": {"q_proj": 6}, "alpha_pattern": {"q_proj": 3}, "use_rslora": True},
}


def _base(weights: dict[str, Tensor] | None = None) -> nn.Module:
    sizes = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    config = transformers.LlamaConfig(num_attention_heads=4, num_key_value_heads=2, **sizes)
    model = transformers.LlamaForCausalLM(config).eval()
    if weights is not None:
        model.load_state_dict(weights)
    return model


def _logits(model: nn.Module) -> Tensor:
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def _save(place: Path) -> None:
    torch.manual_seed(0)
    base = _base().state_dict()
    wanted = {}
    for kind, settings in KINDS.items():
        config = MosLoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, task_type="CAUSAL_LM", **settings)  # type: ignore[arg-type]
        model = get_peft_model(_base(base), config)
        for name, parameter in model.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                parameter.data.normal_(0, 0.2)
        model.save_pretrained(str(place / kind), save_embedding_layers=False)
        fold_adapter(place / kind, place / f"{kind}-folded")
        wanted[kind] = wanted[f"{kind}-folded"] = _logits(model)
    torch.save({"base": base, "logits": wanted}, place / "wanted.pt")


def _load(place: Path) -> float:
    saved = torch.load(place / "wanted.pt", weights_only=True)
    largest = 0.0
    for kind, wanted in saved["logits"].items():
        found = _logits(PeftModel.from_pretrained(_base(saved["base"]), str(place / kind)))
        gap = float((found - wanted).abs().max() / wanted.abs().max())
        if not gap < 1e-5:
            raise SystemExit(f"error: {place / kind}: the logits differ by {gap:.1e}")
        largest = max(largest, gap)
    return largest


def main(verb: str, *places: str) -> None:
    """Save into one place, or load from each."""
    warnings.simplefilter("ignore")
    here = f"peft {peft.__version__}, transformers {transformers.__version__}"
    for place in map(Path, places):
        if verb == "save":
            place.mkdir(parents=True)
            _save(place)
        else:
            print(f"crossing: {place.name} -> {here}: logits within {_load(place):.1e}")


if __name__ == "__main__":
    main(*sys.argv[1:])
