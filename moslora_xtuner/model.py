"""LLaVA with adapters on the language model and on the visual encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from mmengine.dist import get_world_size
from torch import nn
from xtuner.model import LLaVAModel

from .data.tokens.tokenise import IMAGE_TOKEN_INDEX
from .errors import ConfigError, DataError
from .projector import projector_weights as read_projector
from .training.adapted_model import AdaptedModel
from .training.artifacts import LLM, PROJECTOR, VISUAL_ENCODER
from .training.targets import require_targets, useful_layers


class MosLoraLLaVA(AdaptedModel, LLaVAModel):
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
        if not _trained(self.visual_encoder):
            self.visual_encoder.gradient_checkpointing_disable()  # there is no backward to compute anything again for
        self.economise(
            chunked_loss=chunked_loss,
            skip_padding_mask=skip_padding_mask,
            fused_adapters=fused_adapters,
            lean_mlp=lean_mlp,
            checkpointed_blocks=checkpointed_blocks,
            use_activation_checkpointing=options.get("use_activation_checkpointing", True),
        )
        if projector_weights is not None:
            load_projector(self.projector, Path(projector_weights))

    def parts(self) -> dict[str, nn.Module]:
        """The language model, the visual encoder and the projector."""
        return {LLM: self.llm, VISUAL_ENCODER: self.visual_encoder, PROJECTOR: self.projector}

    def _prepare_llm_for_lora(self, lora_config: Any, use_activation_checkpointing: bool = True) -> None:
        config = self._parse_lora_config(lora_config)
        self.llm = self.adapt(self.llm, config, "llm_lora", use_activation_checkpointing)

    def _prepare_visual_encoder_for_lora(self, lora_config: Any, use_activation_checkpointing: bool = True) -> None:
        """Adapt the visual encoder, prepared if it is quantised, up to the layer whose output is used."""
        config = require_targets(self._parse_lora_config(lora_config), "visual_encoder_lora")
        if config.layers_to_transform is None:
            layers = int(self.visual_encoder.config.num_hidden_layers)
            config.layers_to_transform = useful_layers(self.visual_select_layer, layers)
        self.visual_encoder = self.adapt(
            self.visual_encoder, config, "visual_encoder_lora", use_activation_checkpointing
        )

    def forward(self, data: dict[str, Any], data_samples: Any = None, mode: str = "loss") -> Any:
        """Run a batch of `moslora_xtuner.data.dataset.collate`; XTuner's modes `loss`, `predict`, `tensor`."""
        self.move_once(data["input_ids"].device)
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
        batch = {"inputs_embeds": embeds, "attention_mask": data["attention_mask"], "labels": data["labels"]}
        return self.run(batch, data, data_samples, mode)

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
