"""LLaVA-1.5 on InternLM2-Chat 7B, stage 1: the projector alone learns captions; the LLM, in 4 bits, stands still.

Leaves the projector that the stage 2 recipes start from, where they look for it:
    work_dirs/llava_internlm2_pretrain/adapters/projector

On four GPUs:
    NPROC_PER_NODE=4 xtuner train llava_internlm2_pretrain.py --deepspeed zero2
What it needs, where to get it, and how it starts on other machines: docs/recipes.md.
Where things are is said by environment variables: INTERNLM2_PRETRAIN_STORE, LLAVA_PRETRAIN_IMAGES, and those that
`_base_/internlm2_7b.py` and `_base_/llava.py` name. Values: the first stage of LLaVA-1.5 (arXiv 2310.03744), as in
XTuner's own config.
Memory: 15 GiB of each of 4 GPUs where 32 records of 640 tokens meet (formula of docs/plan.md).
`moslora plan llava_internlm2_pretrain --gpus 4 --gpu-memory GIB` counts it, and the hours, for your data.
"""

_base_ = ["./_base_/internlm2_7b.py"]

# The global batch is batch_size x accumulation x GPUs: 256 on four.
batch_size = 32
accumulation = 2

model = dict(projector_weights=None)
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        store="{{$INTERNLM2_PRETRAIN_STORE:data/llava/store_internlm2_pretrain}}",
        image_folder="{{$LLAVA_PRETRAIN_IMAGES:data/llava/pretrain_images}}",
        pad_image_to_square=False,
    ),
    sampler=dict(_delete_=True, type="mmengine.dataset.DefaultSampler", shuffle=True),
)
optim_wrapper = dict(accumulative_counts=accumulation, optimizer=dict(lr=1e-3))
