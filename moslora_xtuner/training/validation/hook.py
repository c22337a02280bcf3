"""The hook that validates while a model is trained, and says which adapter is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import DATASETS

from ...atomic import atomic_json
from ...errors import ConfigError, TrainingError
from ...formats import FORMAT, unreadable
from ...progress import note
from ..checkpoints.save import Checkpoints, is_due, within_a_step
from ..held_out import OFF, dataset_settings, interval_of, require_same_loss
from ..parts import whole
from ..run_folder import VALIDATED
from ..unwrap import unwrapped
from ..watch import Watchdog
from . import best
from .losses import STATE, Loss, as_json, from_json
from .losses import best as best_of
from .measure import Records, mean_loss

Keep = Literal["best", "last"]


class Validation(Hook):
    """Compute the loss on records that are not trained on, and keep the adapter that has the lowest.

    Where a checkpoint is due, just before it, and after the last step: what was found stands in it, so that a resumed
    run knows it. The loss is that of `measure.mean_loss`; the training is the same to the bit as without. It is logged
    as `val_loss`. With `keep="best"` `adapters/` gets the weights of the lowest loss, the earlier of two that are alike
    (`hooks.SaveAdapters`), and `adapters/last/` those of the last step; what is no finite number is never the best.

    Args:
        data: a token store, made for the same model, template and loss as the training's, or what `moslora data
            prepare` reads; None (or "none"): nothing is done.
        interval: iterations between two; those between two checkpoints when not given. -1: after the last step alone.
        keep: `best` or `last`.
        batch_size: records of a batch at most; the training's when not given.

    Raises:
        ConfigError: another `keep`; with `best`, checkpoints of another hook, which would lose what was found; a
            resumed run has not kept its best.
        DataError: the records do not fit the training's.
    """

    priority = "LOW"
    records: Records | None = None

    def __init__(
        self, data: str | None = None, interval: int | None = None, keep: Keep = "last", batch_size: int | None = None
    ) -> None:
        if keep not in ("best", "last"):
            raise ConfigError(f"default_hooks.validation.keep is {keep!r}: give best or last")
        self.data, self.interval, self.keep, self.batch_size = data, interval, keep, batch_size
        self.losses: list[Loss] = []
        self.seen = 0

    @property
    def on(self) -> bool:
        """Whether it does anything."""
        return self.data not in OFF

    @property
    def keeps_state(self) -> bool:
        """Whether a checkpoint has to hold something of this hook."""
        return self.on

    @property
    def kept(self) -> Loss | None:
        """The loss of the adapter that is kept; None where it is simply the last one.

        Raises TrainingError when no loss was a number.
        """
        if not self.on or self.keep == "last":
            return None
        if (found := best_of(self.losses)) is None:
            raise TrainingError(
                "no validation loss was a finite number, so that none is the lowest: look at the records; --resume "
                "auto --cfg-options default_hooks.validation.keep=last keeps the last adapter"
            )
        return found

    def before_train(self, runner: Any) -> None:
        """Open the records."""
        if not self.on:
            return
        if self.keep == "best" and not any(isinstance(hook, Checkpoints) for hook in runner.hooks):
            raise ConfigError(
                "default_hooks.validation.keep is 'best', and the checkpoints would not hold it: take "
                "moslora_xtuner.training.checkpoints.save.Checkpoints as default_hooks.checkpoint"
            )
        self.run = Path(runner.work_dir)
        config, train = runner.cfg, runner.train_dataloader
        self.interval = interval_of(config, {"interval": self.interval})
        dataset = DATASETS.build(dataset_settings(config.train_dataloader.dataset, str(self.data)))
        require_same_loss(getattr(train.dataset, "manifest", {}), dataset.manifest)
        loader = config.train_dataloader
        self.records = Records(
            dataset,
            train.collate_fn,
            image_tokens=int(loader.collate_fn.get("image_tokens", 1)),
            records=self.batch_size or int(loader.batch_size),
            most_places=config.train_cfg.get("max_tokens"),
            workers=int(loader.get("num_workers") or 0),
            pin_memory=bool(loader.get("pin_memory", False)),
        )
        self.seen = runner.iter
        if is_main_process() and not runner.iter:
            best.forget(self.run)

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Validate where it is due, at the end of a step of the optimiser."""
        if self.records is None or within_a_step(runner):
            return
        assert self.interval is not None
        done = runner.iter + 1
        if is_due(self.interval, done, self.seen) or done >= runner.max_iters:
            self._validate(runner, self.records, done)

    def _validate(self, runner: Any, records: Records, done: int) -> None:
        start = time.monotonic()
        watchdogs = [hook for hook in runner.hooks if isinstance(hook, Watchdog)]

        def alive() -> None:
            for hook in watchdogs:
                hook.alive()

        before = best_of(self.losses)
        self.losses.append(Loss.of(done, mean_loss(runner, records, alive)))
        self.seen = done
        found, lowest = self.losses[-1], best_of(self.losses)
        if self.keep == "best" and lowest is found:
            model = unwrapped(runner.model)
            with whole(model):
                if is_main_process():
                    best.write(self.run, model, found)
            barrier()
        alive()
        if is_main_process():
            self._tell(runner, found, before, len(records), time.monotonic() - start)

    def _tell(self, runner: Any, found: Loss, before: Loss | None, records: int, seconds: float) -> None:
        """A line, and the log; the line is also shown by `moslora train`."""
        where = f"after iteration {found.step} of {runner.max_iters}"
        if found.loss is None:
            note(f"{VALIDATED}{where}: the loss over {records} records is no finite number; it is never the best")
            return
        lower = before is None or before.loss is None or found.loss < before.loss
        against = "the lowest so far" if lower or before is None else f"the lowest is {before.loss:.4f} ({before.step})"
        note(f"{VALIDATED}{where}: loss {found.loss:.4f} over {records} records, {against}; {seconds:.1f} s")
        runner.visualizer.add_scalars({"val_loss": found.loss}, step=found.step, file_path=f"{runner.timestamp}.json")

    def write_state(self, folder: Path) -> None:
        """Into a checkpoint: the losses, and the best adapter so far."""
        atomic_json(folder / STATE, {"format": FORMAT, "keep": self.keep, "losses": as_json(self.losses)})
        if self.keep == "best":
            best.put_into_checkpoint(self.run, folder)

    def read_state(self, folder: Path) -> None:
        """Of a checkpoint that is resumed from.

        Raises:
            ConfigError: it does not say what was found, or its run has not kept the best, which is to be kept now.
            TrainingError: what it holds cannot be read.
        """
        file = folder / STATE
        if not file.is_file():
            if self.keep == "best":
                raise ConfigError(
                    f"{folder} does not say which validation losses there were: begin anew, or give --cfg-options "
                    "default_hooks.validation.keep=last"
                )
            if is_main_process():
                note(f"{folder} does not say which validation losses there were: those from here on are known")
            return
        content = self._read(file)
        self.losses = from_json(content.get("losses"), file)
        if self.keep == "best" and content.get("keep") != "best":
            raise ConfigError(
                f"{folder} is of a run that kept its last adapter, so that the best is not there: begin anew, or give "
                "--cfg-options default_hooks.validation.keep=last"
            )
        if is_main_process():
            lowest = best_of(self.losses)
            if self.keep == "best" and lowest is not None:
                best.take_from_checkpoint(folder, self.run, lowest)
            else:
                best.forget(self.run)

    def _read(self, file: Path) -> Mapping[str, Any]:
        try:
            content: Any = json.loads(file.read_text(encoding="utf-8"))
            why = unreadable(content)
        except (OSError, ValueError, AttributeError) as fault:
            raise TrainingError(f"{file} cannot be read ({fault}): begin anew") from fault
        if why:
            raise TrainingError(f"{file} cannot be read: {why}")
        found: Mapping[str, Any] = content
        return found

    def told(self) -> dict[str, Any]:
        """For the run's record: the losses, and of which step the adapter is."""
        if self.records is None:
            return {}
        last = self.losses[-1] if self.losses else None
        kept = self.kept or last
        return {
            "records": len(self.records),
            "interval": self.interval,
            "times": len(self.losses),
            "keep": self.keep,
            **({} if kept is None else {"step": kept.step, "loss": kept.loss}),
            "losses": as_json(self.losses),
        }


def validation_of(runner: Any) -> Validation | None:
    """A runner's validation; None where there is none, or it is off."""
    return next((hook for hook in runner.hooks if isinstance(hook, Validation) and hook.on), None)
