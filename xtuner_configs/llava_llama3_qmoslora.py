"""LLaVA-1.5 on LLaMA-3 8B in 4 bits with QMoSLoRA (orthogonal mixer), for one card of 24 GB.

No row of Table 5: `llava_llama3_moslora.py`, of which it is the form for one card, is row 2.

On one GPU:
    xtuner train llava_llama3_qmoslora.py --deepspeed zero2
What it needs, where to get it, and how it starts on other machines: docs/recipes.md.
Where things are is said by environment variables (`_base_/llama3_8b.py` names them and their defaults). Nothing of
its time is measured yet.
Memory: 12 GiB of the GPU where 2 records of 2048 tokens meet (formula of docs/plan.md).
`moslora plan llava_llama3_qmoslora --gpus 1 --gpu-memory GIB` counts it, and the hours, for your data.
"""

_base_ = ["./llava_llama3_moslora.py"]

from moslora_xtuner.training.precision import nf4 as _nf4  # noqa: E402

# The same global batch of 64, on one GPU.
batch_size = 2
accumulation = 32
train_dataloader = dict(batch_size=batch_size, sampler=dict(per_device_batch_size=batch_size * accumulation))
optim_wrapper = dict(accumulative_counts=accumulation)

model = dict(llm=dict(quantization_config=_nf4()))
