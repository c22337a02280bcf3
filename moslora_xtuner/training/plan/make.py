"""The numbered steps of a plan: everything is looked at, all problems are told together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ...errors import MoSLoRAError
from ...versions import installed_versions, version_problems
from ..precision import QUANTISED_ZERO3
from ..targets import require_fitting_rank, require_targets, useful_layers
from . import checkpoints, costs
from .keys import changed_variables, unknown_keys
from .outcome import Plan, Step
from .setting import Setting, visible_gpus
from .shapes import Part, part


def make_plan(setting: Setting, tflops: float = costs.ACHIEVED_TFLOPS) -> Plan:
    """Look at everything that a run needs; nothing is downloaded and no weight of a large model is loaded."""
    plan = Plan(setting)
    _step(plan, "versions", _versions)
    if plan.problems:
        return plan  # the other steps would fail in the packages' own words
    for title, look in (
        ("config keys", _keys),
        ("GPUs and DeepSpeed", _machine),
        ("language model", _language_model),
        ("visual encoder", _visual_encoder),
        ("projector", _projector),
        ("token store", _store),
        ("schedule", costs.schedule),
        ("memory of a GPU", costs.memory),
        ("host and disk", costs.host),
        ("time", lambda p: costs.time(p, tflops)),
    ):
        _step(plan, title, look)
    return plan


def _step(plan: Plan, title: str, look: Callable[[Plan], list[str]]) -> None:
    step = Step(title)
    plan.steps.append(step)
    try:
        for text in look(plan):
            (step.problems if text.startswith("!") else step.facts).append(text.removeprefix("!"))
    except (MoSLoRAError, ValueError, OSError) as fault:
        step.problems.append(" ".join(str(fault).split()))


def _versions(plan: Plan) -> list[str]:
    found = installed_versions()
    names = ("torch", "transformers", "peft", "xtuner", "deepspeed")
    return [*(f"!{p}" for p in version_problems()), ", ".join(f"{n} {found[n]}" for n in names if n in found)]


def _keys(plan: Plan) -> list[str]:
    config = plan.setting.config
    wrong = [*changed_variables(plan.setting.options), *unknown_keys(config)]
    return [f"!{text}" for text in wrong] or ["every key is read by something"]


def _machine(plan: Plan) -> list[str]:
    setting, here = plan.setting, visible_gpus()
    said = []
    if setting.elsewhere:
        said.append(f"{setting.processes} x {setting.gpu_memory:g} GiB of GPU, not looked at from here")
    elif (setting.gpus or 0) > here:
        said.append(f"!{setting.gpus} GPUs are asked for, this machine has {here}: give --gpu-memory GIB to plan for "
                    "another one")  # fmt: skip
    elif here:
        said.append(f"{setting.processes} of {here} GPUs here")
    else:
        said.append(f"no GPU here: on the CPU in float32, processes: {setting.processes}")
    stage = setting.sharding.stage
    said.append(f"DeepSpeed ZeRO-{stage} ({setting.deepspeed})" if stage else "without DeepSpeed")
    if stage == 3 and setting.quantised:
        said.append(f"!{QUANTISED_ZERO3}")
    if not stage and setting.processes > 1 and not setting.on_gpu:
        said.append("!several processes without DeepSpeed need GPUs (mmengine): take --deepspeed zero2")
    return said


def _language_model(plan: Plan) -> list[str]:
    import torch
    from transformers import LlamaForCausalLM

    from ...llm.families import INTERNLM2

    settings = plan.setting.config["model"]["llm"]
    checkpoint = settings["pretrained_model_name_or_path"]
    config = checkpoints.llm_config(settings)
    with torch.device("meta"):
        if config.model_type == INTERNLM2:
            from xtuner._lite.modelings.internlm2 import InternLM2ForCausalLM

            model = InternLM2ForCausalLM(config)
        else:
            model = LlamaForCausalLM(config)
    plan.llm, said = _adapted(plan, model, "llm_lora", None)
    template = plan.setting.config["prompt_template"]
    tokenizer = checkpoints.check_tokenizer(plan.setting.config["tokenizer"], template)
    if len(tokenizer) > config.vocab_size:
        said.append(f"!the tokenizer has {len(tokenizer)} tokens, the model {config.vocab_size}")
    bits = ", 4 bits" if plan.setting.quantised else ""
    where = checkpoints.check_weights(checkpoint)
    return [f"{checkpoint}: {_count(plan.llm.parameters)} weights{bits} in {where}; template {template}", *said]


def _visual_encoder(plan: Plan) -> list[str]:
    import torch
    from transformers import CLIPVisionModel

    model = plan.setting.config["model"]
    checkpoint = model["visual_encoder"]["pretrained_model_name_or_path"]
    config = checkpoints.visual_config(checkpoint)
    with torch.device("meta"):
        encoder = CLIPVisionModel(config)
    layers = useful_layers(model.get("visual_select_layer", -2), config.num_hidden_layers)
    plan.visual, said = _adapted(plan, encoder, "visual_encoder_lora", layers)
    patches = (config.image_size // config.patch_size) ** 2
    places = plan.setting.config["train_dataloader"]["collate_fn"]["image_tokens"]
    if places != patches:
        said.append(f"!{config.image_size} px in patches of {config.patch_size} are {patches} features, image_tokens "
                    f"is {places}")  # fmt: skip
    where = checkpoints.check_weights(checkpoint)
    return [f"{checkpoint}: {_count(plan.visual.parameters)} weights in {where}, {patches} features", *said]


def _adapted(plan: Plan, model: Any, name: str, layers: list[int] | None) -> tuple[Part, list[str]]:
    """The part with its adapters; when they cannot be made, without, and why."""
    from mmengine.utils.misc import get_object_from_string

    settings = plan.setting.config["model"].get(name)
    plain = part(model)
    if settings is None:
        return plain, ["no adapters"]
    try:
        fields = {key: value for key, value in settings.items() if key != "type"}
        kind: Any = get_object_from_string(settings["type"])
        config = require_targets(kind(**fields), name)
        if layers is not None and config.layers_to_transform is None:
            config.layers_to_transform = layers
        tuned = part(model, config)
        require_fitting_rank(model, name)
    except (MoSLoRAError, ValueError, TypeError) as fault:
        return plain, [f"!{name}: {' '.join(str(fault).split()).removeprefix(f'{name}: ')}"]
    kinds = Counter(layer.name.rsplit(".", 1)[-1] for layer in tuned.adapted)
    unmatched = sorted(set(fields["target_modules"]) - set(kinds))
    said = [f"!{name}: no layer is called {', '.join(unmatched)}"] if unmatched else []
    ranks = "/".join(str(rank) for rank in sorted({layer.rank for layer in tuned.adapted}))
    return tuned, [
        f"rank {ranks} on {len(tuned.adapted)} layers ({', '.join(kinds)}): {tuned.trainable:,} trained",
        *said,
    ]


def _projector(plan: Plan) -> list[str]:
    if plan.llm is None or plan.visual is None:
        return ["not looked at: it depends on the models"]
    vision, text = plan.visual.hidden, plan.llm.hidden
    plan.projector = text * (vision + 1) + text * (text + 1)
    said = checkpoints.check_projector(plan.setting.config["model"].get("projector_weights"), vision, text)
    return [f"{said}: {plan.projector:,} trained"]


def _store(plan: Plan) -> list[str]:
    config = plan.setting.config
    dataset = config["train_dataloader"]["dataset"]
    template = config["prompt_template"]
    try:
        tokenizer = checkpoints.check_tokenizer(config["tokenizer"], template)
    except MoSLoRAError:
        tokenizer = None  # told where the language model is looked at
    places = config["train_dataloader"]["collate_fn"]["image_tokens"]
    plan.store = store = checkpoints.check_store(dataset, places, tokenizer, template)
    return [
        f"{dataset['store']}: {store.records:,} records, {store.with_images:,} with a picture",
        f"{store.tokens:,} tokens with the pictures' places, at most {store.longest:,} in a record",
    ]


def _count(weights: int) -> str:
    return f"{weights / 1e9:.2f} B" if weights >= 1e8 else f"{weights / 1e6:.2f} M"
