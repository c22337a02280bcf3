"""Commonsense reasoning on LLaMA-3 8B Instruct: what every method of the paper's section 4.1 shares.

Values: the paper's Table 7 and, where it is silent, the authors' train_moslora.sh and its defaults (micro-batches
of 4, 100 steps of warm-up, a linear schedule, records in random order, clipping at 1). A recipe adds the adapter.
Environment variables:
    COMMONSENSE_LLM          the language model: a folder or a hub id; meta-llama/Meta-Llama-3-8B-Instruct by default
    COMMONSENSE_STORE        what `moslora data prepare` made of the 170K records; data/commonsense/store by default
    COMMONSENSE_VALIDATION   what it made of the 120 of validation.json, or that file itself; none by default
"""

_base_ = ["./runtime.py"]

from moslora_xtuner.training.loader import loader_workers as _loader_workers  # noqa: E402
from moslora_xtuner.training.loader import pins_memory as _pins_memory  # noqa: E402
from moslora_xtuner.training.precision import compute_dtype as _compute_dtype  # noqa: E402

llm_path = "{{$COMMONSENSE_LLM:meta-llama/Meta-Llama-3-8B-Instruct}}"
store = "{{$COMMONSENSE_STORE:data/commonsense/store}}"
validation = "{{$COMMONSENSE_VALIDATION:none}}"
prompt_template = "alpaca"
seed = 42

# The global batch is batch_size x accumulation x GPUs: 16 on one.
batch_size = 4
accumulation = 4

tokenizer = dict(
    type="moslora_xtuner.llm.load.load_tokenizer",
    pretrained_model_name_or_path=llm_path,
    padding_side="right",
)

model = dict(
    type="moslora_xtuner.causal_lm.MosLoraCausalLM",
    # The same training, cheaper (docs/performance.md): the loss from the places with a label alone, no mask for
    # padding on the right. Not measured on a GPU yet, so off: adapters as one function, MLPs that keep less.
    chunked_loss=True,
    skip_padding_mask=True,
    fused_adapters=False,
    lean_mlp=False,
    use_activation_checkpointing=True,
    checkpointed_blocks=None,  # all; or a number, the first ones alone; or "plan": as few as moslora train's GPU allows
    llm=dict(
        type="moslora_xtuner.llm.load.load_llama",
        pretrained_model_name_or_path=llm_path,
        attn_implementation="sdpa",  # or flash_attention_2, where the package flash-attn is installed
        torch_dtype=_compute_dtype(),  # the authors' is float16
    ),
)

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=_loader_workers(),  # up to 4, as many as this machine's cores and training processes leave
    persistent_workers=_loader_workers() > 0,
    pin_memory=_pins_memory(),
    dataset=dict(
        type="moslora_xtuner.data.dataset.TokenStore",
        store=store,
        tokenizer=tokenizer,
        template=prompt_template,
        loss="all",  # on prompt and answer, as the authors' (train_on_inputs); "answer" needs a store made so
    ),
    sampler=dict(type="mmengine.dataset.DefaultSampler", shuffle=True),
    collate_fn=dict(type="moslora_xtuner.data.dataset.collate"),
)

optim_wrapper = dict(
    type="mmengine.optim.OptimWrapper",
    optimizer=dict(type="torch.optim.AdamW", lr=3e-4, betas=(0.9, 0.999), weight_decay=0),
    clip_grad=dict(max_norm=1, error_if_nonfinite=False),
    accumulative_counts=accumulation,
)
param_scheduler = dict(type="moslora_xtuner.training.schedule.WarmUpLinearLR", warmup_steps=100, by_epoch=False)
train_cfg = dict(
    type="moslora_xtuner.training.loop.TrainLoop",
    max_epochs=3,
    loss_mean="micro_batch",  # as the authors' runs; "global_batch" does not depend on how a step is cut
)

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=800, max_keep_ckpts=2),
    validation=dict(data=validation, keep="best"),  # the authors': at each checkpoint, the lowest loss is kept
)
randomness = dict(seed=seed, deterministic=False)
