"""Names of tensors that PEFT up to 0.17 has damaged while saving.

It removed "." and the adapter's name wherever they stood in a key (save_and_load.py, `k.replace`; 0.18 removes them
at the end alone and writes `peft_version`). Under the names `w`, `m`, `q`, `lora`, `mlp` or `self` that eats `.weight`,
`.model`, `.q_proj`, `.lora_A`, `.mlp` and `.self_attn`. What was removed is not to be known from what is left.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import peft
from packaging.version import Version

from ...errors import AdapterError
from .contents import PREFIX, Contents

_EATEN_WHOLE = (
    "attention", "attn", "block", "blocks", "experts", "feed_forward", "layer", "layers", "mlp", "self_attn",
)  # fmt: skip
"""Modules around the adapted layers that nobody calls a folder by: eaten whole, one leaves no trace."""
_FUSED = re.compile(r"(?:^|\.)\d+[A-Za-z_]")
_BARE = re.compile(r"\.\d+\.(?:gate|up|down)_proj$")
_TORN = re.compile(r"lora_(?:A|B|AB)eight$|(?<!\.lora)_(?:A|B|AB)\.weight$|\.(?:ora|ra|a)_(?:A|B|AB)\.weight$")
ADVICE = (
    "PEFT would load none of such names. If PEFT up to 0.17 saved it under an adapter's name like w, m, q, lora, mlp "
    "or self, it has cut that out of the tensors' names: save it again, as 'default' or with peft 0.18"
)


def check_name(adapter_name: str, layers: Iterable[str]) -> None:
    """Stop an adapter on these layers whose tensors the installed PEFT would save under damaged names.

    Raises:
        AdapterError: it would; nothing has been trained yet.
    """
    if Version(peft.__version__) >= Version("0.18"):
        return
    for layer in layers:
        key = f"{PREFIX}{layer}.lora_AB.{adapter_name}.weight"
        if key.count(f".{adapter_name}") > 1:
            raise AdapterError(
                f"an adapter called {adapter_name!r} would be lost when it is saved: peft {peft.__version__} cuts "
                f"'.{adapter_name}' out of names like {key}; call it otherwise, or take peft 0.18"
            )


def name_problems(config: Mapping[str, Any], contents: Contents, folder: str) -> list[str]:
    """Name the keys that show such damage, or, by the folder's name, may have it unseen.

    PEFT saves every adapter but "default" into a folder of the adapter's name.
    """
    keys = [*contents.others, *(key for layer in contents.layers.values() for key in layer.keys.values())]
    problems = [f"{key} is torn" for key in contents.others if _TORN.search(key)]
    problems += [f"{key} does not begin with {PREFIX}" for key in keys if not key.startswith(PREFIX)]
    problems += [f"{name} has a number and a name in one" for name in contents.layers if _FUSED.search(name)]
    problems += [f"its tensors' names hold the adapter's, {name!r}" for name in contents.adapters if name]
    if config.get("peft_version"):
        return problems
    if _is_of_transformers(config):
        problems += [f"{name} stands in no module of its block" for name in contents.layers if _BARE.search(name)]
    if folder in _EATEN_WHOLE and not any(f".{folder}" in key for key in keys):
        problems.append(f"the folder is called {folder!r}, and nothing in its tensors' names begins so")
    return problems


def _is_of_transformers(config: Mapping[str, Any]) -> bool:
    mapping = config.get("auto_mapping")
    library = mapping.get("parent_library") if isinstance(mapping, Mapping) else None
    return bool(config.get("task_type")) or str(library).startswith("transformers")
