"""The callback in a real Lightning Trainer: the run is recorded, and its numbers are in the user's own loggers."""

import sqlite3
from contextlib import closing

import lightning
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from unstuck.findings.records import Cause
from unstuck.integrations.lightning import WatchCallback

# What the framework and its libraries say of themselves.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Stuck(lightning.LightningModule):
    """All weights are zero: a saddle point."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 2))
        for parameter in self.parameters():
            nn.init.zeros_(parameter)

    def training_step(self, batch, _):
        return functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class StopWhenTold(lightning.Callback):
    """So that the test waits as long as this machine takes, and no longer."""

    def __init__(self, watching):
        self.watching = watching

    def on_train_batch_end(self, trainer, *_):
        trainer.should_stop = bool(self.watching.findings)


def fit(tmp_path, callback, module, loggers):
    torch.manual_seed(0)
    inputs = torch.randn(256, 8)
    data = TensorDataset(inputs, (inputs.sum(dim=1) > 0).long())
    trainer = lightning.Trainer(
        max_epochs=20_000,
        accelerator="cpu",
        callbacks=[callback, StopWhenTold(callback)],
        logger=loggers,
        default_root_dir=tmp_path,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(data, batch_size=64, shuffle=True))
    return trainer


def test_a_fit_that_stands_still_is_told_and_charted(tmp_path, capsys):
    callback = WatchCallback(out=tmp_path / "runs", share=0.5)
    loggers = [TensorBoardLogger(tmp_path / "board"), CSVLogger(tmp_path / "csv")]
    trainer = fit(tmp_path, callback, Stuck(), loggers)
    assert [finding.cause for finding in callback.findings] == [Cause.SADDLE_POINT]
    assert "saddle-point" in capsys.readouterr().err
    with closing(sqlite3.connect(callback.watch.path)) as connection:
        assert connection.execute("SELECT count(*) FROM steps").fetchone() == (trainer.global_step,)
        assert connection.execute("SELECT value FROM about WHERE key = 'state'").fetchone() == ("finished",)
    board = EventAccumulator(loggers[0].log_dir)
    board.Reload()
    assert {"unstuck/gradient_norm", "unstuck/stalled", "unstuck/finding/saddle-point"} <= set(
        board.Tags()["scalars"]
    )
    assert any(tag.startswith("unstuck/finding") for tag in board.Tags()["tensors"])
    assert "unstuck/lambda_min" in (tmp_path / "csv").rglob("metrics.csv").__next__().read_text()


def test_an_exception_in_the_fit_is_written_down_as_its_end(tmp_path):
    class Failing(Stuck):
        def training_step(self, batch, number):
            if self.global_step == 5:
                raise ZeroDivisionError
            return super().training_step(batch, number)

    callback = WatchCallback(out=tmp_path / "runs")
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, callback, Failing(), [])
    with closing(sqlite3.connect(callback.watch.path)) as connection:
        (state,) = connection.execute("SELECT value FROM about WHERE key = 'state'").fetchone()
        assert connection.execute("SELECT count(*) FROM steps").fetchone() == (5,)
    assert state.startswith("ZeroDivisionError")
