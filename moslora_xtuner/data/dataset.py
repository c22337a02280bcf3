"""What the training process reads: rows of a token store with their images, and batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ..errors import ConfigError, DataError
from .images.opening import open_image
from .images.preprocess import ToPixels
from .prepare_on_launch import store_of
from .tokens.chat_templates import Loss
from .tokens.store import open_store
from .tokens.tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX


def _build(value: Any) -> Any:
    """Build what a config gives as a dict with a `type`, as XTuner's own datasets do."""
    if isinstance(value, dict):
        from xtuner.registry import BUILDER

        return BUILDER.build(value)
    return value


class TokenStore(Dataset):
    """A prepared token store, mapped into memory: no rank holds a copy, and opening it reads no record.

    Args:
        store: folder written by `moslora data prepare`.
        image_folder: where the records' image paths start.
        image_processor: a Hugging Face image processor, or the config dict of one; None for text alone.
        tokenizer: the model's tokenizer, or the config dict of one; must be the one the store was made with.
        template: must be the template that the store was made with.
        pad_image_to_square: pad with the processor's mean colour, as LLaVA-1.5 does.
        data_path: instead of `store`, a JSON (or JSONL, datasets folder, list of them with weights): checked and
            tokenised now, by the first process, into a store in the user's cache that later launches use again.
        max_length, max_images, skip_bad: of `prepare`, for `data_path` alone; a store has its own.
        loss: of `prepare`, for `data_path`; a store must have been made with it, where it is given.

    Raises:
        ConfigError: neither `store` nor `data_path`, or `data_path` without the tokenizer's config.
        DataError: the store is missing, unfinished, or made with another tokenizer or template, or the tokenizer
            lacks the template's special tokens; records of `data_path` are bad. When reading: an image is gone or
            broken; the message names the record.
    """

    def __init__(
        self,
        store: str | None = None,
        image_folder: str = "",
        image_processor: Any = None,
        tokenizer: Any = None,
        template: str | None = None,
        pad_image_to_square: bool = True,
        data_path: str | Sequence[str] | None = None,
        max_length: int | None = None,
        max_images: int = 1,
        skip_bad: float = 0.0,
        loss: Loss | None = None,
    ) -> None:
        self.image_root = Path(image_folder)
        if data_path is not None:
            # A store that the recipe names stands back: who says data_path means it.
            how = (tokenizer, template, max_length, max_images, skip_bad, loss)
            store = str(store_of(data_path, self.image_root, *how))
        elif store is None:
            raise ConfigError("neither store nor data_path: give the folder that `moslora data prepare` wrote as store")
        self.manifest, self.table = open_store(Path(store), self.image_root, _build(tokenizer), template, loss)
        self.to_pixels = None if image_processor is None else ToPixels(_build(image_processor), pad_image_to_square)

    def __len__(self) -> int:
        return len(self.table)

    @property
    def system(self) -> str:
        """The system prompt of more than half of the records; '' without one."""
        return str(self.manifest.get("system") or "")

    @property
    def modality_lengths(self) -> np.ndarray:
        """Each record's number of text tokens, negative without an image (LengthGroupedSampler)."""
        lengths = self.table.column("length")
        return np.where(self.table.column("image_count") > 0, lengths, -lengths)

    @property
    def image_counts(self) -> np.ndarray:
        """Each record's number of pictures (TokenBudget)."""
        return self.table.column("image_count")

    @property
    def modality_length(self) -> list[int]:
        """The same as Python's numbers, for XTuner's LengthGroupedSampler."""
        found: list[int] = self.modality_lengths.tolist()
        return found

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.table.row(index)
        item = {"id": row["id"], "input_ids": row["input_ids"], "labels": row["labels"]}
        to_pixels = self.to_pixels
        if row["images"] and to_pixels is None:
            raise DataError(
                f"record {index} (id {row['id']}) has a picture, and there is no image_processor: this training is of "
                "text alone; prepare the store without pictures"
            )
        try:
            pixels = [to_pixels(open_image(self.image_root, name)) for name in row["images"] if to_pixels]
        except DataError as fault:
            raise DataError(f"record {index} (id {row['id']}): {fault}; `moslora data check` finds all such") from fault
        if pixels:
            item["pixel_values"] = torch.stack(pixels)
        return item


def collate(instances: list[dict[str, Any]], image_tokens: int = 1, pad_index: int = 0) -> dict[str, Any]:
    """A right-padded batch in which each image mark stands `image_tokens` times; text alone has none.

    Returns:
        `data` with input_ids, labels and attention_mask of shape (batch, length), pixel_values (images, 3, H, W) of the
        rows that have images, in their order (without any, no pixel_values), and the records' ids, for messages.
    """
    ids, labels, pixels = [], [], []
    for instance in instances:
        # Rows of the store cannot be written to; torch warns of such memory.
        row = torch.from_numpy(np.array(instance["input_ids"], dtype=np.int64))
        target = torch.from_numpy(np.array(instance["labels"], dtype=np.int64))
        repeats = torch.where(row == IMAGE_TOKEN_INDEX, image_tokens, 1)
        ids.append(row.repeat_interleave(repeats))
        labels.append(target.repeat_interleave(repeats))
        if "pixel_values" in instance:
            pixels.append(instance["pixel_values"])
    lengths = torch.tensor([len(row) for row in ids])
    data: dict[str, Any] = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_index),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE_INDEX),
        "attention_mask": torch.arange(int(lengths.max()))[None] < lengths[:, None],
    }
    if pixels:
        data["pixel_values"] = torch.cat(pixels)
    if all("id" in instance for instance in instances):
        data["ids"] = [str(instance["id"]) for instance in instances]
    return {"data": data, "data_samples": None}
