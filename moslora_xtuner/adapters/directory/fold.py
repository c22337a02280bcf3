"""A MOSLORA directory becomes a plain LoRA directory: B' = B M, nothing else changes."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...atomic import bring_to_disk
from ...errors import AdapterError, OutputError
from ..config import DISK_TYPE, MIXER_FIELDS, MIXERS
from ..mixer import butterfly_matrix
from .contents import mixing_problems, not_finite, some, take_apart
from .disk import CONFIG_FILE, WEIGHTS_FILE
from .whole import read_whole


def fold_state_dict(state_dict: Mapping[str, Tensor], mixer: str) -> dict[str, Tensor]:
    """Return the tensors of the plain LoRA that computes the same function.

    s B (M (A x)) = s (B M) A x, so B' = B M: (d2, r) x (r, r). The product is formed in float64 and rounded
    once, to float32 (or B's dtype if that is wider). All other tensors, DoRA's magnitude among them, stay.

    Args:
        state_dict: an adapter's tensors, with or without the adapter's name in the keys.
        mixer: "learned", "butterfly" or "identity", from the adapter's config.

    Raises:
        AdapterError: an A, B or mixer is missing, left over, of the wrong shape or not finite.
    """
    if mixer not in MIXERS:
        raise AdapterError(f"mixer={mixer!r} is none of {', '.join(MIXERS)}: update moslora-xtuner")
    contents = take_apart(state_dict)
    problems = [*contents.problems]
    folded = dict(state_dict)
    for name, layer in contents.layers.items():
        faults = mixing_problems(name, layer, mixer)
        problems += faults
        if faults:
            continue
        b, r = layer.parts["B"], layer.parts["B"].shape[1]
        if mixer == "learned":
            m = layer.parts["AB"]
            del folded[layer.keys["AB"]]
        elif mixer == "butterfly":
            m = butterfly_matrix(r, torch.float64, "cpu")
        else:
            continue
        folded[layer.keys["B"]] = product = _product(b, m)
        if fault := not_finite(product):
            problems.append(f"{layer.keys['B']} times its mixer {fault}: the training has diverged")
    if problems:
        raise AdapterError(f"the adapter cannot be folded: {some(problems)}")
    return folded


def _product(b: Tensor, m: Tensor) -> Tensor:
    dtype = torch.promote_types(b.dtype, torch.float32) if b.dtype.itemsize > 1 else torch.float32
    return (b.double() @ m.to(b.device).double()).to(dtype).contiguous()


def fold_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a MOSLORA adapter_config.json's content as that of the plain LoRA."""
    return {k: v for k, v in config.items() if k not in MIXER_FIELDS} | {"peft_type": "LORA"}


def fold_adapter(
    adapter_dir: str | os.PathLike[str], out_dir: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write the plain LoRA form of the adapter in `adapter_dir` to `out_dir`, and return `out_dir`.

    Stock PEFT, vLLM and every other reader of LoRA load the result. The authors' released directories
    (`lora_use_mixer`) are read too; a plain LoRA comes out as it went in. Config and weights are written, no
    other file; they appear under `out_dir` together or not at all.

    Args:
        overwrite: replace an `out_dir` that holds an adapter and nothing else.

    Raises:
        AdapterError: `adapter_dir` holds no complete adapter of a known kind: see `whole.py`.
        OutputError: `out_dir` exists and may not be replaced, or cannot be written.
    """
    source, target = Path(adapter_dir), Path(out_dir)
    config, state_dict = read_whole(source)
    folded = fold_state_dict(state_dict, config["mixer"]) if config["peft_type"] == DISK_TYPE else state_dict
    _check_target(target, overwrite)
    try:
        _write(fold_config(config), folded, target)
    except OSError as error:
        raise OutputError(f"cannot write {target} ({error}): choose another place") from error
    return target


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    names = {entry.name for entry in target.iterdir()} if target.is_dir() else None
    if names == set():
        return
    if names is None or not names <= {CONFIG_FILE, WEIGHTS_FILE} or not overwrite:
        raise OutputError(f"{target} exists already: remove it or choose another place")


def _write(config: Mapping[str, Any], state_dict: Mapping[str, Tensor], target: Path) -> None:
    """Write beside `target`, flush to the disk, then rename: a reader never sees half an adapter."""
    from safetensors.torch import save_file

    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        staged = scratch / "new"
        staged.mkdir()
        text = json.dumps(config, indent=2, sort_keys=True) + "\n"
        (staged / CONFIG_FILE).write_text(text, encoding="utf-8")
        tensors = {name: tensor.contiguous() for name, tensor in state_dict.items()}
        save_file(tensors, staged / WEIGHTS_FILE, metadata={"format": "pt"})
        for path in (staged / CONFIG_FILE, staged / WEIGHTS_FILE, staged):
            bring_to_disk(path)
        if target.exists():
            os.replace(target, scratch / "old")
        os.replace(staged, target)
        bring_to_disk(target.parent)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
