"""Which process looks at which validation record, and when."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Batch:
    """Records that one process looks at together.

    Attributes:
        rows: their places in the dataset.
        counts: whether they count; a process that has nothing left repeats what another one has, for all must go
            through the model as often, ZeRO-3 gathers its weights so.
    """

    rows: tuple[int, ...]
    counts: bool


def deal(
    chosen: np.ndarray,
    places: np.ndarray,
    pictured: np.ndarray,
    records: int,
    most_places: int | None,
    processes: int,
) -> list[list[Batch]]:
    """For each process its batches, in their order; each chosen record counts once in all.

    At the same time all processes have records with pictures or all have none, so that they run the same layers. The
    longest come first: memory that does not suffice shows at once.

    Args:
        chosen: which records are looked at.
        places: of each record, with its pictures'.
        pictured: whether it has pictures.
        records: of a batch at most.
        most_places: of a batch at most, padding included; None for any.
        processes: how many share them.
    """
    dealt: list[list[Batch]] = [[] for _ in range(processes)]
    for kind in (True, False):
        rows = chosen[pictured[chosen] == kind]
        batches = _cut(rows[np.argsort(-places[rows], kind="stable")], places, records, most_places)
        for start in range(0, len(batches), processes):
            for rank, own in enumerate(dealt):
                there = start + rank < len(batches)
                own.append(Batch(batches[start + rank] if there else batches[-1], there))
    return dealt


def _cut(rows: np.ndarray, places: np.ndarray, records: int, most_places: int | None) -> list[tuple[int, ...]]:
    """Rows, the longest first, in batches; a record longer than `most_places` is one by itself."""
    cut: list[list[int]] = []
    for row in rows:
        longest = int(places[cut[-1][0]]) if cut else 0
        fits = cut and len(cut[-1]) < records and (most_places is None or (len(cut[-1]) + 1) * longest <= most_places)
        if fits:
            cut[-1].append(int(row))
        else:
            cut.append([int(row)])
    return [tuple(batch) for batch in cut]
