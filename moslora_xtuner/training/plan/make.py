"""The numbered steps of a plan: everything is looked at, all problems are told together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

from ...llm.whole import require_whole
from ...versions import installed_versions, version_problems
from ..held_out import hook_of
from ..precision import QUANTISED_ZERO3
from ..processes import SEVERAL_ON_CPU
from ..targets import require_fitting_rank, require_quantisable, require_targets, useful_layers
from . import checkpoints, costs, validation
from .keys import changed_variables, contradictions, missing_keys, unknown_keys
from .outcome import Plan, Step
from .setting import Setting, visible_gpus
from .shapes import NOTHING, Part, part


def make_plan(setting: Setting, tflops: float = costs.ACHIEVED_TFLOPS) -> Plan:
    """Look at everything that a run needs; nothing is downloaded and no weight of a large model is loaded."""
    plan = Plan(setting)
    _step(plan, "versions", _versions)
    if plan.problems:
        return plan  # the other steps would fail in the packages' own words
    if lacking := missing_keys(setting.config):
        plan.steps.append(Step("config keys", problems=lacking))
        return plan  # there is nothing that the others could look at
    steps: tuple[tuple[str, Callable[[Plan, Step], None]], ...] = (
        ("config keys", _keys),
        ("GPUs and DeepSpeed", _machine),
        ("language model", _language_model),
        ("visual encoder", _visual_encoder),
        ("projector", _projector),
        ("token store", _store),
        ("validation", validation.look),
        ("schedule", costs.schedule),
        ("memory of a GPU", costs.memory),
        ("host and disk", costs.host),
        ("time", lambda plan, step: costs.time(plan, step, tflops)),
    )
    if setting.text_only:
        plan.visual = NOTHING
    for title, look in steps:
        blind = setting.text_only and title in ("visual encoder", "projector")
        if not blind and (title != "validation" or hook_of(setting.config) is not None):
            _step(plan, title, look)
    return plan


def _step(plan: Plan, title: str, look: Callable[[Plan, Step], None]) -> None:
    step = Step(title)
    plan.steps.append(step)
    step.attempt(lambda: look(plan, step))


def _versions(plan: Plan, step: Step) -> None:
    found = installed_versions()
    names = ("torch", "transformers", "peft", "xtuner", "deepspeed")
    step.says(", ".join(f"{name} {found[name]}" for name in names if name in found))
    for problem in version_problems():
        step.wrong(problem)


def _keys(plan: Plan, step: Step) -> None:
    config = plan.setting.config
    for problem in [*changed_variables(plan.setting.options), *unknown_keys(config), *contradictions(config)]:
        step.wrong(problem)
    if not step.problems:
        step.says("every key is read by something")


def _machine(plan: Plan, step: Step) -> None:
    setting, here = plan.setting, visible_gpus()
    if setting.elsewhere:
        step.says(f"{setting.processes} x {setting.gpu_memory:g} GiB of GPU, not looked at from here")
    elif (setting.gpus or 0) > here:
        step.wrong(f"{setting.gpus} GPUs are asked for, this machine has {here}: give --gpu-memory GIB to plan for one")
    elif here:
        step.says(f"{setting.processes} of {here} GPUs here")
    else:
        kind = "half precision" if setting.precision.compute == 2 else "float32"
        step.says(f"no GPU here: on the CPU in {kind}, processes: {setting.processes}")
    stage = setting.sharding.stage
    step.says(f"DeepSpeed ZeRO-{stage} ({setting.deepspeed})" if stage else "without DeepSpeed")
    if stage == 3 and setting.quantised:
        step.wrong(QUANTISED_ZERO3)
    if not stage and setting.processes > 1 and not setting.on_gpu:
        step.wrong(SEVERAL_ON_CPU)


def _language_model(plan: Plan, step: Step) -> None:
    import torch

    from ...llm.families import INTERNLM2, LLAMA
    from ...llm.load import classes

    settings, template = plan.setting.config["model"]["llm"], plan.setting.config["prompt_template"]
    checkpoint = settings["pretrained_model_name_or_path"]
    config = step.attempt(lambda: checkpoints.llm_config(settings))
    tokenizer = plan.setting.config["train_dataloader"]["dataset"].get("tokenizer") or plan.setting.config["tokenizer"]
    plan.tokenizer = step.attempt(lambda: checkpoints.check_tokenizer(tokenizer, template))
    if config is None:
        return
    with torch.device("meta"):
        model = classes(INTERNLM2 if config.model_type == INTERNLM2 else LLAMA)[1](config)
    if files := step.attempt(lambda: require_whole(checkpoint, model, local_files_only=True)):
        bits = ", 4 bits" if plan.setting.quantised else ""
        weights = _count(sum(p.numel() for p in model.parameters()))
        step.says(f"{checkpoint}: {weights} weights{bits} in {_files(files)}; template {template}")
    plan.llm = _adapted(plan, step, model, "llm_lora", None)
    plan.vocabulary = config.vocab_size
    plan.positions = getattr(config, "max_position_embeddings", None)
    if config.tie_word_embeddings and (rim := [a.name for a in plan.llm.adapted if a.block < 0]):
        step.wrong(
            f"llm_lora adapts {', '.join(rim)}, but this model's embedding and head are one weight, which no engine "
            "holds apart: take them out of target_modules"
        )
    if plan.tokenizer is not None and len(plan.tokenizer) > config.vocab_size:
        step.wrong(f"the tokenizer has {len(plan.tokenizer)} tokens, the model {config.vocab_size}")


def _visual_encoder(plan: Plan, step: Step) -> None:
    import torch
    from transformers import CLIPVisionModel

    model = plan.setting.config["model"]
    checkpoint = model["visual_encoder"]["pretrained_model_name_or_path"]
    config = checkpoints.visual_config(checkpoint)
    with torch.device("meta"):
        encoder = CLIPVisionModel(config)
    patches = (config.image_size // config.patch_size) ** 2
    if files := step.attempt(lambda: require_whole(checkpoint, encoder, local_files_only=True)):
        weights = _count(sum(p.numel() for p in encoder.parameters()))
        step.says(f"{checkpoint}: {weights} weights in {_files(files)}, {patches} features")
    layers = useful_layers(model.get("visual_select_layer", -2), config.num_hidden_layers)
    plan.visual = _adapted(plan, step, encoder, "visual_encoder_lora", layers)
    places = plan.setting.config["train_dataloader"]["collate_fn"]["image_tokens"]
    if places != patches:
        size = f"{config.image_size} px in patches of {config.patch_size}"
        step.wrong(f"{size} are {patches} features, image_tokens is {places}")


def _adapted(plan: Plan, step: Step, model: Any, name: str, layers: list[int] | None) -> Part:
    """The part with its adapters; when they cannot be made, without."""
    from mmengine.utils.misc import get_object_from_string

    settings = plan.setting.config["model"].get(name)
    plain = part(model)
    if settings is None:
        step.says("no adapters")
        return plain
    fields = {key: value for key, value in settings.items() if key != "type"}

    def tune() -> Part:
        kind: Any = get_object_from_string(settings["type"])
        bits = 4 if name == "llm_lora" and plan.setting.quantised else None
        config = require_quantisable(require_targets(kind(**fields), name), name, bits)
        if layers is not None and config.layers_to_transform is None:
            config.layers_to_transform = layers
        tuned = part(model, config)
        require_fitting_rank(model, name)
        return tuned

    tuned = step.attempt(tune)
    if tuned is None:
        return plain
    kinds = Counter(layer.name.rsplit(".", 1)[-1] for layer in tuned.adapted)
    ranks = "/".join(str(rank) for rank in sorted({layer.rank for layer in tuned.adapted}))
    step.says(f"rank {ranks} on {len(tuned.adapted)} layers ({', '.join(kinds)}): {tuned.trainable:,} trained")
    if unmatched := sorted(set(fields["target_modules"]) - set(kinds)):
        step.wrong(f"{name}: no layer is called {', '.join(unmatched)}")
    return tuned


def _projector(plan: Plan, step: Step) -> None:
    if plan.llm is None or plan.visual is None:
        step.says("not looked at: it depends on the models")
        return
    vision, text = plan.visual.hidden, plan.llm.hidden
    plan.projector = text * (vision + 1) + text * (text + 1)
    said = checkpoints.check_projector(plan.setting.config["model"].get("projector_weights"), vision, text)
    step.says(f"{said}: {plan.projector:,} trained")


def _store(plan: Plan, step: Step) -> None:
    config = plan.setting.config
    dataset = config["train_dataloader"]["dataset"]
    places = plan.setting.image_tokens
    if not str(dataset.get("type")).endswith("TokenStore"):
        step.says(
            f"not looked at: the dataset is {dataset.get('type')}, not moslora_xtuner.data.dataset.TokenStore, which "
            "also takes data_path; XTuner's own loses images without a word"
        )
        return
    if dataset.get("data_path") is not None:
        step.says(
            "data_path is tokenised at the launch: run `moslora data prepare` and give the store to have it counted"
        )
        return
    if dataset.get("store") is None:
        step.wrong("train_dataloader.dataset has neither store nor data_path")
        return
    plan.store = store = checkpoints.check_store(
        dataset, places, plan.tokenizer, config["prompt_template"], plan.vocabulary
    )
    seen = "" if plan.setting.text_only else " with the pictures' places"
    step.says(f"{dataset['store']}: {store.records:,} records, {store.with_images:,} with a picture")
    step.says(f"{store.tokens:,} tokens{seen}, at most {store.longest:,} in a record")
    validation.require_fitting(plan, step, store)


def _files(count: int) -> str:
    return f"{count} file{'s' * (count > 1)}"


def _count(weights: int) -> str:
    return f"{weights / 1e9:.2f} B" if weights >= 1e8 else f"{weights / 1e6:.2f} M"
