"""Lightning's Trainer: a callback that watches it, and the training of its module taken apart."""

import inspect
import sys
from collections.abc import Mapping, Sequence, Sized
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from unstuck.errors import TrainingError, UnstuckError
from unstuck.integrations.loaders import of_steps
from unstuck.integrations.watched import Watched
from unstuck.objective.sampling import moved
from unstuck.training import Training
from unstuck.watching.watch import watch


def _callback() -> Any:
    """Both names of the framework are in use; where one has been imported, that is the one."""
    names = ("lightning.pytorch", "pytorch_lightning")
    for name in sorted(names, key=lambda name: name.partition(".")[0] not in sys.modules):
        try:
            return import_module(name).Callback
        except ImportError:
            continue
    msg = "this is for Lightning, which is not installed: pip install lightning"
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


def training_of(module: Any, data: Any = None, *, trainer: Any = None) -> Training:
    """Give the training of a LightningModule, as it stands, to be diagnosed or treated.

    The loss is its own `training_step`, without what it logs, in the precision of its Trainer; a batch is what one
    step sees, with `accumulate_grad_batches` of them together. The module is put into train mode.

    Args:
        module: With the optimizer of the Trainer that has fitted it, else with one made by `configure_optimizers`.
        data: What it trains on: a DataLoader, a list of batches, or a LightningDataModule; by default what its
            Trainer or it itself has.
        trainer: That it is to be trained by; by default the one that has fitted it, if any.

    Raises:
        TrainingError: It makes its steps by itself, has several optimizers, or its data are not known.
    """
    trainer = trainer if trainer is not None else getattr(module, "_trainer", None)
    if not module.automatic_optimization:
        msg = (
            f"`module`: {type(module).__name__} makes its steps by itself (automatic_optimization=False): pass "
            "Training the loss of one of its optimizers"
        )
        raise TrainingError(msg)
    optimizer, scheduler, every = _fitted(module, trainer) or _configured(module)
    train, unseen = _loaders(module, data, trainer)
    steps = of_steps(train, int(getattr(trainer, "accumulate_grad_batches", 1)))
    by_norm = str(getattr(trainer, "gradient_clip_algorithm", None) or "norm").endswith("norm")
    return Training(
        model=module.train(),
        loss=_Step(getattr(trainer, "precision_plugin", None)),
        data=steps,
        optimizer=optimizer,
        scheduler=scheduler,
        validation=None if unseen is None else of_steps(unseen),
        clip=(getattr(trainer, "gradient_clip_val", None) or None) if by_norm else None,
        schedule_every=_updates(every, steps),
    )


# Precisions in which Lightning brings the numbers of a batch into the type of the weights.
_OF_WEIGHTS = ("64-true", "bf16-true", "16-true")


@dataclass(frozen=True)
class _Step:
    precision: Any

    def __call__(self, model: nn.Module, batch: Any) -> Tensor:
        module: Any = model
        if getattr(self.precision, "precision", "") in _OF_WEIGHTS:
            # Into that which they have now: they may be looked at in a wider one.
            batch = moved(
                batch, dtype=next(each.dtype for each in module.parameters() if each.is_floating_point())
            )
        with self.precision.train_step_context() if self.precision else nullcontext():
            batch = module.on_after_batch_transfer(module.on_before_batch_transfer(batch, 0), 0)
            index = (0,) if len(inspect.signature(module.training_step).parameters) > 1 else ()
            given = module.training_step(batch, *index)
        loss = given.get("loss") if isinstance(given, Mapping) else given
        if loss is None:
            msg = f"training_step of {type(module).__name__} gave no loss on a batch of `data`"
            raise TrainingError(msg)
        return loss


# What tells how often a scheduler steps: "step" or "epoch", and how many of these.
_Often = tuple[str, int]
_EACH_EPOCH: _Often = ("epoch", 1)


def _updates(often: _Often, data: Any) -> int | None:
    """Updates between two steps of the scheduler; None where it is not known how long an epoch is."""
    interval, frequency = often
    if interval == "step":
        return frequency
    return frequency * len(data) if isinstance(data, Sized) and len(data) else None


def _fitted(module: Any, trainer: Any) -> tuple[Any, Any, _Often] | None:
    """The optimizer and the scheduler that the Trainer has made, if it has trained this very module."""
    made: list[Any] = list(getattr(trainer, "optimizers", []))
    own = {id(parameter) for parameter in module.parameters()}
    moved = {id(each) for optimizer in made for group in optimizer.param_groups for each in group["params"]}
    if not own & moved:
        return None
    for config in trainer.lr_scheduler_configs:
        return _only(made, module), config.scheduler, (config.interval, config.frequency)
    return _only(made, module), None, _EACH_EPOCH


def _configured(module: Any) -> tuple[Any, Any, _Often]:
    """What `configure_optimizers` gives, in any of its forms."""
    try:
        given = module.configure_optimizers()
    except Exception as error:
        msg = f"configure_optimizers of {type(module).__name__} failed; it may need `trainer`: {error}"
        raise TrainingError(msg) from error
    optimizers: list[Any] = list(given) if isinstance(given, list | tuple) else [given]
    schedulers: list[Any] = []
    if any(isinstance(each, list) for each in optimizers):  # a list of each
        optimizers, schedulers = list(given[0]), list(given[1])
    if optimizers and isinstance(optimizers[0], Mapping):
        schedulers = [each["lr_scheduler"] for each in optimizers if "lr_scheduler" in each]
        optimizers = [each["optimizer"] for each in optimizers]
    first = next(iter(schedulers), None)
    config: Mapping[str, Any] = first if isinstance(first, Mapping) else {"scheduler": first}
    often = config.get("interval", _EACH_EPOCH[0]), config.get("frequency", _EACH_EPOCH[1])
    return _only(optimizers, module), config["scheduler"], often


def _only(optimizers: Sequence[Any], module: Any) -> Any:
    if len(optimizers) > 1:
        msg = f"`module`: {type(module).__name__} has {len(optimizers)} optimizers: pass Training the loss of one"
        raise TrainingError(msg)
    return optimizers[0] if optimizers else None


def _loaders(module: Any, data: Any, trainer: Any) -> tuple[Any, Any]:
    """What is trained on, and what is validated on if that is known."""
    if hasattr(data, "train_dataloader"):
        data.prepare_data()
        data.setup("fit")
        return data.train_dataloader(), _validation(data)
    if data is not None:
        return data, None
    train = getattr(trainer, "train_dataloader", None)
    unseen = getattr(trainer, "val_dataloaders", None)
    if train is None:
        try:
            train, unseen = module.train_dataloader(), _validation(module)
        except Exception as error:
            msg = "`data` is not known: the module has fitted nothing and gives none; pass a DataLoader"
            raise TrainingError(msg) from error
    if isinstance(train, Mapping | list | tuple):
        msg = "`data` is not known: the module trains on several loaders; pass one that gives its batches"
        raise TrainingError(msg)
    return train, None if isinstance(unseen, Mapping | list | tuple) else unseen


def _validation(giver: Any) -> Any:
    try:
        given = giver.val_dataloader()
    except Exception:  # Lightning raises where there is none, each version something else
        return None
    return None if isinstance(given, Mapping | list | tuple) else given
