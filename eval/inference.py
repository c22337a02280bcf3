"""Greedy answers of an exported LLaVA: batches with left padding, each image encoded once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moslora_xtuner.errors import EvaluationError
from moslora_xtuner.progress import note

from . import batches
from .precision import Precision
from .prompt_ids import PromptIds
from .prompts import Question

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

        from moslora_xtuner.data.pixels import ToPixels

        self.prompts = PromptIds(folder)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        precision = precision or Precision.default(self.device)
        try:
            model = LlavaForConditionalGeneration.from_pretrained(
                folder, local_files_only=True, **precision.loading(self.device)
            )
            processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise EvaluationError(f"{folder} cannot be loaded: {error}. Export the model again.") from error
        self.model: Any = model.eval() if precision is Precision.four_bit else model.eval().to(self.device)
        self.to_pixels = ToPixels(processor, self.prompts.form.pad_image_to_square)
        self._features: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._feature_bytes = 0

    def answer(self, questions: Sequence[Question], *, batch_size: int = 64) -> list[str]:
        """Answer every question, in batches; the answers come in the order of the questions."""
        lengths = [self.prompts.length(question) for question in questions]
        answers = [""] * len(questions)
        for places in batches.plan(questions, lengths, batch_size):
            found = self.answer_batch([questions[place] for place in places])
            for place, text in zip(places, found, strict=True):
                answers[place] = text
        return answers

    def answer_batch(self, questions: Sequence[Question]) -> list[str]:
        """Answer the questions at once; where the GPU's memory does not hold them, one half after the other."""
        import torch

        try:
            with torch.inference_mode():
                keys = [question.image_key for question in questions]
                self._encode_images({key: question.image for key, question in zip(keys, questions, strict=True)})
                encoded = [self.prompts.encode(question) for question in questions]
                rows = [self._embed(ids, key) for ids, key in zip(encoded, keys, strict=True)]
                return self._generate(rows, [question.max_new_tokens for question in questions])
        except torch.OutOfMemoryError:
            half = len(questions) // 2
            if not half:
                raise
        note(f"{len(questions)} questions at a time are too many for the memory: answered {half} at a time")
        torch.cuda.empty_cache()
        return self.answer_batch(questions[:half]) + self.answer_batch(questions[half:])

    def pixels(self, content: bytes) -> torch.Tensor:
        """Image bytes to (3, size, size), by the same steps as in training."""
        from PIL import Image as images

        try:
            image = images.open(BytesIO(content)).convert("RGB")
        except OSError as error:
            raise EvaluationError(f"An image of the benchmark cannot be decoded: {error}.") from error
        return self.to_pixels(image)

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

    def _embed(self, encoded: tuple[list[int], list[int]], key: str) -> torch.Tensor:
        """One prompt as embeddings (length, hidden), the image's features in their place."""
        import torch

        table = self.model.get_input_embeddings()
        before, after = (torch.tensor(ids, dtype=torch.long, device=self.device) for ids in encoded)
        if not key:
            return table(before)
        return torch.cat([table(before), self._features[key], table(after)])

    def _generate(self, rows: list[torch.Tensor], max_new_tokens: Sequence[int]) -> list[str]:
        """Greedy decoding of one batch of embedded prompts; finished rows leave the batch at once."""
        import torch
        from transformers import DynamicCache

        longest = max(len(row) for row in rows)
        embeds = torch.zeros(len(rows), longest, rows[0].shape[-1], dtype=rows[0].dtype, device=self.device)
        mask = torch.zeros(len(rows), longest, dtype=torch.long, device=self.device)
        for place, row in enumerate(rows):
            embeds[place, longest - len(row) :] = row
            mask[place, longest - len(row) :] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        cache: Any = DynamicCache()
        made: list[list[int]] = [[] for _ in rows]
        alive = list(range(len(rows)))
        inputs: dict[str, Any] = {"inputs_embeds": embeds}
        for _ in range(max(max_new_tokens)):
            output = self.model.language_model(
                **inputs,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                num_logits_to_keep=1,
            )
            chosen = output.logits[:, -1].argmax(-1)
            for row_number, token in zip(alive, chosen.tolist(), strict=True):
                made[row_number].append(token)
            keep = [
                place
                for place, row in enumerate(alive)
                if not self.prompts.finished(made[row]) and len(made[row]) < max_new_tokens[row]
            ]
            if not keep:
                break
            if len(keep) < len(alive):
                alive = [alive[i] for i in keep]
                index = torch.tensor(keep, device=self.device)
                cache.batch_select_indices(index)
                mask, positions, chosen = mask[index], positions[index], chosen[index]
            inputs = {"input_ids": chosen[:, None]}
            mask = torch.cat([mask, mask.new_ones(len(alive), 1)], dim=1)
            positions = positions[:, -1:] + 1
        return [self.prompts.text(tokens) for tokens in made]
