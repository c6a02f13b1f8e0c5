"""Language models as `transformers` builds them, with random weights.

A torchvision that some peer has brought may be a build for another PyTorch, which would break the import;
nothing here needs it, so it is hidden meanwhile.
"""

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.causes.second.tables import VOCABULARY, characters

_HIDDEN = "torchvision" not in sys.modules
if _HIDDEN:
    sys.modules["torchvision"] = None  # type: ignore[assignment]
from transformers import (  # noqa: E402
    BatchEncoding,
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

if _HIDDEN:
    del sys.modules["torchvision"]


def causal(model: nn.Module, batch: Any) -> Tensor:
    """Give the loss that the model itself computes of a batch."""
    return model(**batch).loss


def source(*, length: int = 32, count: int = 192, size: int = 16, shuffle: bool = True) -> DataLoader[Any]:
    """Give batches of pieces of source text, as a tokenizer would."""
    return DataLoader(
        TensorDataset(characters(length, count)), batch_size=size, shuffle=shuffle, collate_fn=_encoding
    )


def _encoding(examples: list[tuple[Tensor]]) -> BatchEncoding:
    ids = torch.stack([piece for (piece,) in examples])
    return BatchEncoding({"input_ids": ids, "labels": ids})


def gpt(width: int = 32, layers: int = 2, *, length: int = 32, dropout: float = 0.1) -> GPT2LMHeadModel:
    """Build a GPT-2 for characters; its head is tied to its embedding."""
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_positions=length,
            n_embd=width,
            n_layer=layers,
            n_head=2,
            resid_pdrop=dropout,
            embd_pdrop=dropout,
            attn_pdrop=dropout,
            bos_token_id=0,
            eos_token_id=0,
            loss_type="ForCausalLM",
        )
    )


def bert(words: int, labels: int, *, width: int = 32, layers: int = 2) -> BertForSequenceClassification:
    """Build a BERT that classifies short lines of words."""
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=words,
            hidden_size=width,
            num_hidden_layers=layers,
            num_attention_heads=2,
            intermediate_size=2 * width,
            max_position_embeddings=16,
            num_labels=labels,
        )
    )
