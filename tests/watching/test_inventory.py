"""What a model has to be trained, also where PyTorch's own wrappers keep it in their ways."""

import pytest
import torch
from torch import distributed, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from unstuck.watching.models import inventory


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
    assert [size for _, _, size in found.trainable] == [16, 4, 8, 2]
    assert found.unregistered == ()


def test_what_has_no_entry_in_this_process_is_not_to_be_trained_here():
    model = nn.ParameterDict({"here": torch.ones(3), "elsewhere": torch.ones(0)})
    assert [name for name, _, _ in inventory(model).trainable] == ["here"]
