"""Reading a projector's weights, wherever they come from."""

from __future__ import annotations

from pathlib import Path

import torch

from .errors import ConfigError


def projector_weights(path: Path) -> dict[str, torch.Tensor]:
    """The weights `model.0.weight`, `model.0.bias`, `model.2.weight`, ... of a projector.

    Args:
        path: a folder with `model.safetensors`, a `.safetensors` file, or an XTuner `.pth` (such as the released
            `llava-llama-3-8b-pretrain`) whose names start with `projector.`.

    Raises:
        ConfigError: there is no such file.
    """
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"no projector weights at {file}: give a .safetensors or an XTuner .pth")
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    content = torch.load(file, map_location="cpu", weights_only=True)
    content = content.get("state_dict", content)
    return {name.removeprefix("projector."): w for name, w in content.items() if name.startswith("projector.")}
