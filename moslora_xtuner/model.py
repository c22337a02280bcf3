"""LLaVA with adapters on the language model and on the visual encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.dist import all_reduce, get_world_size
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled
from xtuner.model import LLaVAModel

from .adapters import fuse
from .adapters.four_bit import compute_as_in_training
from .data.tokens.tokenise import IMAGE_TOKEN_INDEX
from .errors import ConfigError, DataError
from .llm.gated_mlp import keep_less_of_mlps
from .llm.whole import require_whole
from .projector import projector_weights as read_projector
from .training.checkpointing import checkpoint_first
from .training.finite import BadLoss, nothing_to_learn
from .training.loop import LOSS_DIVISOR, supervised_tokens
from .training.loss_head import chunked_loss, is_trained
from .training.precision import QUANTISED_ZERO3, quantised_bits
from .training.targets import require_fitting_rank, require_targets, useful_layers


class MosLoraLLaVA(LLaVAModel):
    """XTuner's LLaVA, with a strict projector and no work for images that are not there.

    The language model reads, for each record, the embeddings of its text tokens and, in the image's places, the
    projected patch features of the visual encoder's layer `visual_select_layer` (CLS dropped)::

        e = [E(t_1), ..., P(V(x)_1), ..., P(V(x)_n), ..., E(t_m)],      P(v) = W2 gelu(W1 v + b1) + b2

    Args:
        chunked_loss: compute the loss of the labelled places alone, without all logits at once (training/loss_head.py);
            a head that is trained takes the plain way.
        skip_padding_mask: give the language model no attention mask where all padding is on the right: no labelled
            place can see it, and attention takes its faster kernels.
        checkpointed_blocks: how many of the language model's blocks, from the first on, are computed again in backward
            instead of kept (training/checkpointing.py). None: all where `use_activation_checkpointing` says so; "plan":
            the number that `moslora train` takes from its plan, and all under `xtuner train`.
        fused_adapters: compute each adapter, plain LoRA too, as one function that keeps less for backward
            (adapters/branch.py); the same dropout, the same up to rounding.
        lean_mlp: keep less of the language model's MLPs for backward (llm/gated_mlp.py), bit for bit the same.
        projector_weights: folder or `.safetensors` file of a pretrained projector, or an XTuner `.pth` whose
            names start with `projector.`; every name and shape must fit. None starts it at random.
        **options: of `xtuner.model.LLaVAModel`; `pretrained_pth` is refused because XTuner loads it without
            checking a single name.

    Raises:
        ConfigError: the projector's weights do not fit, or `pretrained_pth` is given.
        DataError: (forward) the images do not fill the places that the batch has for them.
    """

    llm: Any
    visual_encoder: Any

    def __init__(
        self,
        *args: Any,
        projector_weights: str | None = None,
        chunked_loss: bool = False,
        skip_padding_mask: bool = False,
        fused_adapters: bool = False,
        lean_mlp: bool = False,
        checkpointed_blocks: int | Literal["plan"] | None = None,
        **options: Any,
    ) -> None:
        if options.get("pretrained_pth") is not None:
            raise ConfigError(
                "pretrained_pth loads without checking that anything fits: give the file as projector_weights"
            )
        # XTuner keeps it only after the adapters are made, whose layers depend on it.
        self.visual_select_layer: int = options.get("visual_select_layer", -2)
        super().__init__(*args, **options)
        compute_as_in_training(self)
        self.chunked_loss, self.skip_padding_mask = chunked_loss, skip_padding_mask
        if not _trained(self.visual_encoder):
            self.visual_encoder.gradient_checkpointing_disable()  # there is no backward to compute anything again for
        if fused_adapters:
            fuse(self)
        if lean_mlp:
            keep_less_of_mlps(self.llm)
        if isinstance(checkpointed_blocks, int):
            if not options.get("use_activation_checkpointing", True):
                raise ConfigError(
                    "model.checkpointed_blocks needs use_activation_checkpointing=True: leave one of them out"
                )
            checkpoint_first(self.llm, checkpointed_blocks)
        if projector_weights is not None:
            load_projector(self.projector, Path(projector_weights))

    def _dispatch_lm_model_cfg(self, cfg: Any, max_position_embeddings: int | None = None) -> Any:
        """Build the language model as the config says.

        WORK-AROUND xtuner 0.2.0 (model/llava.py): it would run a checkpoint's remote code to look at its config,
        and take half precision and flash attention whenever that package is installed. Can go when it does neither.
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

    def _prepare_llm_for_lora(self, lora_config: Any, use_activation_checkpointing: bool = True) -> None:
        """Adapt the language model; XTuner would first copy one that is not quantised into float32, whole."""
        config = require_targets(self._parse_lora_config(lora_config), "llm_lora")
        self.llm = get_peft_model(_prepared(self.llm, use_activation_checkpointing), config)
        require_fitting_rank(self.llm, "llm_lora")

    def _prepare_visual_encoder_for_lora(self, lora_config: Any, use_activation_checkpointing: bool = True) -> None:
        """Adapt the visual encoder, prepared if it is quantised, up to the layer whose output is used."""
        config = require_targets(self._parse_lora_config(lora_config), "visual_encoder_lora")
        if config.layers_to_transform is None:
            layers = int(self.visual_encoder.config.num_hidden_layers)
            config.layers_to_transform = useful_layers(self.visual_select_layer, layers)
        self.visual_encoder = get_peft_model(_prepared(self.visual_encoder, use_activation_checkpointing), config)
        require_fitting_rank(self.visual_encoder, "visual_encoder_lora")

    def forward(self, data: dict[str, Any], data_samples: Any = None, mode: str = "loss") -> Any:
        """Run a batch of `moslora_xtuner.data.dataset.collate`; XTuner's modes `loss`, `predict`, `tensor`."""
        if self.is_first_iter:
            # XTuner puts 4-bit states and buffers on the device here, once.
            self.to(data["input_ids"].device)
            self.is_first_iter: bool = False
        ids = data["input_ids"]
        marks = ids == IMAGE_TOKEN_INDEX
        embeds = self._text(ids.masked_fill(marks, 0))
        pixels = data.get("pixel_values")
        if pixels is not None:
            features = self._features(pixels)
            if int(marks.sum()) != features.shape[0] * features.shape[1]:
                raise DataError(
                    f"{int(marks.sum())} image places in the batch, but {features.shape[0]} images of "
                    f"{features.shape[1]} patches: set the collate function's image_tokens to {features.shape[1]}"
                )
            embeds = embeds.masked_scatter(marks.unsqueeze(-1), features.to(embeds.dtype))
        elif bool(marks.any()):
            raise DataError(f"{int(marks.sum())} image places in the batch, but no pixel_values")
        elif self.training:
            # Every rank must hold a gradient for the same parameters, also for a batch without images.
            embeds = embeds + self._no_image().to(embeds.dtype)
        mask = data["attention_mask"]
        if self.skip_padding_mask and padded_right(mask):
            mask = None
        batch = {"inputs_embeds": embeds, "attention_mask": mask, "labels": data["labels"]}
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

    def compute_loss(self, data: dict[str, Any], data_samples: Any = None) -> dict[str, torch.Tensor]:
        """The loss of a batch with `inputs_embeds` and `labels`, all logits at once or in chunks."""
        causal: Any = self.llm.get_base_model() if isinstance(self.llm, PeftModel) else self.llm
        head = causal.get_output_embeddings()
        if not self.chunked_loss or is_trained(head):
            return super().compute_loss(data, data_samples)
        inputs = {name: value for name, value in data.items() if name != "labels"}
        states = causal.get_decoder()(**inputs, use_cache=False, return_dict=True).last_hidden_state
        return {"loss": chunked_loss(states, data["labels"], head)}

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

    bad_batches = 0
    """How many micro-batches may yet have a loss that is no number (train_cfg.skip_bad_batches)."""
    skipped: BadLoss | None = None
    """That of the micro-batch in hand, where it was let pass."""

    def _text(self, ids: torch.Tensor) -> torch.Tensor:
        """The embeddings of text tokens, (rows, length, H).

        Where they are not trained they are no leaf with a gradient of its own, as which XTuner's checkpointing would
        keep them: what is trained before the language model gives its first block an input that has a gradient.
        """
        table = self.llm.get_input_embeddings()
        embeds: torch.Tensor = table(ids)
        frozen = not any(weight.requires_grad for weight in table.parameters())
        return embeds.detach() if frozen and self._trains_pictures() else embeds

    def _features(self, pixels: torch.Tensor) -> torch.Tensor:
        """The projected patch features, (images, patches, H); no graph of a visual encoder that is frozen (stage 1)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and _trained(self.visual_encoder)):
            states = self.visual_encoder(pixels.to(self.visual_encoder.dtype), output_hidden_states=True)
        patches = states.hidden_states[self.visual_select_layer][:, 1:]
        if torch.is_grad_enabled() and not patches.requires_grad:
            # Checkpointed, the projector would get no gradient, without a word: none of its inputs would want one.
            patches = patches.detach().requires_grad_()
        features: torch.Tensor = self.projector(patches)
        return features

    def _trains_pictures(self) -> bool:
        return self.training and (_trained(self.projector) or _trained(self.visual_encoder))

    def _no_image(self) -> torch.Tensor:
        if get_world_size() > 1:
            # All ranks run the same layers in the same order: ZeRO-3 gathers their weights, ZeRO-2 sums their
            # gradients, each as its turn comes, and beside a rank with pictures would give them to other weights.
            edge = self.visual_encoder.config.image_size
            blank = torch.zeros(1, 3, edge, edge, device=self.llm.device, dtype=self.visual_encoder.dtype)
            return self._features(blank).sum() * 0.0
        visual = (*self.visual_encoder.parameters(), *self.projector.parameters())
        total = sum((p.sum() for p in visual if p.requires_grad), start=torch.zeros((), device=visual[0].device))
        return torch.as_tensor(total) * 0.0


def _trained(part: nn.Module) -> bool:
    return any(weight.requires_grad for weight in part.parameters())


def padded_right(mask: torch.Tensor) -> bool:
    """Whether no row of a (rows, length) mask has padding before a token."""
    return bool((mask[:, 1:] <= mask[:, :-1]).all())


def _prepared(part: nn.Module, use_activation_checkpointing: bool) -> nn.Module:
    """A 4- or 8-bit model made ready for training (norms in float32, as in QLoRA); any other as it is."""
    return part if quantised_bits(part) is None else prepare_model_for_kbit_training(part, use_activation_checkpointing)


def load_projector(projector: nn.Module, path: Path) -> None:
    """Load a projector's weights, all of them and no others.

    Raises:
        ConfigError: the file is missing, or names or shapes differ; the message lists them.
    """
    weights = read_projector(path)
    wanted = {name: tuple(value.shape) for name, value in projector.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    if wanted != found:
        missing = sorted(wanted.keys() - found.keys())
        extra = sorted(found.keys() - wanted.keys())
        shapes = [f"{n} {found[n]} for {wanted[n]}" for n in wanted if wanted[n] != found.get(n, wanted[n])]
        raise ConfigError(f"{path} is not this projector: missing {missing}, unknown {extra}, shapes {shapes}")
    projector.load_state_dict(weights)
