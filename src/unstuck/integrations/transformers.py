"""The Trainer of Hugging Face Transformers: a callback that watches it, and its training taken apart."""

import copy
import gc
import math
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor, nn
from torch.optim import Optimizer

from unstuck.errors import TrainingError, UnstuckError
from unstuck.integrations.loaders import of_steps
from unstuck.integrations.watched import Watched
from unstuck.training import Training
from unstuck.watching.watch import watch

try:
    from transformers import Trainer, TrainerCallback
except ImportError as missing:
    msg = "this is for Transformers, which is not installed: pip install transformers"
    raise UnstuckError(msg) from missing

# Where the callbacks live that write to TensorBoard, Weights & Biases, MLflow and the like.
_TRACKERS = "transformers.integrations"


class WatchCallback(Watched, TrainerCallback):
    """Watches a training: `Trainer(callbacks=[WatchCallback()])`.

    What is recorded goes to whatever the Trainer reports to (`report_to`), as `unstuck/...`, when it logs.

    Args:
        out: The folder that the run's file is written to.
        share: Of the time, that looks at the live graph may take; 0 turns them off.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Begin to watch."""
        del args, state, control
        self.watch = watch(others["model"], others["optimizer"], out=self._out, share=self._share)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **others: Any) -> None:
        """Hand the latest numbers on to the trackers."""
        del logs
        if self.watch is None:
            return
        numbers = self.numbers()
        said = self.watch.messages()
        for tracker in self._trackers():
            tracker.on_log(args, state, control, logs=dict(numbers), **others)
            board: Any = getattr(tracker, "tb_writer", None)
            if board is not None:
                for step, kind, message in said:
                    board.add_text(f"unstuck/{kind}", message, step)

    def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        """Say the last word."""
        del args, state, control, others
        self.end("finished")

    def _trackers(self) -> list[Any]:
        """The others among the Trainer's callbacks that keep records. It names none, but its list holds us."""
        lists: list[Any] = [one for one in gc.get_referrers(self) if type(one) is list]
        callbacks = [
            callback
            for one in lists
            if all(isinstance(callback, TrainerCallback) for callback in one)
            for callback in one
        ]
        return [callback for callback in callbacks if type(callback).__module__.startswith(_TRACKERS)]


def training_of(trainer: Trainer) -> Training:
    """Give the training of a Trainer, as it stands, to be diagnosed or treated.

    The loss is the Trainer's own `compute_loss`, in its own precision; a batch is what one step sees, with
    `gradient_accumulation_steps` of them together. Before `train()` there is no optimizer and no scheduler: they are
    made as it would make them, and not kept. The model is put into train mode, as its steps are made in that.

    Args:
        trainer: Before or after `train()`, in one process.

    Raises:
        TrainingError: It has no data to train on, or its batches cannot be put together.
    """
    if trainer.train_dataset is None:
        msg = "`trainer` has no train_dataset: make it with the data of the run"
        raise TrainingError(msg)
    arguments: Any = trainer.args
    model: nn.Module = trainer.accelerator.unwrap_model(trainer.model)
    data = of_steps(trainer.get_train_dataloader(), arguments.gradient_accumulation_steps)
    unseen = trainer.eval_dataset
    validation = (
        None if unseen is None or isinstance(unseen, dict) else of_steps(trainer.get_eval_dataloader())
    )
    with _made(trainer, data):
        return Training(
            model=model.train(),
            loss=_Loss(trainer),
            data=data,
            optimizer=cast("Optimizer", trainer.optimizer),
            scheduler=trainer.lr_scheduler,
            validation=validation,
            clip=arguments.max_grad_norm or None,
            schedule_every=1,
        )


@dataclass(frozen=True)
class _Loss:
    trainer: Trainer

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        # It may take the labels out of what it is given.
        with self.trainer.compute_loss_context_manager():
            return cast("Tensor", self.trainer.compute_loss(model, copy.copy(batch)))


@contextmanager
def _made(trainer: Any, data: Any) -> Generator[None]:
    """Let the Trainer have an optimizer and a scheduler, made for as many steps as it will make."""
    before = trainer.optimizer, trainer.lr_scheduler
    try:
        if None in before:
            steps = trainer.args.max_steps
            if steps <= 0:
                steps = math.ceil(len(data) * trainer.args.num_train_epochs)
            trainer.create_optimizer_and_scheduler(num_training_steps=steps)
        yield
    finally:
        trainer.optimizer, trainer.lr_scheduler = before
