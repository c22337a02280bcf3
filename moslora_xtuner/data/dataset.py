"""What the training process reads: rows of a token store with their images, and batches of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from ..errors import DataError
from .images import open_image, to_pixels
from .prepare import MANIFEST, tokenizer_hash
from .templates import require_special_tokens
from .tokenise import IGNORE_INDEX, IMAGE_TOKEN_INDEX


def _build(value: Any) -> Any:
    """Build what a config gives as a dict with a `type`, as XTuner's own datasets do."""
    if isinstance(value, dict):
        from xtuner.registry import BUILDER

        return BUILDER.build(value)
    return value


def open_store(
    folder: Path, image_root: Path, tokenizer: Any = None, template: str | None = None
) -> tuple[dict[str, Any], pa.Table]:
    """A store's manifest and its table, mapped into memory, after a look at what it was made for.

    Raises:
        DataError: the store is missing, unfinished, or made with another tokenizer or template, its image folder is
            not there, or the tokenizer lacks the template's special tokens.
    """
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        table = pa.ipc.open_file(pa.memory_map(str(folder / "records.arrow"))).read_all()
    except (OSError, ValueError) as fault:
        raise DataError(
            f"no token store in {folder} ({fault}): make one with `moslora data prepare JSON --images DIR "
            f"--model LLM_DIR -o {folder}`"
        ) from fault
    if tokenizer is not None and tokenizer_hash(tokenizer) != manifest["tokenizer"]:
        raise DataError(f"the token store {folder} was made with another tokenizer: prepare it again")
    if tokenizer is not None and template is not None:
        require_special_tokens(tokenizer, template)
    if template is not None and template != manifest["template"]:
        raise DataError(
            f"the token store {folder} was made with template {manifest['template']}, "
            f"the config says {template}: prepare it again"
        )
    if not image_root.is_dir() and manifest["text_only"] < manifest["records"]:
        raise DataError(f"the image folder {image_root} does not exist")
    return manifest, table


class TokenStore(Dataset):
    """A prepared token store, mapped into memory: no rank holds a copy.

    Args:
        store: folder written by `moslora data prepare`.
        image_folder: where the records' image paths start.
        image_processor: a Hugging Face image processor, or the config dict of one.
        tokenizer: the model's tokenizer, or the config dict of one; must be the one the store was made with.
        template: must be the template that the store was made with.
        pad_image_to_square: pad with the processor's mean colour, as LLaVA-1.5 does.

    Raises:
        DataError: the store is missing, unfinished, or made with another tokenizer or template, or the tokenizer
            lacks the template's special tokens.
    """

    def __init__(
        self,
        store: str,
        image_folder: str,
        image_processor: Any,
        tokenizer: Any = None,
        template: str | None = None,
        pad_image_to_square: bool = True,
    ) -> None:
        self.manifest, self.table = open_store(Path(store), Path(image_folder), _build(tokenizer), template)
        self.image_root = Path(image_folder)
        self.image_processor = _build(image_processor)
        self.pad_image_to_square = pad_image_to_square

    def __len__(self) -> int:
        return len(self.table)

    @property
    def modality_length(self) -> list[int]:
        """Each record's number of tokens, negative without an image (XTuner's LengthGroupedSampler)."""
        lengths = self.table["length"]
        signed = pc.if_else(pc.is_valid(self.table["image"]), lengths, pc.negate(lengths))
        result: list[int] = signed.to_pylist()
        return result

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self.table.slice(index, 1).to_pylist()[0]
        item = {"input_ids": row["input_ids"], "labels": row["labels"]}
        if row["image"] is not None:
            try:
                image = open_image(self.image_root, row["image"])
            except DataError as fault:
                raise DataError(f"record {row['id']}: {fault}") from fault
            item["pixel_values"] = to_pixels(image, self.image_processor, self.pad_image_to_square)
        return item


def collate(instances: list[dict[str, Any]], image_tokens: int, pad_index: int = 0) -> dict[str, Any]:
    """A right-padded batch in which each image mark stands `image_tokens` times.

    Returns:
        `data` with input_ids, labels and attention_mask of shape (batch, length), and pixel_values
        (images, 3, H, W) of the rows that have an image, in their order; without any, no pixel_values.
    """
    ids, labels, pixels = [], [], []
    for instance in instances:
        row = torch.tensor(instance["input_ids"])
        target = torch.tensor(instance["labels"])
        repeats = torch.where(row == IMAGE_TOKEN_INDEX, image_tokens, 1)
        ids.append(row.repeat_interleave(repeats))
        labels.append(target.repeat_interleave(repeats))
        if "pixel_values" in instance:
            pixels.append(instance["pixel_values"])
    lengths = torch.tensor([len(row) for row in ids])
    data = {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad_index),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORE_INDEX),
        "attention_mask": torch.arange(int(lengths.max()))[None] < lengths[:, None],
    }
    if pixels:
        data["pixel_values"] = torch.stack(pixels)
    return {"data": data, "data_samples": None}
