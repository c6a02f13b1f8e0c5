"""The callback in the real Hugging Face Trainer: the run is recorded, its numbers go where the Trainer reports."""

import sqlite3
from contextlib import closing

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from unstuck.integrations.transformers import WatchCallback

# What the framework and its libraries say of themselves.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def test_a_training_is_recorded_and_charted(tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "board"))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = BertForSequenceClassification(BertConfig(vocab_size=20, max_position_embeddings=8, **sizes))
    rows = [{"input_ids": torch.randint(0, 20, (8,)), "labels": number % 2} for number in range(64)]
    callback = WatchCallback(out=tmp_path / "runs", share=0.5)
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=250,
        per_device_train_batch_size=8,
        logging_steps=10,
        report_to=["tensorboard"],
        save_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[callback]).train()
    with closing(sqlite3.connect(callback.watch.path)) as connection:
        counted = [
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("steps", "samples", "groups", "looks")
        ]
        errors = connection.execute("SELECT message FROM events WHERE kind = 'error'").fetchall()
    assert counted[0] == 250
    assert all(counted)
    assert errors == []
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    charted = set(board.Tags()["scalars"])
    assert {"train/loss", "train/unstuck/gradient_norm", "train/unstuck/lambda_max"} <= charted
