"""A callback for Lightning's Trainer."""

import sys
from importlib import import_module
from typing import Any

from unstuck.errors import UnstuckError
from unstuck.integrations.watched import Watched
from unstuck.watching.watch import watch


def _callback() -> Any:
    """Both names of the framework are in use; where one has been imported, that is the one."""
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in sorted(names, key=lambda name: name.partition(".")[0] not in sys.modules):
        try:
            return import_module(name).Callback
        except ImportError:
            continue
    msg = "this callback is for Lightning, which is not installed: pip install lightning"
    raise UnstuckError(msg)


_Callback: Any = _callback()


class WatchCallback(Watched, _Callback):
    """Watches a fit: `Trainer(callbacks=[WatchCallback()])`.

    What is recorded goes to the Trainer's loggers, as `unstuck/...`, as often as they are written to.

    Args:
        out: The folder that the run's file is written to.
        share: Of the time, that looks at the live graph may take; 0 turns them off.
    """

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin to watch: the optimizers are there by now."""
        self.watch = watch(pl_module, list(trainer.optimizers), out=self._out, share=self._share)

    def on_train_batch_end(self, trainer: Any, *others: Any) -> None:
        """Hand the latest numbers on, whenever the Trainer writes its own."""
        del others
        if (
            self.watch is not None
            and trainer.global_step
            and trainer.global_step % trainer.log_every_n_steps == 0
        ):
            self._forward(trainer)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Say the last word."""
        del pl_module
        self._end(trainer, "finished")

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Write down how it ended."""
        del pl_module
        self._end(trainer, f"{type(exception).__name__}: {exception}")

    def _end(self, trainer: Any, state: str) -> None:
        self.end(state)
        self._forward(trainer)

    def _forward(self, trainer: Any) -> None:
        if self.watch is None:
            return
        numbers = self.numbers()
        said = self.watch.messages()
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=trainer.global_step)
            for step, kind, message in said:
                if hasattr(logger.experiment, "add_text"):
                    logger.experiment.add_text(f"unstuck/{kind}", message, step)
