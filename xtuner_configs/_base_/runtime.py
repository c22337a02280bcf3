"""What every training has, whatever it trains: the plugin, hooks, logs, processes."""

_base_ = []  # says that this is a text-style config, in which custom_imports runs; else imports make it lazy

custom_imports = dict(imports=["moslora_xtuner.plugin"], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type="mmengine.hooks.IterTimerHook"),
    logger=dict(type="mmengine.hooks.LoggerHook", log_metric_by_epoch=False),
    param_scheduler=dict(type="mmengine.hooks.ParamSchedulerHook"),
    checkpoint=dict(type="moslora_xtuner.training.checkpoints.save.Checkpoints"),
    sampler_seed=dict(type="mmengine.hooks.DistSamplerSeedHook"),
    # data: a token store, or a JSON, whose loss is computed where a checkpoint is due; None: no validation. keep="best"
    # makes adapters/ that of the lowest loss.
    validation=dict(type="moslora_xtuner.training.validation.hook.Validation", data=None, interval=None, keep="last"),
)
custom_hooks = [
    dict(type="moslora_xtuner.training.record.RecordRun"),
    dict(type="moslora_xtuner.training.record.Throughput"),
    dict(type="moslora_xtuner.training.watch.Watchdog", minutes=10),
    dict(type="moslora_xtuner.training.finite.SoundWeights"),
    dict(type="moslora_xtuner.training.finite.Learning", steps=50),
    dict(type="moslora_xtuner.training.adalora.AdaLoraBudget"),  # does nothing where there is no AdaLoRA
    dict(type="moslora_xtuner.training.hooks.SaveAdapters"),
    dict(type="moslora_xtuner.training.stopping.StopWhenAsked"),
]
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),  # gloo on a machine without a GPU (moslora_xtuner.plugin)
)
visualizer = dict(
    type="mmengine.visualization.Visualizer",
    vis_backends=[
        dict(type="mmengine.visualization.LocalVisBackend"),
        dict(type="mmengine.visualization.TensorboardVisBackend"),  # or WandbVisBackend
    ],
)
log_level = "INFO"
load_from = None
resume = False
log_processor = dict(by_epoch=False)
