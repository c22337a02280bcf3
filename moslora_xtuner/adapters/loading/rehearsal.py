"""A directory loaded first into a shell of the model, so that the model itself is changed by nothing that fails.

PEFT makes its layers before it reads the weights. The shell has the model's modules anew and its tensors shared, and
PEFT's own loading runs on it as it will on the model: which names it renames, which layers it makes and of which
rank is never guessed here.
"""

from __future__ import annotations

import copy
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from peft import PeftConfig
from torch import nn

from ...errors import AdapterError, MoSLoRAError
from ..directory.patterns import check_patterns_end
from .incoming import ADVICE, MisfitError, loading_whole

_TABLES = (dict, OrderedDict, list, set)
_OFFLOADING = ("hf_device_map", "_hf_hook")


def rehearse(
    model: nn.Module, config: PeftConfig, adapter: str, where: object, load: Callable[[nn.Module, PeftConfig], object]
) -> None:
    """Run `load(shell, config)` on a shell of `model` and a copy of `config`; the model stays as it is.

    Raises:
        AdapterError: `load` failed; the message says that nothing was changed.
    """
    trainable = [(p, p.requires_grad) for p in model.parameters()]
    what = f"{where} does not fit this {type(model).__name__}, and nothing was changed"
    try:
        check_patterns_end(vars(config), [name for name, _ in model.named_modules()])
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), loading_whole(adapter) as whole:
            warnings.simplefilter("ignore")  # the real loading will give them
            load(shell(model), copy.deepcopy(config))
    except MisfitError as error:
        raise AdapterError(f"{what}: {error.found}. {ADVICE}") from error
    except MoSLoRAError as error:
        raise AdapterError(f"{what}: {error}") from error
    except Exception as error:  # whatever stock code finds wrong
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        raise AdapterError(f"{what}: {' '.join(lines[:4])}: check the base model and the directory") from error
    finally:
        for parameter, before in trainable:
            parameter.requires_grad_(before)
    if whole.replaced:
        warnings.warn(
            f"{where} holds {', '.join(whole.replaced)}, which replaces the base model's: save the adapter with "
            "save_embedding_layers=False if they were not trained",
            stacklevel=4,
        )


def shell(model: nn.Module) -> nn.Module:
    """Return `model` in new modules that share its tensors: layers can be put into it, and weights assigned."""
    made: dict[nn.Module, nn.Module] = {}
    tables: dict[int, Any] = {}  # a tuner and its model hold one table of configs, and so must their twins

    def own(value: Any) -> Any:
        return tables.setdefault(id(value), copy.copy(value)) if type(value) in _TABLES else value

    def twin(module: nn.Module) -> nn.Module:
        if module in made or isinstance(module, torch.jit.ScriptModule):
            return made.get(module, module)
        made[module] = new = object.__new__(type(module))
        for name, value in vars(module).items():
            if name not in _OFFLOADING:
                new.__dict__[name] = own(value)
        new.__dict__["_modules"] = type(module._modules)(
            (name, None if child is None else twin(child)) for name, child in module._modules.items()
        )
        hooks: Mapping[int, Any] = module._load_state_dict_pre_hooks
        new.__dict__["_load_state_dict_pre_hooks"] = OrderedDict(
            (key, type(hook)(hook.hook, new if hook.with_module else None)) for key, hook in hooks.items()
        )
        return new

    return twin(model)
