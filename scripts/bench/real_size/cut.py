"""A checkpoint's first layers as a checkpoint of their own, whose shards are links to the whole one's."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

INDEX = "model.safetensors.index.json"
_LAYER = re.compile(r"\.layers\.(\d+)\.")


def cut(whole: Path, layers: int) -> Path:
    """A folder beside `whole` whose config has that many layers and whose index names their weights alone.

    transformers asks the index what a checkpoint holds, so it neither misses a weight nor complains of one too many;
    of a linked shard it takes what the index names. The visual encoder stays whole.
    """
    config = json.loads((whole / "config.json").read_text(encoding="utf-8"))
    if layers >= config["num_hidden_layers"]:
        return whole
    folder = whole.with_name(f"{whole.name}-{layers}-layers")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    index = json.loads((whole / INDEX).read_text(encoding="utf-8"))
    where = {name: file for name, file in index["weight_map"].items() if _belongs(name, layers)}
    own = {"config.json": {**config, "num_hidden_layers": layers}, INDEX: {**index, "weight_map": where}}
    for name, content in own.items():
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    for file in whole.iterdir():
        if file.name not in own and (file.suffix != ".safetensors" or file.name in where.values()):
            (folder / file.name).symlink_to(file.resolve())
    return folder


def _belongs(name: str, layers: int) -> bool:
    found = _LAYER.search(name)
    return found is None or int(found[1]) < layers
