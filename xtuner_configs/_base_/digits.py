"""DigitsVQA: everything that the recipes share. The leaves add the adapter and nothing else.

Made here and kept in two folders, each of which an environment variable can move:
    DIGITS_DATA   what `moslora data digits -o DIR` wrote; data/digits by default
    DIGITS_BASE   the base model; the one in the package by default
"""

_base_ = ["./runtime.py"]

import importlib.resources  # noqa: E402

data_root = "{{$DIGITS_DATA:data/digits}}"
base_root = "{{$DIGITS_BASE:package}}"
if base_root == "package":
    base_root = str(importlib.resources.files("moslora_xtuner") / "assets" / "digits_base")
llm_path = base_root + "/llm"
visual_encoder_path = base_root + "/visual_encoder"
prompt_template = "llama3_chat"
image_tokens = 36  # (48 / 8)^2 patches

# Schedule. The global batch is batch_size x processes.
batch_size = 16
max_epochs = 1
lr = 2e-3
warmup_ratio = 0.05
seed = 0

tokenizer = dict(
    type="moslora_xtuner.llm.load.load_tokenizer",
    pretrained_model_name_or_path=llm_path,
    padding_side="right",
)
image_processor = dict(
    type="transformers.CLIPImageProcessor.from_pretrained",
    pretrained_model_name_or_path=visual_encoder_path,
)

model = dict(
    type="moslora_xtuner.model.MosLoraLLaVA",
    freeze_llm=True,
    freeze_visual_encoder=True,
    use_activation_checkpointing=False,
    projector_weights=base_root + "/projector",
    llm=dict(
        type="moslora_xtuner.llm.load.load_llama",
        pretrained_model_name_or_path=llm_path,
        torch_dtype="torch.float32",
    ),
    visual_encoder=dict(
        type="transformers.CLIPVisionModel.from_pretrained",
        pretrained_model_name_or_path=visual_encoder_path,
        torch_dtype="torch.float32",
    ),
)

train_dataset = dict(
    type="moslora_xtuner.data.dataset.TokenStore",
    store=data_root + "/store",
    image_folder=data_root + "/images",
    tokenizer=tokenizer,
    template=prompt_template,
    image_processor=image_processor,
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=0,
    dataset=train_dataset,
    sampler=dict(
        type="moslora_xtuner.data.sampler.LengthGroupedSampler",
        length_property="modality_lengths",
        per_device_batch_size=batch_size,
    ),
    collate_fn=dict(type="moslora_xtuner.data.dataset.collate", image_tokens=image_tokens),
)

optim_wrapper = dict(
    type="mmengine.optim.OptimWrapper",
    optimizer=dict(type="torch.optim.AdamW", lr=lr, betas=(0.9, 0.999), weight_decay=0),
    clip_grad=dict(max_norm=1, error_if_nonfinite=False),
)
param_scheduler = dict(
    type="moslora_xtuner.training.schedule.WarmUpCosineLR", warmup_ratio=warmup_ratio, by_epoch=False
)
train_cfg = dict(
    type="moslora_xtuner.training.loop.TrainLoop",
    max_epochs=max_epochs,
    loss_mean="micro_batch",  # or "global_batch", which does not depend on the number of processes
    max_tokens=None,  # or the most places of a micro-batch, with loss_mean="global_batch": docs/recipes.md
)

default_hooks = dict(logger=dict(interval=5), checkpoint=dict(interval=-1, save_last=False))
randomness = dict(seed=seed, deterministic=True)
