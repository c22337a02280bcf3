"""Greedy answers of an exported LLaVA: batches with left padding, each image encoded once."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moslora_xtuner.errors import EvaluationError

from .export_form import ExportForm

if TYPE_CHECKING:
    import torch

FEATURE_CACHE_BYTES = 2 * 1024**3
OnBatch = Callable[[list[int], list[str]], None]


@dataclass(frozen=True)
class Question:
    """One prompt text (no image token, no template), its image file's bytes, and the longest answer."""

    text: str
    image: bytes | None
    max_new_tokens: int = 16

    @property
    def image_key(self) -> str:
        """The sha256 of the image bytes ("" without an image)."""
        return "" if self.image is None else hashlib.sha256(self.image).hexdigest()


class LlavaAnswerer:
    """Answer y = argmax p(y | <s> SYSTEM INSTRUCTION(<image> \\n question)), token by token.

    Args: `folder` an export in stock Hugging Face form with moslora_export.json; `dtype` a torch dtype's
    name (default float32 on CPU, bfloat16 on GPU); `device` (default: GPU where there is one).
    Raises EvaluationError when the folder is no such export or an image cannot be read.
    """

    def __init__(self, folder: Path, *, dtype: str | None = None, device: str | None = None) -> None:
        import torch
        from transformers import AutoTokenizer, CLIPImageProcessor, LlavaForConditionalGeneration

        from moslora_xtuner.data.pixels import ToPixels

        self.form = ExportForm.read(folder)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.dtype = dtype or ("float32" if self.device == "cpu" else "bfloat16")
        try:
            model = LlavaForConditionalGeneration.from_pretrained(
                folder, torch_dtype=getattr(torch, self.dtype), local_files_only=True
            )
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            processor = CLIPImageProcessor.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError, RuntimeError) as error:
            raise EvaluationError(f"{folder} cannot be loaded: {error}. Export the model again.") from error
        self.model: Any = model.eval().to(self.device)
        self.to_pixels = ToPixels(processor, self.form.pad_image_to_square)
        self._features: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._feature_bytes = 0
        self._stop_ids, self._stop_texts = self._stops()
        bos = self.tokenizer.bos_token_id
        if self.form.bos and bos is None:
            raise EvaluationError(f"{folder}: the export asks for a BOS token, its tokenizer has none.")
        self._bos: list[int] = [bos] if self.form.bos else []

    def _stops(self) -> tuple[set[int], list[str]]:
        """Stop words that are one token, by id (with EOS), and the longer ones as text."""
        eos = self.tokenizer.eos_token_id
        ids, texts = ({eos} if eos is not None else set()), []
        for word in self.form.stop_words:
            tokens = self.tokenizer.encode(word, add_special_tokens=False)
            if len(tokens) == 1:
                ids.add(tokens[0])
            else:
                texts.append(word)
        return ids, texts

    def encode(self, question: Question) -> tuple[list[int], list[int]]:
        """Token ids before and after the image, each side encoded alone as in training."""
        text = question.text.replace(self.form.image_token, "").strip()
        if question.image is None:
            return self._bos + self._ids(self.form.prompt(text)), []
        before, after = self.form.prompt(f"{self.form.image_token}\n{text}").split(self.form.image_token)
        return self._bos + self._ids(before), self._ids(after)

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False))

    def answer(
        self, questions: Sequence[Question], *, batch_size: int = 64, on_batch: OnBatch | None = None
    ) -> list[str]:
        """Answer every question; the answers come in the order of the questions.

        Questions run in batches of like length, equal images together; `on_batch` gets the places and
        answers of each finished batch.
        """
        import torch

        encoded = [self.encode(question) for question in questions]
        keys = [question.image_key for question in questions]
        order = sorted(
            range(len(questions)),
            key=lambda i: (questions[i].max_new_tokens, len(encoded[i][0]) + len(encoded[i][1]), keys[i], i),
        )
        answers = [""] * len(questions)
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            with torch.inference_mode():
                self._encode_images({keys[i]: questions[i].image for i in places})
                rows = [self._embed(encoded[i], keys[i]) for i in places]
                texts = self._generate(rows, max(questions[i].max_new_tokens for i in places))
            for place, text in zip(places, texts, strict=True):
                answers[place] = text
            if on_batch is not None:
                on_batch(places, texts)
        return answers

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

    def _generate(self, rows: list[torch.Tensor], max_new_tokens: int) -> list[str]:
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
        for _ in range(max_new_tokens):
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
            keep = [i for i, row_number in enumerate(alive) if not self._finished(made[row_number])]
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
        return [self._text(tokens) for tokens in made]

    def _finished(self, tokens: list[int]) -> bool:
        if tokens[-1] in self._stop_ids:
            return True
        if not self._stop_texts:
            return False
        text = self.tokenizer.decode(tokens)
        return any(word in text for word in self._stop_texts)

    def _text(self, tokens: list[int]) -> str:
        """The answer's text, without stop words and other special tokens."""
        end = next((i for i, token in enumerate(tokens) if token in self._stop_ids), len(tokens))
        text: str = self.tokenizer.decode(tokens[:end], skip_special_tokens=True)
        for word in self._stop_texts:
            text = text.split(word)[0]
        return text.strip()
