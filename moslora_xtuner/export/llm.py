"""A language model on disk, with its adapter, of which one block at a time is in memory."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..adapters.directory.contents import PREFIX
from ..adapters.directory.disk import WEIGHTS_FILE, read_names, read_weights
from ..errors import ExportError
from ..llm.families import INTERNLM2, LLAMA, read_config
from ..llm.load import classes
from ..llm.weights import Weights
from .quantised import dequantised, quantise

RIM = {
    LLAMA: ("model.embed_tokens", "model.norm", "lm_head"),
    INTERNLM2: ("model.tok_embeddings", "model.norm", "output"),
}
"""What stands around the blocks: the embedding, the last norm, the head."""
CHUNK = 16_384
"""Rows of the head that are multiplied at once."""


class Blocks(nn.ModuleDict):
    """Some blocks of a model under their own numbers, to which an adapter's config and its weights refer."""

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values())

    def __getitem__(self, key: Any) -> Any:
        return list(self.values())[key] if isinstance(key, slice) else super().__getitem__(key)


class StreamedLlm:
    """A causal language model f(e) = H N(B_n(... B_1(e))) whose blocks B_i are loaded, used and dropped in turn.

    All is computed in float32, with weights rounded as the training had them.

    Args:
        checkpoint: a folder or hub id of LLaMA or InternLM2; or of an exported LLaVA.
        adapter: a PEFT directory, MOSLORA or LORA, whose keys are those of this model.
        quantisation: the BitsAndBytesConfig that the base was trained under, if it was.
        dtype: the number type that the base was loaded in; that of the files by default.
        inside: what the language model is called inside a LLaVA, "" where it stands alone.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        adapter: Path | None = None,
        quantisation: Mapping[str, Any] | None = None,
        dtype: torch.dtype | None = None,
        inside: str = "",
    ) -> None:
        self.weights = Weights(checkpoint)
        self.checkpoint, self.quantisation, self.dtype = str(checkpoint), quantisation, dtype
        self.prefix = f"{inside}." if inside else ""
        found = read_config(checkpoint)
        self.family, self.config, self._class = _kind(found.get("text_config", found) if inside else found, checkpoint)
        self.embedding, self.norm, self.head = RIM[self.family]
        self.adapter = None if adapter is None else AdapterFile(adapter)
        self._rim = self._adapted_rim()

    @property
    def layers(self) -> int:
        """How many blocks there are."""
        return int(self.config.num_hidden_layers)

    @property
    def tied(self) -> bool:
        """Whether the head is the embedding."""
        return bool(self.config.tie_word_embeddings)

    def block(
        self, number: int, *, base: str = "trained", tuned: bool = True, rounded: torch.dtype | None = None
    ) -> Any:
        """One block, in a model that holds no other.

        Args:
            number: from 0.
            base: its weights `trained` (quantised where the training's were), `dequantised` (the same as plain
                weights), or `original` (as in the files).
            tuned: with the adapter.
            rounded: the number type that plain weights are rounded to.
        """
        model = self._skeleton([number], vocabulary=8)
        for name, weight in model.model.layers.named_parameters():
            weight.data = self._stored(f"model.layers.{name}")
        if self.quantisation is not None and base != "original":
            trained = copy.deepcopy(model.model.layers) if base == "dequantised" else model.model.layers
            quantise(trained, self.quantisation)
            for name, weight in dequantised(trained).items() if base == "dequantised" else ():
                model.model.layers.get_submodule(name).weight.data = weight
        for weight in model.parameters():
            if weight.is_floating_point() and not hasattr(weight, "quant_state"):
                weight.data = weight.data.to(rounded or weight.dtype).float()
        return self._tuned(model, f"model.layers.{number}.") if tuned else model

    def run(self, block: Any, states: Sequence[Tensor]) -> list[Tensor]:
        """What comes out of a block for each of (1, length, H)."""
        model = _plain(block, self.prefix)
        model.model.norm = nn.Identity()
        with torch.no_grad():
            return [model.model(inputs_embeds=state, use_cache=False).last_hidden_state for state in states]

    def merged(self, block: Any) -> Any:
        """The block with the adapter in its weights, W + s B M A."""
        return block.merge_and_unload(safe_merge=True) if hasattr(block, "peft_config") else block

    def block_weights(self, block: Any) -> dict[str, nn.Parameter]:
        """The weights of a block without adapter, under their names in the checkpoint."""
        layers = _plain(block, self.prefix).model.layers
        return {f"model.layers.{name}": weight for name, weight in layers.named_parameters()}

    def embed(self, ids: Tensor, rounded: torch.dtype | None = None) -> Tensor:
        """Rows of the embedding, (length, H), as they are when rounded to a number type."""
        if self._rim is not None:
            with torch.no_grad():
                rows: Tensor = self._rim.get_input_embeddings()(ids)
        else:
            rows = self._cast(self.weights.rows(f"{self.prefix}{self.embedding}.weight", ids)).float()
        return rows.to(rounded or rows.dtype).float()

    def logits(self, state: Tensor, places: Tensor, rounded: torch.dtype | None = None) -> Tensor:
        """Logits (places, vocabulary) at some places of what came out of the last block."""
        picked = state[0, places]

        def used(weight: Tensor) -> Tensor:
            return weight.to(rounded or weight.dtype).float()

        with torch.no_grad():
            if self._rim is not None:
                made: Tensor = self._rim.get_output_embeddings()(self._rim.model.norm(picked))
                return made
            model = self._skeleton([], vocabulary=8)
            model.model.norm.weight.data = used(self._stored(f"{self.norm}.weight"))
            picked = model.model.norm(picked)
            name = self.prefix + (self.embedding if self.tied else self.head) + ".weight"
            rows = self.weights.shape(name)[0]
            parts = [self.weights.rows(name, slice(at, min(at + CHUNK, rows))) for at in range(0, rows, CHUNK)]
            return torch.cat([picked @ used(self._cast(part)).T for part in parts], dim=-1)

    def rim(self) -> dict[str, Tensor]:
        """Embedding, last norm and head, with the adapter where it has weights for them; the head also where tied."""
        if self._rim is not None:
            model = self._rim.merge_and_unload(safe_merge=True)
            inner = _plain(model, self.prefix)
            found = {f"{n}.weight": inner.get_submodule(n).weight.data for n in (self.embedding, self.norm, self.head)}
            self._rim = self._adapted_rim()
            return found
        names = (self.embedding, self.norm, self.embedding if self.tied else self.head)
        return {
            f"{name}.weight": self._stored(f"{stored}.weight")
            for name, stored in zip(RIM[self.family], names, strict=True)
        }

    def _stored(self, name: str) -> Tensor:
        return self._cast(self.weights.get(self.prefix + name))

    def _cast(self, tensor: Tensor) -> Tensor:
        return tensor if self.dtype is None else tensor.to(self.dtype)

    def _skeleton(self, numbers: Sequence[int], vocabulary: int) -> Any:
        """A model of some blocks alone, whose weights are not set yet."""
        from transformers.modeling_utils import no_init_weights

        config = copy.deepcopy(self.config)
        config.num_hidden_layers, config.vocab_size = len(numbers), vocabulary
        config.pad_token_id, config.use_cache = None, False
        with no_init_weights():
            model = self._class(config).eval().requires_grad_(False)
        model.model.layers = Blocks(
            {str(number): layer for number, layer in zip(numbers, model.model.layers, strict=True)}
        )
        return model

    def _tuned(self, model: Any, under: str) -> Any:
        """The model with the part of the adapter that belongs to what is `under` a name."""
        if self.adapter is None or not (weights := self.adapter.part(self.prefix + under)):
            return model
        return self.adapter.put_on(inside(self.prefix, model), weights)

    def _adapted_rim(self) -> Any:
        """Embedding, norm and head as a model, where the adapter has weights for one of them; else None."""
        if self.adapter is None or not (
            weights := self.adapter.part(self.prefix, beside=f"{self.prefix}model.layers.")
        ):
            return None
        if self.tied:
            raise ExportError(
                f"{self.adapter.folder} adapts the embedding or the head of {self.checkpoint}, which are one weight: "
                "no engine holds them apart; train without them among target_modules"
            )
        vocabulary = self.weights.shape(f"{self.prefix}{self.embedding}.weight")[0]
        model = self._skeleton([], vocabulary)
        for name in (self.embedding, self.norm, self.head):
            model.get_submodule(name).weight.data = self._stored(f"{name}.weight").float()
        return self.adapter.put_on(inside(self.prefix, model), weights)


def inside(prefix: str, model: Any) -> Any:
    """A module in which a model is called by a prefix, "language_model." say, as in a LLaVA; itself without one."""
    if not prefix:
        return model
    holder = nn.Module()
    holder.add_module(prefix[:-1], model)
    return holder


class AdapterFile:
    """A PEFT directory whose weights are read as they are asked for."""

    def __init__(self, folder: Path) -> None:
        from peft import PeftConfig

        from .. import adapters  # noqa: F401  (registers MOSLORA with PEFT)

        self.folder = folder
        self.config = PeftConfig.from_pretrained(str(folder))
        file = folder / WEIGHTS_FILE
        self._file = file if file.is_file() else None
        self._tensors = read_weights(folder) if self._file is None else {}
        self.names = read_names(folder)

    def part(self, under: str, beside: str | None = None) -> dict[str, Tensor]:
        """The tensors of what is `under` a name of the model, but not of what is `beside` that."""
        names = (name for name in self.names if name.startswith(PREFIX + under))
        left_out = None if beside is None else PREFIX + beside
        return {name: self._get(name) for name in names if left_out is None or not name.startswith(left_out)}

    def put_on(self, model: Any, weights: dict[str, Tensor]) -> Any:
        """The model with these weights of the adapter, all of them and no others."""
        from peft import PeftType, get_peft_model, set_peft_model_state_dict

        config = copy.deepcopy(self.config)
        config.task_type, config.inference_mode, config.base_model_name_or_path = None, True, None
        if getattr(config, "peft_type", None) == PeftType.ADALORA and config.rank_pattern:
            # It names what is left of each layer's ranks, and PEFT looks each of them up.
            config.rank_pattern = {n: left for n, left in config.rank_pattern.items() if f"{PREFIX}{n}" in weights}
        tuned: Any = get_peft_model(model, config)
        set_peft_model_state_dict(tuned, weights)
        tuned.eval()  # last: AdaLoRA makes its layers anew for the weights, and with them their dropout
        marks = (f".{tuned.base_model.prefix}", ".modules_to_save.")
        have = {name for name in tuned.state_dict() if any(mark in name for mark in marks)}
        if len(have) != len(weights):
            raise ExportError(
                f"{self.folder}: {len(weights)} tensors for {len(have)} places of {next(iter(weights))} and its like"
            )
        return tuned

    def _get(self, name: str) -> Tensor:
        if self._file is None:
            return self._tensors[name]
        from safetensors import safe_open

        with safe_open(self._file, "pt") as file:  # not kept open: it maps the file, pages once read would stay
            found: Tensor = file.get_tensor(name)
        return found


def _plain(block: Any, prefix: str) -> Any:
    """The causal model inside PEFT's wrapper and a LLaVA's."""
    model = block.get_base_model() if hasattr(block, "peft_config") and hasattr(block, "get_base_model") else block
    return getattr(model, prefix[:-1]) if prefix and hasattr(model, prefix[:-1]) else model


def _kind(found: Mapping[str, Any], checkpoint: str | Path) -> tuple[str, Any, Any]:
    family = str(found.get("model_type"))
    if family not in RIM:
        raise ExportError(f"{checkpoint} is a checkpoint of type {family!r}: {' or '.join(RIM)} can be exported")
    config_class, model_class = classes(family)
    config = config_class.from_dict(dict(found))
    if family == INTERNLM2:
        config.attn_implementation = "sdpa"  # its class reads a field of this name
    return family, config, model_class
