"""A language model by itself with an adapter, trained on text alone."""

from __future__ import annotations

from typing import Any, Literal

from torch import nn
from xtuner.model import SupervisedFinetune
from xtuner.model.modules import dispatch_modules

from .data.tokens.tokenise import IMAGE_TOKEN_INDEX
from .errors import ConfigError, DataError
from .training.adapted_model import AdaptedModel
from .training.artifacts import LLM


class MosLoraCausalLM(AdaptedModel, SupervisedFinetune):
    """XTuner's SupervisedFinetune, of a LLaMA or an InternLM2 with an adapter of any of PEFT's methods.

    With f the model, x a record's tokens and S its places with a label, a micro-batch's loss is::

        1 / sum |S|  sum_records  sum_{t in S}  -log f(x_t | x_1 ... x_{t-1})

    to which a method may add its own term, as AdaLoRA does. Records are padded on the right; padding carries no label.

    Args:
        llm: the language model, or the config dict of its loader (`llm.load.load_llama`, `load_internlm2`).
        llm_lora: the adapter's config, or the config dict of one: `peft.LoraConfig`, `MosLoraConfig`,
            `peft.LoHaConfig`, `peft.LoKrConfig`, `peft.AdaLoraConfig` (which needs the hook `adalora.AdaLoraBudget`).
        chunked_loss, skip_padding_mask, checkpointed_blocks, fused_adapters, lean_mlp: as for `MosLoraLLaVA`.
        use_activation_checkpointing: compute blocks again in backward instead of keeping them.

    Raises:
        ConfigError: there is no adapter, it names no layers, or it does not fit them.
        DataError: (forward) the batch has places or pixels of pictures, which this model cannot see.
    """

    def __init__(
        self,
        llm: Any,
        llm_lora: Any = None,
        *,
        chunked_loss: bool = False,
        skip_padding_mask: bool = False,
        fused_adapters: bool = False,
        lean_mlp: bool = False,
        checkpointed_blocks: int | Literal["plan"] | None = None,
        use_activation_checkpointing: bool = True,
    ) -> None:
        if llm_lora is None:
            raise ConfigError("model.llm_lora is missing: a text model is trained through an adapter")
        super().__init__(llm, lora=llm_lora, use_activation_checkpointing=use_activation_checkpointing)
        self.economise(
            chunked_loss=chunked_loss,
            skip_padding_mask=skip_padding_mask,
            fused_adapters=fused_adapters,
            lean_mlp=lean_mlp,
            checkpointed_blocks=checkpointed_blocks,
            use_activation_checkpointing=use_activation_checkpointing,
        )

    def parts(self) -> dict[str, nn.Module]:
        """The language model alone."""
        return {LLM: self.llm}

    def build_llm_from_cfg(self, llm_cfg: Any, use_varlen_attn: bool, max_position_embeddings: int | None) -> Any:
        """The language model, with XTuner's own forwards of its layers.

        WORK-AROUND xtuner 0.2.0 (model/sft.py): it stops at a language model that is built already, which its LLaVA
        takes. Can go when it takes one here.
        """
        if not isinstance(llm_cfg, nn.Module):
            return super().build_llm_from_cfg(llm_cfg, use_varlen_attn, max_position_embeddings)
        llm: Any = llm_cfg
        llm.config.use_cache = False
        dispatch_modules(llm, use_varlen_attn=use_varlen_attn)
        return llm

    def _prepare_for_lora(self, peft_model: Any = None, use_activation_checkpointing: bool = True) -> None:
        self.llm = self.adapt(self.llm, self.lora, "llm_lora", use_activation_checkpointing)

    def forward(self, data: dict[str, Any], data_samples: Any = None, mode: str = "loss") -> Any:
        """Run a batch of `moslora_xtuner.data.dataset.collate`; XTuner's modes `loss`, `predict`, `tensor`."""
        ids = data["input_ids"]
        self.move_once(ids.device)
        if data.get("pixel_values") is not None or bool((ids == IMAGE_TOKEN_INDEX).any()):
            raise DataError("the batch has pictures, and this model reads text alone: prepare the store without them")
        batch = {"input_ids": ids, "attention_mask": data["attention_mask"], "labels": data["labels"]}
        return self.run(batch, data, data_samples, mode)
