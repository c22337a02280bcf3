"""Greedy answers of an exported LLaVA in batches, each image encoded and read once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moslora_xtuner.errors import ConfigError, DataError, EvaluationError
from moslora_xtuner.llm.whole import require_whole

from ..tasks.prompts import Question
from . import batching
from .decoding import Prompt, decode
from .encoding import PromptIds
from .precision import Precision

if TYPE_CHECKING:
    import torch

FEATURE_CACHE_BYTES = 2 * 1024**3


class LlavaAnswerer:
    """Answer y = argmax p(y | <s> SYSTEM INSTRUCTION(<image> \\n question)), token by token.

    Args: `folder` a LLaVA in stock Hugging Face form; `precision` of its weights (default: bf16 on a GPU, fp32 on a
    CPU); `device` (default: GPU where there is one).
    Raises EvaluationError when the folder is no such model or an image cannot be read.
    """

    def __init__(self, folder: Path, *, precision: Precision | None = None, device: str | None = None) -> None:
        import torch
        from transformers import CLIPImageProcessor, LlavaForConditionalGeneration

        from moslora_xtuner.adapters.four_bit import compute_as_in_training
        from moslora_xtuner.data.images.preprocess import ToPixels

        self.prompts = PromptIds(folder)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        precision = precision or Precision.default(self.device)
        try:
            model = LlavaForConditionalGeneration.from_pretrained(
                folder, local_files_only=True, attn_implementation="sdpa", **precision.loading(self.device)
            )
            require_whole(folder, model, local_files_only=True)
            processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError, ConfigError) as error:
            raise EvaluationError(f"{folder} cannot be loaded: {error}. Export the model again.") from error
        compute_as_in_training(model)
        self.model: Any = model.eval() if precision is Precision.four_bit else model.eval().to(self.device)
        self.to_pixels = ToPixels(processor, self.prompts.form.pad_image_to_square)
        self._features: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._feature_bytes = 0

    def answer(self, questions: Sequence[Question], *, batch_size: int = 64) -> list[str]:
        """Answer every question, in batches; the answers come in the order of the questions."""
        lengths = self.prompts.lengths(questions)
        answers = [""] * len(questions)
        for places in batching.plan(questions, lengths, batch_size):
            found = self.answer_batch([questions[place] for place in places])
            for place, text in zip(places, found, strict=True):
                answers[place] = text
        return answers

    def answer_batch(self, questions: Sequence[Question]) -> list[str]:
        """Answer the questions at once; where the GPU's memory does not hold them, one half after the other."""
        return batching.within_memory(self._at_once, questions)

    def _at_once(self, questions: Sequence[Question]) -> list[str]:
        import torch

        with torch.inference_mode():
            self._encode_images({question.image_key: question.image for question in questions})
            longest = [question.max_new_tokens for question in questions]
            made = decode(self.model.language_model, self._prompts(questions), longest, self.prompts.finished)
            return [self.prompts.text(tokens) for tokens in made]

    def pixels(self, content: bytes) -> torch.Tensor:
        """Image bytes to (3, size, size), by the same steps as in training."""
        from moslora_xtuner.data.images.opening import from_bytes

        try:
            image = from_bytes(content)
        except DataError as fault:
            raise EvaluationError(f"An image of the benchmark: {fault}.") from fault
        return self.to_pixels(image)

    def features(self, content: bytes) -> torch.Tensor:
        """The projected features (patches, hidden) of one image file."""
        import torch

        key = hashlib.sha256(content).hexdigest()
        with torch.inference_mode():
            self._encode_images({key: content})
        return self._features[key]

    def _encode_images(self, images: dict[str, bytes | None]) -> None:
        """Put the projected features of images that are not there yet into the cache, newest last."""
        import torch

        for key in images.keys() & self._features.keys():
            self._features.move_to_end(key)
        new = {k: v for k, v in images.items() if v is not None and k not in self._features}
        if not new:
            return
        pixels = torch.stack([self.pixels(content) for content in new.values()])
        config = self.model.config
        features = self.model.get_image_features(
            pixel_values=pixels.to(self.device, self.model.dtype),
            vision_feature_layer=config.vision_feature_layer,
            vision_feature_select_strategy=config.vision_feature_select_strategy,
        )
        for key, feature in zip(new, features, strict=True):
            self._features[key] = feature.clone()
            self._feature_bytes += feature.numel() * feature.element_size()
        while self._feature_bytes > FEATURE_CACHE_BYTES and len(self._features) > len(images):
            _, old = self._features.popitem(last=False)
            self._feature_bytes -= old.numel() * old.element_size()

    def _prompts(self, questions: Sequence[Question]) -> list[Prompt]:
        """Each question embedded, the image's features in their place; those on one image share their start."""
        import torch

        table = self.model.get_input_embeddings()

        def embedded(ids: list[int]) -> torch.Tensor:
            return table(torch.tensor(ids, dtype=torch.long, device=self.device))

        starts: dict[str, torch.Tensor] = {}
        prompts = []
        for question, (before, after) in zip(questions, self.prompts.encode(questions), strict=True):
            key = question.image_key
            if not key:
                prompts.append(Prompt("", None, embedded(before)))
                continue
            if key not in starts:
                starts[key] = torch.cat([embedded(before), self._features[key]])
            prompts.append(Prompt(key, starts[key], embedded(after)))
        return prompts
