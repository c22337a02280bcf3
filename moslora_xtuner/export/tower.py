"""The visual encoder with its projector, as it was trained and as it was written."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ExportError
from ..llm.weights import Weights
from ..projector import projector_weights
from ..training.artifacts import VISUAL_ENCODER
from .llm import AdapterFile, inside
from .parts import PROJECTOR_NAMES, TOWER, Parts, number_type
from .quantised import dequantised, quantise


class Tower:
    """Features of a picture: W2 gelu(W1 v + b1) + b2 of the patches v of one layer of the visual encoder.

    Without CLS. It is small enough to be held whole, in float32.

    Args:
        encoder: a CLIPVisionModel, with its adapter if it has one.
        projector: `model.0.weight` and so on.
        select: the layer.
        adapted: PEFT's wrapper of the encoder; None without an adapter.
    """

    def __init__(self, encoder: Any, projector: Mapping[str, Tensor], select: int, adapted: Any = None) -> None:
        self.encoder, self.select, self.adapted = encoder, select, adapted
        self.projector = {name: weight.float() for name, weight in projector.items()}
        self.config = encoder.config

    @classmethod
    def trained(cls, parts: Parts, base: str = "dequantised") -> Tower:
        """Of a run. `base`: what becomes of a quantised one. Raises ExportError where no LLaVA holds the projector."""
        from peft import PeftModel
        from transformers import CLIPVisionModel

        from .. import adapters  # noqa: F401  (registers MOSLORA with PEFT)

        if parts.inside:
            return cls.read(Path(parts.visual_encoder), parts.llm_adapter)
        weights = projector_weights(parts.projector)
        if set(weights) != {f"model.{number}.{kind}" for number in PROJECTOR_NAMES for kind in ("weight", "bias")}:
            raise ExportError(f"Hugging Face's LLaVA has a projector of two layers, this one has {sorted(weights)}")
        dtype = number_type(parts, VISUAL_ENCODER) or torch.float32
        encoder: Any = CLIPVisionModel.from_pretrained(parts.visual_encoder, torch_dtype=dtype).eval()
        settings = parts.quantisation(VISUAL_ENCODER, needed=base != "original")
        if settings is not None and base != "original":
            quantised = copy.deepcopy(encoder)
            quantise(quantised, settings)
            for name, weight in dequantised(quantised).items():
                encoder.get_submodule(name).weight.data = weight
        encoder.float()
        adapted = None
        if parts.visual_encoder_adapter is not None:
            adapted = PeftModel.from_pretrained(encoder, parts.visual_encoder_adapter).eval()
        return cls(encoder, weights, parts.visual_select_layer, adapted)

    @classmethod
    def read(cls, folder: Path, adapter: Path | None = None) -> Tower:
        """Of a written LLaVA, with what an adapter beside it has for the visual encoder."""
        from transformers import CLIPVisionModel, LlavaConfig

        config = LlavaConfig.from_pretrained(folder)
        weights = Weights(folder)
        encoder: Any = CLIPVisionModel(config.vision_config).eval()
        encoder.load_state_dict({name: weights.get(f"{TOWER}.{name}").float() for name in encoder.state_dict()})
        projector = {
            f"model.{number}.{kind}": weights.get(f"multi_modal_projector.{name}.{kind}")
            for number, name in PROJECTOR_NAMES.items()
            for kind in ("weight", "bias")
        }
        adapted = None
        if adapter is not None and (found := (file := AdapterFile(adapter)).part(f"{TOWER}.")):
            adapted = file.put_on(inside(f"{TOWER}.", encoder), found)
        return cls(encoder, projector, config.vision_feature_layer, adapted)

    @property
    def edge(self) -> int:
        """Of a picture, in pixels."""
        return int(self.config.image_size)

    @property
    def patches(self) -> int:
        """Places of a picture."""
        return int((self.config.image_size // self.config.patch_size) ** 2)

    @torch.no_grad()
    def projected(self, pixels: Tensor) -> Tensor:
        """Features (images, patches, H) of (images, 3, edge, edge)."""
        states = self.encoder(pixel_values=pixels.float(), output_hidden_states=True).hidden_states[self.select]
        weights = self.projector
        hidden = nn.functional.linear(states[:, 1:], weights["model.0.weight"], weights["model.0.bias"])
        return nn.functional.linear(nn.functional.gelu(hidden), weights["model.2.weight"], weights["model.2.bias"])

    def round(self, dtype: torch.dtype) -> None:
        """Have the weights as they are when they are written in a number type; not those of an adapter."""
        for name, weight in self.encoder.named_parameters():
            if "lora_" not in name:
                weight.data = weight.data.to(dtype).float()
        self.projector = {name: weight.to(dtype).float() for name, weight in self.projector.items()}

    def weights(self, merge: bool = True) -> dict[str, Tensor]:
        """All weights under their names in a LLaVA, the adapter in them or left out; it is gone from here then."""
        if self.adapted is not None:
            self.adapted.merge_and_unload(safe_merge=True) if merge else self.adapted.unload()
            self.adapted = None
        found = {f"{TOWER}.{name}": weight for name, weight in self.encoder.state_dict().items()}
        for name, weight in self.projector.items():
            _, number, kind = name.split(".")
            found[f"multi_modal_projector.{PROJECTOR_NAMES[number]}.{kind}"] = weight
        return found
