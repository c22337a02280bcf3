"""LLaVA-1.5, stage 2: what all recipes for the real models share. `llama3_8b.py` and `internlm2_7b.py` go on from here.

Values: the paper's Table 8; what it leaves out (dropout, AdamW's betas, clipping, warm-up) is in the authors' configs.
Environment variables that every recipe reads:
    LLAVA_IMAGES   where the image paths of the JSON start; data/llava/images by default
    CLIP_L_336     CLIP ViT-L/14 at 336 pixels: a folder or a hub id
"""

_base_ = ["./runtime.py"]

from moslora_xtuner.training.loader import loader_workers as _loader_workers  # noqa: E402
from moslora_xtuner.training.loader import pins_memory as _pins_memory  # noqa: E402
from moslora_xtuner.training.precision import compute_dtype as _compute_dtype  # noqa: E402

image_folder = "{{$LLAVA_IMAGES:data/llava/images}}"
visual_encoder_path = "{{$CLIP_L_336:openai/clip-vit-large-patch14-336}}"
dtype = _compute_dtype()
seed = 1024

model = dict(
    type="moslora_xtuner.model.MosLoraLLaVA",
    freeze_llm=True,
    freeze_visual_encoder=True,
    visual_select_layer=-2,  # features before the last layer, which therefore gets no adapter
    # The same training, cheaper (docs/performance.md): the loss from the places with a label alone, no mask for
    # padding on the right. Not measured on a GPU yet, so off: adapters as one function, MLPs that keep less.
    chunked_loss=True,
    skip_padding_mask=True,
    fused_adapters=False,
    lean_mlp=False,
    use_activation_checkpointing=True,
    checkpointed_blocks=None,  # all; or a number, the first ones alone; or "plan": as few as moslora train's GPUs allow
    visual_encoder=dict(
        type="transformers.CLIPVisionModel.from_pretrained",
        pretrained_model_name_or_path=visual_encoder_path,
        torch_dtype=dtype,
    ),
)

train_dataloader = dict(
    num_workers=_loader_workers(),  # up to 4, as many as this machine's cores and training processes leave
    persistent_workers=_loader_workers() > 0,
    pin_memory=_pins_memory(),
    dataset=dict(
        type="moslora_xtuner.data.dataset.TokenStore",
        image_folder=image_folder,
        image_processor=dict(
            type="transformers.CLIPImageProcessor.from_pretrained",
            pretrained_model_name_or_path=visual_encoder_path,
        ),
        pad_image_to_square=True,
    ),
    sampler=dict(type="moslora_xtuner.data.sampler.LengthGroupedSampler", length_property="modality_lengths"),
    collate_fn=dict(type="moslora_xtuner.data.dataset.collate", image_tokens=576),  # (336 / 14)^2
)

optim_wrapper = dict(
    type="mmengine.optim.OptimWrapper",
    optimizer=dict(type="torch.optim.AdamW", lr=2e-5, betas=(0.9, 0.999), weight_decay=0),
    clip_grad=dict(max_norm=1, error_if_nonfinite=False),
)
param_scheduler = dict(type="moslora_xtuner.training.schedule.WarmUpCosineLR", warmup_ratio=0.03, by_epoch=False)
train_cfg = dict(
    type="moslora_xtuner.training.loop.TrainLoop",
    max_epochs=1,
    loss_mean="micro_batch",  # as the paper's runs; "global_batch" does not depend on the number of GPUs
    max_tokens=None,  # or the most places of a micro-batch, with loss_mean="global_batch": docs/recipes.md
)

default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=500, max_keep_ckpts=2))
randomness = dict(seed=seed, deterministic=False)
