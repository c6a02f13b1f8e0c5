"""What a model has to be trained, also where PyTorch's own wrappers keep it in their ways."""

import pytest
import torch
from torch import distributed, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from unstuck.watching.models import inventory
from unstuck.watching.samples import Sampler


@pytest.fixture
def alone(tmp_path):
    distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")  # FSDP's own, of one process
def test_what_fsdp_keeps_beside_a_model_is_no_layer_that_nobody_registered(alone):
    model = FullyShardedDataParallel(
        nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)),
        device_id=torch.device("cpu"),
        auto_wrap_policy=ModuleWrapPolicy({nn.Linear}),
        use_orig_params=True,
    )
    model(torch.randn(3, 4)).sum().backward()
    found = inventory(model)
    assert [(name, size) for name, _, size in found.trainable] == [
        ("0.weight", 16),
        ("0.bias", 4),
        ("1.weight", 8),
        ("1.bias", 2),
    ]
    assert found.matrices == ("0", "1")
    assert found.unregistered == ()


def test_what_has_no_entry_in_this_process_is_not_to_be_trained_here():
    model = nn.ParameterDict({"here": torch.ones(3), "elsewhere": torch.ones(0)})
    assert [name for name, _, _ in inventory(model).trainable] == ["here"]


def test_parts_that_are_compiled_or_computed_again_have_the_names_that_were_given_them():
    """What wrappers call the part inside is nothing that a user has written."""
    model = nn.ModuleDict(
        {
            "encoder": torch.compile(nn.Sequential(nn.Linear(3, 4)), backend="eager"),
            "head": checkpoint_wrapper(nn.Linear(4, 2)),
        }
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sampler = Sampler(optimizer)
    found = None
    for _ in range(3):
        sampler.before()
        for one in model.parameters():
            one.grad = torch.ones_like(one)
        optimizer.step()
        found = sampler.after()
    stock = inventory(model)
    assert [name for name, _, _ in stock.trainable] == [
        "encoder.0.weight",
        "encoder.0.bias",
        "head.weight",
        "head.bias",
    ]
    assert [*stock.matrices] == [*found.layers] == ["encoder.0", "head"]
