"""LLaVA-1.5 on LLaMA-3 8B in 4 bits with QMoSLoRA (orthogonal mixer), for one card of 24 GB.

No row of Table 5: `llava_llama3_moslora.py`, of which it is the form for one card, is row 2.

Needs: meta-llama/Meta-Llama-3-8B-Instruct and openai/clip-vit-large-patch14-336 (Hugging Face; the first asks you
to accept its licence), the projector of `llava_llama3_pretrain.py`, and the 665K mix:
    llava_v1_5_mix665k.json     huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K
    images                      COCO train2017, GQA, OCR-VQA, TextVQA, Visual Genome, as LLaVA's README lists them
Once:
    moslora data prepare llava_v1_5_mix665k.json --images $LLAVA_IMAGES --model $LLAMA3_8B -o $LLAMA3_STORE
One GPU, four, two machines of four, slurm:
    xtuner train llava_llama3_qmoslora.py --deepspeed zero2
    NPROC_PER_NODE=4 xtuner train llava_llama3_qmoslora.py --deepspeed zero2
    NPROC_PER_NODE=4 NNODES=2 NODE_RANK=0 ADDR=HOST PORT=29500 \\
        xtuner train llava_llama3_qmoslora.py --deepspeed zero2
    srun -p PARTITION --gres=gpu:4 --ntasks=8 --ntasks-per-node=4 \\
        xtuner train llava_llama3_qmoslora.py --deepspeed zero2 --launcher slurm
Where things are is said by environment variables (`_base_/llama3_8b.py` names them and their defaults). Nothing of
its time is measured yet.
Memory: 12 GiB of the GPU where 2 records of 2048 tokens meet (formula of docs/plan.md).
`moslora plan llava_llama3_qmoslora --gpus 1 --gpu-memory GIB` counts it, and the hours, for your data.
"""

_base_ = ["./llava_llama3_moslora.py"]

from moslora_xtuner.training.precision import compute_dtype as _compute_dtype  # noqa: E402

# The same global batch of 64, on one GPU.
batch_size = 2
accumulation = 32
train_dataloader = dict(batch_size=batch_size, sampler=dict(per_device_batch_size=batch_size * accumulation))
optim_wrapper = dict(accumulative_counts=accumulation)

model = dict(
    llm=dict(
        quantization_config=dict(
            type="transformers.BitsAndBytesConfig",
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=_compute_dtype().removeprefix("torch."),
        ),
    ),
)
