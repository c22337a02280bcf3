"""The rows of a token store as Arrow holds them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ..reading.records import Record
from .tokenise import IGNORE_INDEX, Tokens

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("images", pa.list_(pa.string())),
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("length", pa.int32()),  # text tokens; an image's mark counts as one
        ("image_count", pa.int32()),  # the modality: 0 is text alone
        ("supervised", pa.int32()),  # tokens with a loss
    ]
)
Rows = bytes
"""One record batch, serialised."""


def encode_rows(rows: Sequence[tuple[Record, Tokens]]) -> Rows:
    """A batch of the store, in bytes that another process can write as they are."""
    records = [record for record, _ in rows]
    lengths = np.fromiter((len(ids) for _, (ids, _) in rows), np.int32, len(rows))
    counts = np.fromiter((len(record.images) for record in records), np.int32, len(rows))
    labels = _flat([labels for _, (_, labels) in rows])
    # A row's first token is never predicted.
    starts = np.cumsum(lengths) - lengths
    learnt = labels != IGNORE_INDEX
    learnt[starts] = False
    supervised = np.add.reduceat(learnt, starts, dtype=np.int32) if len(rows) else np.zeros(0, np.int32)
    images = pa.array([name for record in records for name in record.images], pa.string())
    batch = pa.record_batch(
        [
            pa.array([record.id for record in records], pa.string()),
            pa.ListArray.from_arrays(_offsets(counts), images),
            pa.ListArray.from_arrays(_offsets(lengths), pa.array(_flat([ids for _, (ids, _) in rows]))),
            pa.ListArray.from_arrays(_offsets(lengths), pa.array(labels)),
            pa.array(lengths),
            pa.array(counts),
            pa.array(supervised),
        ],
        schema=SCHEMA,
    )
    return batch.serialize().to_pybytes()


def decode_rows(rows: Rows) -> pa.RecordBatch:
    """The batch again, without a copy."""
    return pa.ipc.read_record_batch(pa.py_buffer(rows), SCHEMA)


def _flat(lists: Sequence[list[int]]) -> np.ndarray:
    return np.array([value for part in lists for value in part], np.int32)


def _offsets(counts: np.ndarray) -> pa.Array:
    return pa.array(np.concatenate(([0], np.cumsum(counts))).astype(np.int32))
