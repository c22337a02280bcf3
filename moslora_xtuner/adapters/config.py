"""The adapter's configuration: a LoraConfig that also says what stands between A and B."""

from __future__ import annotations

import warnings
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any

from peft import LoraConfig, LoraModel

from ..errors import AdapterError
from .settings import value_problems

MIXERS = ("learned", "butterfly", "identity")
MIXER_INITS = (
    "kaiming_uniform", "xavier_uniform", "orthogonal", "identity", "normal", "normal_unit", "flora", "zero",
)  # fmt: skip
DISK_TYPE = "MOSLORA"
"""The `peft_type` in adapter_config.json: stock PEFT does not know it and refuses the directory."""

_KEPT = (
    "task_type", "peft_type", "auto_mapping", "peft_version", "base_model_name_or_path", "revision",
    "inference_mode", "runtime_config", "r", "rank_pattern", "lora_alpha", "alpha_pattern", "use_rslora",
    "lora_dropout", "fan_in_fan_out", "bias", "lora_bias", "use_dora", "init_lora_weights", "target_modules",
    "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save", "trainable_token_indices",
    "ensure_weight_tying",
    "megatron_core", "qalora_group_size", "loftq_config", "eva_config", "corda_config", "lora_ga_config",
)  # fmt: skip
"""Fields of LoraConfig that are right with a mixer, or (the last line) mean nothing without one that is refused.

Any other, also one of a PEFT to come, changes the layer in a way that nobody has looked at yet.
"""
_STOCK_INITS = (True, False, "gaussian")


def _default(option: Field[Any]) -> Any:
    return option.default if option.default_factory is MISSING else option.default_factory()


@dataclass
class MosLoraConfig(LoraConfig):
    """LoRA with an r x r mixer between its two factors (arXiv 2406.11909, section 3).

    In the paper's post-multiplication, x: (tokens, d1), W0: (d1, d2), A: (d1, r), W: (r, r), B: (r, d2)::

        y = x W0 + s x A W B,      s = alpha / r  (alpha / sqrt(r) with use_rslora)

    PEFT stores the transposes, so here y = x W0^T + s B(M(A x)) with `lora_A.weight` (r, d1),
    `lora_AB.weight` = M = W^T (r, r) and `lora_B.weight` (d2, r).

    Args:
        mixer: "learned" (MoSLoRA), "butterfly" (TS-Mixing: [[I, I], [I, I]], fixed) or "identity" (LoRA).
        mixer_init: how a learned mixer starts: "kaiming_uniform" (the default), "xavier_uniform", "orthogonal",
            "identity", "normal" (deviation 1/r), "normal_unit" (deviation 1), "flora" or "zero"; `initial_mixer`
            has the formulas. A fixed mixer takes none. "flora" is the start of FLoRA (Si et al. 2024) on Linear
            layers: M = 0, and A and B both drawn, normal with Kaiming's deviation for a = sqrt(3).
        freeze_mixer: keep a learned mixer as initialised and train A and B alone ("init only").
        allow_zero_mixer: accept mixer_init="zero", with which every gradient is zero (Appendix C).

    Raises:
        AdapterError: the values contradict each other, or name something that would drop or break the mixer.
    """

    mixer: str = field(default="learned", metadata={"help": "learned, butterfly or identity"})
    mixer_init: str | None = field(
        default=None,
        metadata={"help": f"{', '.join(MIXER_INITS)}; for a learned mixer only"},
    )
    freeze_mixer: bool = field(default=False, metadata={"help": "Keep a learned mixer as initialised."})
    allow_zero_mixer: bool = field(
        default=False, metadata={"help": "Accept mixer_init='zero', which cannot learn (an ablation)."}
    )

    def __post_init__(self) -> None:
        if problems := value_problems(vars(self)):
            raise AdapterError("MosLoraConfig: " + "; ".join(problems))
        # A config built by mmengine holds ConfigDicts, which dataclasses.asdict cannot copy.
        self.rank_pattern = dict(self.rank_pattern or {})
        self.alpha_pattern = dict(self.alpha_pattern or {})
        super().__post_init__()
        if self.mixer == "learned" and self.mixer_init is None:
            self.mixer_init = "kaiming_uniform"
        problems = [*self._mixer_problems(), *self._lora_problems()]
        if problems:
            raise AdapterError("MosLoraConfig: " + "; ".join(problems))
        if self.mixer_init == "zero":
            warnings.warn(
                "mixer_init='zero': with M = 0 and B = 0 every gradient is zero, so nothing can be learned "
                "(arXiv 2406.11909, Appendix C)",
                stacklevel=3,
            )

    def _mixer_problems(self) -> list[str]:
        problems = []
        if self.mixer not in MIXERS:
            return [f"mixer={self.mixer!r} is none of {', '.join(MIXERS)}"]
        if self.mixer != "learned":
            if self.mixer_init is not None:
                problems.append(f"mixer={self.mixer!r} is fixed: leave mixer_init={self.mixer_init!r} out")
            if self.freeze_mixer:
                problems.append(f"mixer={self.mixer!r} is fixed: leave freeze_mixer out")
        elif self.mixer_init not in MIXER_INITS:
            problems.append(f"mixer_init={self.mixer_init!r} is none of {', '.join(MIXER_INITS)}")
        elif self.mixer_init == "zero" and not self.allow_zero_mixer:
            problems.append("mixer_init='zero' can learn nothing; set allow_zero_mixer=True if you mean it")
        elif self.mixer_init == "flora" and self.freeze_mixer:
            problems.append("mixer_init='flora' starts at M = 0, which freeze_mixer would keep: leave one out")
        if self.mixer == "butterfly":
            ranks = {"r": self.r, **(self.rank_pattern or {})}
            odd = [f"{name}={rank}" for name, rank in ranks.items() if rank % 2]
            if odd:
                problems.append(f"mixer='butterfly' halves the rank, which must be even: {', '.join(odd)}")
        return problems

    def _lora_problems(self) -> list[str]:
        problems = []
        if self.init_lora_weights not in _STOCK_INITS:
            problems.append(
                f"init_lora_weights={self.init_lora_weights!r} sets B A, not B M A, against the base: "
                "use True, False or 'gaussian'"
            )
        if self.bias == "lora_only" and not hasattr(LoraModel, "_get_learnable_bias_state_dict"):
            # WORK-AROUND peft 0.17, 0.18 (LoraModel): it looks for the bias beside lora_A, not in base_layer, and saves
            # none. Can go when it finds it.
            problems.append("bias='lora_only' is trained and then not saved by this peft: use 'none' or 'all'")
        for option in fields(LoraConfig):
            if option.name not in _KEPT and getattr(self, option.name) != _default(option):
                problems.append(f"{option.name} has no mixed layer: leave it out")
        return problems

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, whose peft_type is MOSLORA so that stock PEFT refuses the directory."""
        return {**super().to_dict(), "peft_type": DISK_TYPE}

    def to_lora_config(self) -> LoraConfig:
        """Return the plain LoraConfig that the folded adapter (B' = B M) has."""
        return LoraConfig(**{f.name: getattr(self, f.name) for f in fields(LoraConfig) if f.init})


_LORA_FIELDS = {f.name for f in fields(LoraConfig)}
MIXER_FIELDS = tuple(f.name for f in fields(MosLoraConfig) if f.name not in _LORA_FIELDS)
"""What MosLoraConfig adds to LoraConfig's fields; a folded adapter's config has none of them."""
