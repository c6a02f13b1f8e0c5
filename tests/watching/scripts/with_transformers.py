"""The Hugging Face Trainer on a small BERT, with dropout and accumulation."""

import tempfile

from common import digits, save, seed
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

seed()
inputs, labels = digits()
model = BertForSequenceClassification(
    BertConfig(
        vocab_size=18,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        num_labels=10,
        attention_probs_dropout_prob=0.0,
    )
)
rows = [
    {"input_ids": (16 * pixels).long(), "labels": label}
    for pixels, label in zip(inputs[:256], labels[:256], strict=True)
]
with tempfile.TemporaryDirectory() as folder:
    arguments = TrainingArguments(
        output_dir=folder,
        max_steps=60,
        per_device_train_batch_size=8,
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    trainer.train()
save(model, trainer.optimizer)
