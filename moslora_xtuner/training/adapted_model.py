"""What the trained models share: a language model with an adapter, its loss, and a loss that is no number."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal

import torch
from mmengine.dist import all_reduce
from mmengine.model import BaseModel
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.tuners.tuners_utils import BaseTuner
from torch import nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

from ..adapters import fuse
from ..adapters.four_bit import compute_as_in_training
from ..errors import ConfigError
from ..llm.gated_mlp import keep_less_of_mlps
from ..llm.whole import require_whole
from .checkpointing import checkpoint_first
from .finite import BadLoss, nothing_to_learn
from .loop import LOSS_DIVISOR, supervised_tokens
from .loss_head import SUMMED_LOSS, chunked_loss, is_trained
from .precision import QUANTISED_ZERO3, quantised_bits
from .targets import require_fitting_rank, require_quantisable, require_targets


class AdaptedModel(BaseModel):
    """The base of the models that XTuner trains here; stands before XTuner's own class among a model's bases.

    Attributes:
        llm: the language model, in PEFT's wrapper once it has an adapter.
        bad_batches: how many micro-batches may yet have a loss that is no number (train_cfg.skip_bad_batches).
        skipped: that of the micro-batch in hand, where it was let pass.
    """

    llm: Any
    chunked_loss = False
    skip_padding_mask = False
    moved = False
    bad_batches = 0
    skipped: BadLoss | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        """Of its own: ZeRO-3 replaces each class's, and would put BaseModel's in the way of XTuner's."""
        super().__init__(*args, **options)

    def economise(
        self,
        *,
        chunked_loss: bool,
        skip_padding_mask: bool,
        fused_adapters: bool,
        lean_mlp: bool,
        checkpointed_blocks: int | Literal["plan"] | None,
        use_activation_checkpointing: bool,
    ) -> None:
        """Turn on what makes a step cheaper, once everything is built: the options of `MosLoraLLaVA`.

        Raises:
            ConfigError: blocks are to be checkpointed in a model without activation checkpointing, or more than it has.
        """
        compute_as_in_training(self)
        if use_activation_checkpointing and adds_to_the_loss(self.llm):
            # A term beside the model reads weights that a block reads, too. Checkpointing that begins a backward of its
            # own in each block would hand their gradients over twice, which ZeRO-2 refuses.
            self.llm.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        self.chunked_loss, self.skip_padding_mask = chunked_loss, skip_padding_mask
        if fused_adapters:
            fuse(self)
        if lean_mlp:
            keep_less_of_mlps(self.llm)
        if isinstance(checkpointed_blocks, int):
            if not use_activation_checkpointing:
                raise ConfigError(
                    "model.checkpointed_blocks needs use_activation_checkpointing=True: leave one of them out"
                )
            checkpoint_first(self.llm, checkpointed_blocks)

    def parts(self) -> dict[str, nn.Module]:
        """What the model is made of, by the names of `artifacts`."""
        raise NotImplementedError

    def _dispatch_lm_model_cfg(self, cfg: Any, max_position_embeddings: int | None = None) -> Any:
        """Build the language model as the config says.

        WORK-AROUND xtuner 0.2.0 (model/llava.py, model/sft.py): it would run a checkpoint's remote code to look at its
        config, and take half precision and flash attention whenever that package is installed. Can go when it does
        neither.
        """
        if max_position_embeddings is not None:
            raise ConfigError("max_position_embeddings is not supported: set rope_scaling in the checkpoint's config")
        if is_deepspeed_zero3_enabled() and cfg.get("quantization_config") is not None:
            raise ConfigError(QUANTISED_ZERO3)
        return cfg

    def _build_from_cfg_or_module(self, cfg_or_mod: Any) -> Any:
        """Build a part; of its checkpoint, where it names one, every weight must be there."""
        part = super()._build_from_cfg_or_module(cfg_or_mod)
        if isinstance(cfg_or_mod, Mapping) and (path := cfg_or_mod.get("pretrained_model_name_or_path")):
            require_whole(path, part)
        return part

    def adapt(self, part: nn.Module, config: Any, name: str, use_activation_checkpointing: bool) -> PeftModel:
        """The part with an adapter; XTuner would first copy one that is not quantised into float32, whole.

        Raises:
            ConfigError: the config names no layers, its rank does not fit them, or they are of 4 or 8 bits and the
                method takes none such.
        """
        require_quantisable(require_targets(config, name), name, quantised_bits(part))
        tuned = get_peft_model(prepared(part, use_activation_checkpointing), config)
        require_fitting_rank(tuned, name)
        return tuned

    def state_dict(self, *args: Any, **kwargs: Any) -> Any:
        """What is trained, and the adapters' buffers (a frozen mixer), whatever the method is called.

        XTuner knows the names of LoRA's weights alone, and refuses every other method.
        """
        whole = BaseModel.state_dict(self, *args, **kwargs)
        trained = {name for name, weight in self.named_parameters() if weight.requires_grad}
        marks = tuple({f".{tuner.prefix}" for tuner in self.modules() if isinstance(tuner, BaseTuner)})
        return OrderedDict(
            (name, value) for name, value in whole.items() if name in trained or any(mark in name for mark in marks)
        )

    def run(self, batch: dict[str, Any], data: dict[str, Any], data_samples: Any, mode: str) -> Any:
        """What XTuner's modes `loss`, `predict` and `tensor` give, and `SUMMED_LOSS`.

        Args:
            batch: what goes into the language model, with `attention_mask` and `labels`.
            data: of `moslora_xtuner.data.dataset.collate`.
            data_samples: mmengine's, not read.
            mode: one of the four.
        """
        if self.skip_padding_mask and padded_right(batch["attention_mask"]):
            batch = {**batch, "attention_mask": None}
        if mode == SUMMED_LOSS:
            return self.summed_loss(batch)
        if mode == "loss":
            losses = self.compute_loss(batch, data_samples)
            if LOSS_DIVISOR in data:
                losses["loss"] = losses["loss"] * supervised_tokens(data["labels"]) / data[LOSS_DIVISOR]
            return losses
        if mode == "predict":
            return self.predict(batch, data_samples)
        if mode == "tensor":
            return self._forward(batch, data_samples)
        raise NotImplementedError(f"mode {mode!r}: XTuner knows loss, predict and tensor")

    def move_once(self, device: Any) -> None:
        """Put 4-bit states and buffers on the device, in the first forward, as XTuner's LLaVA does."""
        if not self.moved:
            self.to(device)
            self.moved = True

    def compute_loss(self, data: dict[str, Any], data_samples: Any = None) -> dict[str, torch.Tensor]:
        """The loss of a batch with `labels`, all logits at once or in chunks."""
        if adds_to_the_loss(self.llm) or not self._cuts_the_loss():
            return super().compute_loss(data, data_samples)
        return {"loss": self._chunked(data)}

    def summed_loss(self, data: dict[str, Any]) -> torch.Tensor:
        """The cross entropy of a batch's labelled places and their number, (2,), without what a method adds to it.

        AdaLoRA's regulariser is of its weights and not of the records: with it methods could not be compared.
        """
        number = supervised_tokens(data["labels"])
        mean = self._chunked(data) if self._cuts_the_loss() else self._causal()(**data).loss
        total = mean.float() * number if number else torch.zeros_like(mean, dtype=torch.float32)
        return torch.stack([total, total.new_tensor(float(number))])

    def _causal(self) -> Any:
        """The language model with its head, inside PEFT's wrapper."""
        return self.llm.get_base_model() if isinstance(self.llm, PeftModel) else self.llm

    def _cuts_the_loss(self) -> bool:
        return self.chunked_loss and not is_trained(self._causal().get_output_embeddings())

    def _chunked(self, data: dict[str, Any]) -> torch.Tensor:
        causal = self._causal()
        inputs = {name: value for name, value in data.items() if name != "labels"}
        states = causal.get_decoder()(**inputs, use_cache=False, return_dict=True).last_hidden_state
        return chunked_loss(states, data["labels"], causal.get_output_embeddings())

    def parse_losses(self, losses: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Sum the losses as mmengine does; what is logged is the mean over all processes.

        All stop in the same step, before its update, when that mean is not a number: a process that stopped alone
        would leave the others waiting. With `bad_batches` left, the micro-batch counts as one with nothing to learn.

        Raises:
            BadLoss: infinite or not a number.
        """
        total, logged = super().parse_losses(losses)
        mean = total.detach().float().clone()
        all_reduce(mean, "mean")
        if not bool(torch.isfinite(mean)):
            fault = BadLoss(float(mean), here=not bool(torch.isfinite(total.detach())))
            if not self.bad_batches:
                raise fault
            self.bad_batches -= 1
            self.skipped = fault
            total = nothing_to_learn(self)
        logged["loss"] = mean
        return total, logged


def adds_to_the_loss(llm: Any) -> bool:
    """Whether the method's own forward does more than call the model's, as AdaLoRA's, which adds a regulariser."""
    return isinstance(llm, PeftModel) and type(llm.base_model).forward is not BaseTuner.forward


def padded_right(mask: torch.Tensor) -> bool:
    """Whether no row of a (rows, length) mask has padding before a token."""
    return bool((mask[:, 1:] <= mask[:, :-1]).all())


def prepared(part: nn.Module, use_activation_checkpointing: bool) -> nn.Module:
    """A 4- or 8-bit model made ready for training (norms in float32, as in QLoRA); any other as it is."""
    return part if quantised_bits(part) is None else prepare_model_for_kbit_training(part, use_activation_checkpointing)
