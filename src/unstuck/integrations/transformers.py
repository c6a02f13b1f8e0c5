"""A callback for the Trainer of Hugging Face Transformers."""

import gc
from typing import Any

from unstuck.errors import UnstuckError
from unstuck.integrations.watched import Watched
from unstuck.watching.watch import watch

try:
    from transformers import TrainerCallback
except ImportError as missing:
    msg = "this callback is for Transformers, which is not installed: pip install transformers"
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
