"""LLaMA-3 8B Instruct in bf16 under LLaVA-1.5, stage 2: the left column of the paper's Table 8.

Environment variables, besides those of `llava.py`:
    LLAMA3_8B            LLaMA-3 8B Instruct: a folder or a hub id
    LLAMA3_STORE         what `moslora data prepare` made of the 665K mix with this model's tokenizer
    LLAMA3_PROJECTOR     the projector of stage 1 (llava_llama3_pretrain.py): a folder, .safetensors or XTuner's .pth
"""

_base_ = ["./llava.py"]

from moslora_xtuner.training.precision import compute_dtype as _compute_dtype  # noqa: E402

llm_path = "{{$LLAMA3_8B:meta-llama/Meta-Llama-3-8B-Instruct}}"
store = "{{$LLAMA3_STORE:data/llava/store_llama3}}"
projector_path = "{{$LLAMA3_PROJECTOR:work_dirs/llava_llama3_pretrain/adapters/projector}}"
prompt_template = "llama3_chat"

# The global batch is batch_size x accumulation x GPUs: 64 on four.
batch_size = 8
accumulation = 2

tokenizer = dict(
    type="moslora_xtuner.llm.load.load_tokenizer",
    pretrained_model_name_or_path=llm_path,
    padding_side="right",
)

model = dict(
    projector_weights=projector_path,
    llm=dict(
        type="moslora_xtuner.llm.load.load_llama",
        pretrained_model_name_or_path=llm_path,
        attn_implementation="sdpa",  # or flash_attention_2, where the package flash-attn is installed
        torch_dtype=_compute_dtype(),
    ),
)

train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(store=store, tokenizer=tokenizer, template=prompt_template),
    sampler=dict(per_device_batch_size=batch_size * accumulation),
)
optim_wrapper = dict(accumulative_counts=accumulation)
