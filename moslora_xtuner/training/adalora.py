"""AdaLoRA's budget, stepped with the optimiser: PEFT leaves that to whoever trains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from mmengine.hooks import Hook
from peft.tuners.adalora import AdaLoraModel

from ..errors import ConfigError
from .unwrap import unwrapped

STATE = "adalora.pt"
_SCORES = ("ipt", "exp_avg_ipt", "exp_avg_unc")


class AdaLoraBudget(Hook):
    """Call `AdaLoraModel.update_and_allocate` after each step of the optimiser (Zhang et al. 2023, algorithm 1).

    Step t of T leaves, of all layers' rank-1 parts, the b(t) with the largest smoothed importance |w dL/dw|, with b(t)
    falling as a cube from init_r to target_r a layer between steps `warm_up` T and (1 - `final`) T. The hook tells
    PEFT's config T, tinit and tfinal, which only the run knows.

    Args:
        warm_up: the share of the steps before the first part is taken; PEFT's default is 0.
        final: the share of the steps after the last one was; PEFT's default is 0.

    In a training of another method it does nothing.

    Raises:
        ConfigError: the shares leave no step between them, or ZeRO-3 has cut the weights up.
    """

    priority = "NORMAL"
    tuner: Any = None

    def __init__(self, warm_up: float = 0.0, final: float = 0.0) -> None:
        if not (0 <= warm_up < 1 and 0 <= final < 1 and warm_up + final < 1):
            raise ConfigError(f"AdaLoraBudget: warm_up {warm_up} and final {final} must be shares that leave steps")
        self.warm_up, self.final = warm_up, final

    def before_train(self, runner: Any) -> None:
        """Tell PEFT how long the run is, and stand behind the optimiser's step."""
        self.tuner = adalora_of(unwrapped(runner.model))
        if self.tuner is None:
            return
        accumulation = int(runner.train_loop.accumulation)
        engine = getattr(runner.model, "model", None)
        engine = engine if hasattr(engine, "set_gradient_accumulation_boundary") else None
        if any(hasattr(weight, "ds_id") for weight in self.tuner.parameters()):
            raise ConfigError("AdaLoRA needs its weights whole: take --deepspeed zero2")
        # What is left over at the end is a step of mmengine's optimiser, and none of DeepSpeed's.
        steps = runner.max_iters // accumulation if engine else math.ceil(runner.max_iters / accumulation)
        self._tell(steps)
        self.done = runner.iter // accumulation
        if engine is None:
            wrapper: Any = runner.optim_wrapper
            wrapper.step = self._then_allocate(wrapper.step)
        else:
            engine.step = self._with_gradients_of(engine, engine.step)

    def _tell(self, steps: int) -> None:
        config = self.tuner.peft_config[self.tuner.trainable_adapter_name]
        config.total_step = steps
        config.tinit, config.tfinal = round(self.warm_up * steps), round(self.final * steps)
        if config.tinit >= steps - config.tfinal:
            raise ConfigError(f"AdaLoraBudget: no step is left to lower it in: the run has {steps} of them")

    def _then_allocate(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """The optimiser's step, and then the budget's, while the gradients are still there."""

        def stepped(*given: Any, **named: Any) -> Any:
            made = step(*given, **named)
            self.done += 1
            self.tuner.update_and_allocate(self.done)
            return made

        return stepped

    def _with_gradients_of(self, engine: Any, step: Callable[..., Any]) -> Callable[..., Any]:
        """DeepSpeed's step, whose gradients are gone with it, and whose own copies of the weights have to follow.

        WORK-AROUND peft 0.17 (tuners/adalora/layer.py, update_ipt): under DeepSpeed it asks for gradients behind the
        step, which has let go of them, and masks weights that the next step takes from DeepSpeed's float32 copy again.
        Can go when it does neither.
        """
        from deepspeed.utils import safe_get_full_grad, safe_set_full_fp32_param

        trained = [(n, w) for n, w in self.tuner.named_parameters() if w.requires_grad]

        def stepped(*given: Any, **named: Any) -> Any:
            if not engine.is_gradient_accumulation_boundary():
                return step(*given, **named)
            gradients = {id(weight): safe_get_full_grad(weight) for _, weight in trained}
            made = step(*given, **named)
            if getattr(engine.optimizer, "overflow", False):
                return made  # in half precision: DeepSpeed has left the step out
            self.done += 1
            clipped = 1 / _divisor(engine)
            with _answering({number: gradient * clipped for number, gradient in gradients.items()}):
                self.tuner.update_and_allocate(self.done)
            for name, weight in trained:
                if "lora_E" in name:
                    safe_set_full_fp32_param(weight, weight.detach().float())
            return made

        return stepped

    @property
    def keeps_state(self) -> bool:
        """Whether a checkpoint has to hold something of this hook."""
        return self.tuner is not None

    def write_state(self, folder: Path) -> None:
        """Into a checkpoint: the importances, and what was left of each layer."""
        allocator = self.tuner.rankallocator
        scores = {name: getattr(allocator, name) for name in _SCORES}
        torch.save({**scores, "rank_pattern": allocator.peft_config.rank_pattern}, folder / STATE)

    def read_state(self, folder: Path) -> None:
        """Of a checkpoint that is resumed from."""
        file = folder / STATE
        if not file.is_file():
            raise ConfigError(f"{folder} does not say what AdaLoRA had left of its ranks: begin anew")
        found = torch.load(file, weights_only=True, map_location=next(self.tuner.parameters()).device)
        allocator = self.tuner.rankallocator
        for name in _SCORES:
            setattr(allocator, name, found[name])
        allocator.peft_config.rank_pattern = found["rank_pattern"]


def adalora_of(model: Any) -> AdaLoraModel | None:
    """The tuner of a language model's AdaLoRA; None where it has another adapter, or none."""
    tuner = getattr(getattr(model, "llm", None), "base_model", None)
    return tuner if isinstance(tuner, AdaLoraModel) else None


def require_budget(runner: Any) -> None:
    """Stop an AdaLoRA whose budget nobody steps: it would keep all its ranks, without a word. Raises ConfigError."""
    if adalora_of(unwrapped(runner.model)) and not any(isinstance(hook, AdaLoraBudget) for hook in runner.hooks):
        raise ConfigError(
            "llm_lora is AdaLoRA, and nothing lowers its budget: put dict(type='moslora_xtuner.training.adalora."
            "AdaLoraBudget') into custom_hooks"
        )


def _divisor(engine: Any) -> float:
    """What DeepSpeed divided the gradients of its last step by: the loss scale, and what clipping to a norm takes."""
    scale = float(getattr(engine.optimizer, "loss_scale", 1) or 1)
    most, norm = engine.gradient_clipping(), engine.get_global_grad_norm()
    return scale * max(1.0, (float(norm) + 1e-6) / most) if most and norm is not None else scale


@contextmanager
def _answering(gradients: dict[int, Any]) -> Iterator[None]:
    """While it lasts, DeepSpeed's `safe_get_full_grad` gives what it gave before the step."""
    import deepspeed.utils as place

    stock = place.safe_get_full_grad
    place.safe_get_full_grad = lambda weight: gradients[id(weight)]
    try:
        yield
    finally:
        place.safe_get_full_grad = stock
