"""Config keys that nothing reads, with the nearest name that something does."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any

from ...errors import ConfigError

RUNNER = frozenset(
    {
        "model",
        "train_dataloader",
        "val_dataloader",
        "test_dataloader",
        "train_cfg",
        "val_cfg",
        "test_cfg",
        "optim_wrapper",
        "param_scheduler",
        "val_evaluator",
        "test_evaluator",
        "default_hooks",
        "custom_hooks",
        "data_preprocessor",
        "load_from",
        "resume",
        "launcher",
        "env_cfg",
        "log_processor",
        "log_level",
        "visualizer",
        "default_scope",
        "randomness",
        "experiment_name",
        "custom_imports",
        "strategy",
        "work_dir",
        "sequence_parallel_size",
        "max_position_embeddings",
    }
)
"""What mmengine's runners and `xtuner train` read at the top of a config."""
FACTS = frozenset({"llm_path", "visual_encoder_path", "prompt_template"})
"""What `moslora_xtuner.training.hooks.SaveAdapters` reads besides."""
_OPEN = frozenset({"type", "_delete_", "_scope_", "priority"})
_HANDED_ON = frozenset({"sampler", "batch_sampler", "collate_fn", "dataset", "batch_size", "num_batch_per_epoch"})


def changed_variables(options: Sequence[str]) -> list[str]:
    """Options that change a variable of the config's text, which has been read by then."""
    problems = []
    for option in options:
        top = option.partition("=")[0].partition(".")[0]
        if top not in RUNNER | FACTS:
            near = get_close_matches(top, RUNNER, 1)
            hint = f"did you mean {near[0]}?" if near else "give the whole path, such as train_dataloader.batch_size"
            problems.append(f"--cfg-options {top}: nothing reads it after the config is loaded; {hint}")
    return problems


SAME = {
    "llm_path": (
        "model.llm.pretrained_model_name_or_path",
        "train_dataloader.dataset.tokenizer.pretrained_model_name_or_path",
    ),
    "visual_encoder_path": (
        "model.visual_encoder.pretrained_model_name_or_path",
        "train_dataloader.dataset.image_processor.pretrained_model_name_or_path",
    ),
    "prompt_template": ("train_dataloader.dataset.template",),
}
"""What a recipe says once and fills in at several places: --cfg-options changes each place by itself."""


def contradictions(config: dict[str, Any]) -> list[str]:
    """Places of a config that must say the same and do not, in words."""
    problems = []
    for name, places in SAME.items():
        for place in places:
            found = _at(config, place)
            if found is not None and name in config and found != config[name]:
                problems.append(
                    f"{name} is {config[name]!r} and {place} {found!r}: give --cfg-options for both, or set what the "
                    "recipe's head names (an environment variable), which changes all of them"
                )
    return problems


NEEDED = (
    "model.type",
    "model.llm.pretrained_model_name_or_path",
    "prompt_template",
    "train_cfg",
    "optim_wrapper.optimizer.lr",
    "param_scheduler",
    "train_dataloader.batch_size",
    "train_dataloader.sampler",
    "train_dataloader.collate_fn",
    "train_dataloader.dataset.type",
    "default_hooks.checkpoint",
)
"""What every recipe here has and a plan looks at."""
NEEDED_WITH_PICTURES = (
    "model.visual_encoder.pretrained_model_name_or_path",
    "train_dataloader.collate_fn.image_tokens",
    "train_dataloader.dataset.image_folder",
)


def missing_keys(config: dict[str, Any]) -> list[str]:
    """What a config of XTuner's own, or a cut-down copy of a recipe, lacks for a training here; in words."""
    model = config.get("model")
    model = model if isinstance(model, dict) else {}
    sees = "LLaVA" in str(model.get("type")) or "visual_encoder" in model
    needed = NEEDED + (NEEDED_WITH_PICTURES if sees else ())
    lacking = [name for name in needed if _at(config, name) is None]
    problems = []
    if lacking:
        problems.append(f"it lacks {', '.join(lacking)}: `moslora config NAME` prints a recipe that has them")
    elif not isinstance(config["param_scheduler"], dict):
        problems.append("param_scheduler is a list: one schedule is read here (moslora_xtuner.training.schedule)")
    hooks = config.get("custom_hooks") or ()
    if not any("SaveAdapters" in str(hook.get("type")) for hook in hooks if isinstance(hook, dict)):
        problems.append(
            "custom_hooks has no moslora_xtuner.training.hooks.SaveAdapters: a training would end without its adapters"
        )
    if "moslora_xtuner.plugin" not in ((config.get("custom_imports") or {}).get("imports") or ()):
        problems.append("custom_imports has no moslora_xtuner.plugin, which every training here begins with")
    return problems


def _at(config: dict[str, Any], name: str) -> Any:
    found: Any = config
    for key in name.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def unknown_keys(config: dict[str, Any]) -> list[str]:
    """Keys that the thing they configure does not take, in words."""
    typos = [(key, get_close_matches(key, RUNNER, 1, 0.85)) for key in config if key not in RUNNER | FACTS]
    return [f"{key}: nothing reads it; did you mean {near[0]}?" for key, near in typos if near] + [
        f"{'.'.join(where)}: {thing} has no {where[-1]!r}" + (f"; did you mean {near}?" if near else "")
        for where, thing, near in _unknown(config, ())
    ]


def _unknown(value: Any, where: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    if isinstance(value, dict):
        known = _parameters(value.get("type"), where)
        for key, inner in value.items():
            path = (*where, str(key))
            if known is not None and key not in known[1] and key not in _OPEN:
                near = get_close_matches(str(key), known[1], 1)
                yield path, known[0], near[0] if near else ""
            elif where or key in RUNNER:
                yield from _unknown(inner, path)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _unknown(inner, (*where, str(index)))


def _parameters(kind: Any, where: tuple[str, ...]) -> tuple[str, frozenset[str]] | None:
    """The name of what a `type` names and the keywords it takes; None when it takes any."""
    if where == ("train_dataloader",):
        from torch.utils.data import DataLoader

        return "a data loader", frozenset(inspect.signature(DataLoader.__init__).parameters) | _HANDED_ON
    if not isinstance(kind, str) or "." not in kind:
        return None
    from mmengine.utils.misc import get_object_from_string

    thing = get_object_from_string(kind)
    if thing is None:
        raise ConfigError(f"{'.'.join(where)}.type is {kind!r}, which does not exist")
    names: set[str] = set()
    # What one class hands on with **options, its base takes.
    own = [vars(base).get("__init__") for base in inspect.getmro(thing)] if inspect.isclass(thing) else [thing]
    for function in own:
        if function is None or function is object.__init__:
            continue
        try:
            signature = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            return None
        names |= {p.name for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        if not any(p.kind is p.VAR_KEYWORD for p in signature):
            return kind.rsplit(".", 1)[-1], frozenset(names)
    # Options handed on to something that takes any: from_pretrained, a registry.
    return None if not inspect.isclass(thing) else (kind.rsplit(".", 1)[-1], frozenset(names))
