"""The training loop: XTuner's, with a loss over the global batch's tokens and a resume that reads nothing twice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any, Literal

from mmengine.dist import get_rank
from xtuner.engine.runner import TrainLoop as XTunerLoop

from ..data.tokens.store import Table, require_tokens
from ..errors import ConfigError, TrainingError
from ..progress import note
from .adalora import require_budget
from .checkpoints.random_states import from_own_generator
from .finite import BadLoss, told
from .loader import no_needless_pause, without_workers
from .micro_batches import LOSS_DIVISOR as LOSS_DIVISOR
from .micro_batches import accumulation, budgeted, in_steps, require_global_mean, set_divisors, train_step
from .micro_batches import supervised_tokens as supervised_tokens
from .out_of_memory import is_out_of_memory
from .out_of_memory import told as out_of_memory
from .resume import batches_from, can_skip
from .schedule import WarmUp
from .unwrap import unwrapped
from .watch import Watchdog

LossMean = Literal["micro_batch", "global_batch"]


class TrainLoop(XTunerLoop):
    """XTuner's loop with a choice of what the loss is a mean over.

    With c(t) the cross entropy of a supervised token, G the micro-batches of one optimiser step (all processes,
    all accumulated ones) and n(g) the supervised tokens of micro-batch g, the step follows the gradient of::

        micro_batch    1 / |G|  sum_g  1 / n(g)  sum_{t in g} c(t)       as XTuner, Hugging Face and the paper's runs
        global_batch   1 / sum_g n(g)  sum_g  sum_{t in g} c(t)

    With `micro_batch` a token counts more in a micro-batch that has few, so the same global batch gives another loss
    when it is cut otherwise; with `global_batch` the number of processes and the accumulation do not matter.

    With `max_tokens` the records of a step are cut into as many micro-batches as fit (`TokenBudget` of
    moslora_xtuner/data/token_budget.py), and one iteration is one step of the optimiser: iterations, checkpoints,
    rates and what is logged count steps.

    A resumed run goes on with the batch it would have had, without reading those before it when the sampler can
    `skip`, as `moslora_xtuner.data.sampler.LengthGroupedSampler` can; another is read up to there, as mmengine does.

    Args:
        loss_mean: `micro_batch` or `global_batch`.
        max_tokens: places of a micro-batch at most, padding included; None cuts by train_dataloader.batch_size.
        skip_bad_batches: so many micro-batches of a run may have a loss that is no number; each is named, and nothing
            is learnt from it.
        **options: of `xtuner.engine.runner.TrainLoop`.

    Raises:
        ConfigError: another `loss_mean`; `max_tokens` with `micro_batch`, whose loss would follow the cut, or with a
            data loader that it does not fit.
    """

    dataloader_iterator: Any

    def __init__(
        self,
        runner: Any,
        dataloader: Any,
        loss_mean: LossMean = "micro_batch",
        max_tokens: int | None = None,
        skip_bad_batches: int = 0,
        **options: Any,
    ) -> None:
        if loss_mean not in ("micro_batch", "global_batch"):
            raise ConfigError(f"train_cfg.loss_mean is {loss_mean!r}: give micro_batch or global_batch")
        if isinstance(dataloader, dict):
            dataloader = without_workers(dataloader)
        if max_tokens is not None:
            require_global_mean(loss_mean)
            dataloader = budgeted(runner, dataloader, max_tokens)
            if options.get("max_epochs") is not None and options.get("max_iters") is None:
                # XTuner's would count the micro-batches of the first epoch.
                options["max_iters"] = options.pop("max_epochs") * dataloader.batch_sampler.steps
        super().__init__(runner=runner, dataloader=dataloader, **options)
        from_own_generator(self.dataloader)
        self.max_tokens, self.loss_mean, self.bad_batches = max_tokens, loss_mean, skip_bad_batches
        self.accumulation = accumulation(runner) if max_tokens is None else 1
        self.dataloader_iterator = self._for_loss(self.dataloader_iterator)

    def run(self) -> Any:
        """Train to the end; the schedule learns before what a step is."""
        for scheduler in self.runner.param_schedulers or []:
            if isinstance(scheduler, WarmUp):
                scheduler.set_accumulation(self.accumulation)
        require_budget(self.runner)
        self._back_to_a_whole_step()
        self._skip_what_is_done()
        self._model = unwrapped(self.runner.model)
        _require_known_tokens(self._model, self.dataloader.dataset)
        self._model.bad_batches = self.bad_batches
        try:
            with no_needless_pause(self.dataloader):
                return super().run()
        finally:
            for hook in self.runner.hooks:
                if isinstance(hook, Watchdog):
                    hook.stop()

    def run_iter(self, data_batch: Any) -> None:
        """Train on one batch as mmengine does; with `max_tokens` on all micro-batches of a step."""
        try:
            self._run_iter(data_batch)
        except BadLoss as fault:
            if not fault.here:  # another process says where it was
                raise SystemExit(TrainingError.exit_code) from fault
            raise told(fault, data_batch, self._iter + 1, Path(self.runner.work_dir)) from fault
        except (MemoryError, OSError, RuntimeError) as fault:
            if not is_out_of_memory(fault):
                raise
            raise out_of_memory(fault, data_batch, self._iter + 1, get_rank()) from fault
        if (skipped := getattr(self._model, "skipped", None)) is not None:
            self._model.skipped = None
            if skipped.here:
                where = told(skipped, data_batch, self._iter, Path(self.runner.work_dir))
                note(f"skipped, {self._model.bad_batches} more may be: {where}")

    def _run_iter(self, data_batch: Any) -> None:
        if self.max_tokens is None:
            super().run_iter(data_batch)
            return
        self.runner.call_hook("before_train_iter", batch_idx=self._iter, data_batch=data_batch)
        outputs = train_step(self.runner.model, self.runner.optim_wrapper, data_batch)
        self.runner.call_hook("after_train_iter", batch_idx=self._iter, data_batch=data_batch, outputs=outputs)
        self._iter += 1

    def _for_loss(self, batches: Iterator[Any], done: int = 0) -> Iterator[Any]:
        if self.max_tokens is not None:
            return in_steps(batches, self.dataloader.batch_sampler, done)
        if self.loss_mean == "micro_batch":
            return batches
        return with_divisors(batches, self.accumulation, self.max_iters, done)

    def _back_to_a_whole_step(self) -> None:
        """Do a step again of which a checkpoint holds a part: the gradients summed up so far are in none.

        Checkpoints of ours stand between steps; those of mmengine's hook may not.
        """
        part = self._iter % self.accumulation
        if not part or self._iter >= self.max_iters:  # what is left over at the end is a step of its own
            return
        note(f"the checkpoint stands in the middle of a step: from iteration {self._iter - part} on it is done again")
        self._iter -= part
        for scheduler in self.runner.param_schedulers or []:
            scheduler.last_step -= part
            scheduler._global_step -= part

    def _skip_what_is_done(self) -> None:
        """Let mmengine's loop, which asks for all batches before `iter` again, get nothing for them."""
        done = self._iter
        if done and can_skip(self.dataloader):
            self.dataloader_iterator = None  # ends its workers before others begin
            remaining = self._for_loss(batches_from(self.dataloader, done), done)
            self.dataloader_iterator = chain(repeat(None, done), remaining)


def _require_known_tokens(model: Any, dataset: Any) -> None:
    """Stop all processes where a token store has what the model has no embedding for: on a GPU nothing would name it.

    Raises:
        DataError: names the record.
    """
    table = getattr(dataset, "table", None)
    if not isinstance(table, Table):
        return
    embeddings = model.llm.get_input_embeddings()
    require_tokens(table, int(embeddings.num_embeddings))


def with_divisors(batches: Iterator[Any], accumulation: int, total: int, done: int = 0) -> Iterator[Any]:
    """The batches with the divisor of their losses, read one optimiser step ahead.

    Args:
        batches: of `moslora_xtuner.data.dataset.collate`.
        accumulation: micro-batches of a step on one process.
        total: how many batches there will be; what is left over at the end makes a smaller step.
        done: how many of them came before, in whole steps.
    """
    read = done
    while read < total:
        group = [next(batches) for _ in range(min(accumulation, total - read))]
        read += len(group)
        set_divisors(group)
        yield from group
