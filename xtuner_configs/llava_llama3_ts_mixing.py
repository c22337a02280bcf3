"""LLaVA-1.5 on LLaMA-3 8B with TS-Mixing (fixed butterfly mixer) on the language model and the visual encoder.

TS-Mixing has no row in Table 5; section 3 of the paper defines it.

Needs: meta-llama/Meta-Llama-3-8B-Instruct and openai/clip-vit-large-patch14-336 (Hugging Face; the first asks you
to accept its licence), the projector of `llava_llama3_pretrain.py`, and the 665K mix:
    llava_v1_5_mix665k.json     huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K
    images                      COCO train2017, GQA, OCR-VQA, TextVQA, Visual Genome, as LLaVA's README lists them
Once:
    moslora data prepare llava_v1_5_mix665k.json --images $LLAVA_IMAGES --model $LLAMA3_8B -o $LLAMA3_STORE
One GPU, four, two machines of four, slurm:
    xtuner train llava_llama3_ts_mixing.py --deepspeed zero2
    NPROC_PER_NODE=4 xtuner train llava_llama3_ts_mixing.py --deepspeed zero2
    NPROC_PER_NODE=4 NNODES=2 NODE_RANK=0 ADDR=HOST PORT=29500 \\
        xtuner train llava_llama3_ts_mixing.py --deepspeed zero2
    srun -p PARTITION --gres=gpu:4 --ntasks=8 --ntasks-per-node=4 \\
        xtuner train llava_llama3_ts_mixing.py --deepspeed zero2 --launcher slurm
Where things are is said by environment variables (`_base_/llama3_8b.py` names them and their defaults). The paper's
run took about 20 hours on four A100 of 80 GB.
Memory: 27 GiB of each of 4 GPUs where 8 records of 2048 tokens meet (formula of docs/plan.md).
`moslora plan llava_llama3_ts_mixing --gpus 4 --gpu-memory GIB` counts it, and the hours, for your data.
"""

_base_ = ["./llava_llama3_lora.py"]  # the ranks, targets and all else that a comparison keeps equal

model = dict(
    llm_lora=dict(type="moslora_xtuner.adapters.MosLoraConfig", mixer="butterfly"),
    visual_encoder_lora=dict(type="moslora_xtuner.adapters.MosLoraConfig", mixer="butterfly"),
)
