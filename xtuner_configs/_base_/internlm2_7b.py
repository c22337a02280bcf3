"""InternLM2-Chat 7B in 4 bits (NF4, double quantisation) under LLaVA-1.5, stage 2: Table 8's right column.

Environment variables, besides those of `llava.py`:
    INTERNLM2_7B          InternLM2-Chat 7B: a folder or a hub id; none of its remote code is run
    INTERNLM2_STORE       what `moslora data prepare` made of the 665K mix with this model's tokenizer
    INTERNLM2_PROJECTOR   the projector of llava_internlm2_pretrain.py: a folder, .safetensors or XTuner's .pth
"""

_base_ = ["./llava.py"]

from moslora_xtuner.training.precision import compute_dtype as _compute_dtype  # noqa: E402
from moslora_xtuner.training.precision import nf4 as _nf4  # noqa: E402

llm_path = "{{$INTERNLM2_7B:internlm/internlm2-chat-7b}}"
store = "{{$INTERNLM2_STORE:data/llava/store_internlm2}}"
projector_path = "{{$INTERNLM2_PROJECTOR:work_dirs/llava_internlm2_pretrain/adapters/projector}}"
prompt_template = "internlm2_chat"

# The global batch is batch_size x accumulation x GPUs: 64 on four.
batch_size = 16
accumulation = 1

tokenizer = dict(
    type="moslora_xtuner.llm.load.load_tokenizer",
    pretrained_model_name_or_path=llm_path,
    padding_side="right",
)

model = dict(
    projector_weights=projector_path,
    llm=dict(
        type="moslora_xtuner.llm.load.load_internlm2",
        pretrained_model_name_or_path=llm_path,
        attn_implementation="sdpa",  # or flash_attention_2, where the package flash-attn is installed
        torch_dtype=_compute_dtype(),
        quantization_config=_nf4(),
    ),
)

train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(store=store, tokenizer=tokenizer, template=prompt_template),
    sampler=dict(per_device_batch_size=batch_size * accumulation),
)
optim_wrapper = dict(
    accumulative_counts=accumulation,
    # optimizer=dict(lr=2e-4),  # the authors' config for InternLM2; the paper's Table 8 has 2e-5
)
