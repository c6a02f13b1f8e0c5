import copy
import os
import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file, save_model
from torch import nn

from unstuck import Training, supervised
from unstuck.errors import CheckpointError
from unstuck.target import load_checkpoint
from unstuck.target.matching import PREFIXES, matched


def network(seed=0):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


def training(model=None, *, optimizer=torch.optim.Adam, schedule=False, **settings):
    model = network() if model is None else model
    optimizer = optimizer(model.parameters(), lr=0.1, **settings)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1) if schedule else None
    data = [(torch.linspace(-1, 1, 12).reshape(4, 3), torch.zeros(4, 2))]
    return Training(model, supervised(nn.MSELoss()), data, optimizer, scheduler)


def stepped(run, steps=2):
    for _ in range(steps):
        for batch in run.data:
            run.optimizer.zero_grad()
            run.loss(run.model, batch).backward()
            run.optimizer.step()
        if run.scheduler is not None:
            run.scheduler.step()
    return run


def same(one, other):
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def complaint(run, path):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(run, path)
    message = str(caught.value)
    assert "\n" not in message
    return message


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 3, bias=False)
        self.head = nn.Linear(3, 3, bias=False)
        self.head.weight = self.embed.weight


class TestAModelIsLoaded:
    @pytest.mark.parametrize("key", [None, "model", "state_dict", "model_state_dict", "module"])
    def test_from_a_bare_state_dict_or_one_under_a_usual_key(self, tmp_path, key):
        saved = network(seed=1).state_dict()
        torch.save(saved if key is None else {"epoch": 3, key: saved}, tmp_path / "last.pt")
        run = training()
        assert load_checkpoint(run, tmp_path / "last.pt") == ("model",)
        assert same(run.model.state_dict(), saved)

    @pytest.mark.parametrize("prefix", [*PREFIXES, "module._orig_mod.", "_orig_mod.module."])
    def test_whatever_wrapper_it_was_saved_in(self, tmp_path, prefix):
        saved = network(seed=1).state_dict()
        torch.save({prefix + name: value for name, value in saved.items()}, tmp_path / "last.pt")
        run = training()
        load_checkpoint(run, tmp_path / "last.pt")
        assert same(run.model.state_dict(), saved)

    def test_into_a_wrapper_that_it_was_saved_without(self, tmp_path):
        torch.save(network(seed=1).state_dict(), tmp_path / "last.pt")
        run = training(nn.DataParallel(network()))
        load_checkpoint(run, tmp_path / "last.pt")
        assert same(run.model.module.state_dict(), network(seed=1).state_dict())

    def test_from_safetensors(self, tmp_path):
        saved = network(seed=1).state_dict()
        save_file(saved, tmp_path / "last.safetensors")
        run = training()
        load_checkpoint(run, str(tmp_path / "last.safetensors"))
        assert same(run.model.state_dict(), saved)

    def test_from_the_old_format_of_torch(self, tmp_path):
        saved = network(seed=1).state_dict()
        torch.save(saved, tmp_path / "last.pt", _use_new_zipfile_serialization=False)
        run = training()
        load_checkpoint(run, tmp_path / "last.pt")
        assert same(run.model.state_dict(), saved)

    @pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
    def test_from_a_hugging_face_folder(self, tmp_path, name):
        saved = network(seed=1).state_dict()
        (save_file if name.endswith("safetensors") else torch.save)(saved, tmp_path / name)
        run = training()
        load_checkpoint(run, tmp_path)
        assert same(run.model.state_dict(), saved)

    def test_from_a_hugging_face_folder_with_the_optimizer_beside(self, tmp_path):
        stepped = training(network(seed=1))
        stepped.loss(stepped.model, next(iter(stepped.data))).backward()
        stepped.optimizer.step()
        save_file(stepped.model.state_dict(), tmp_path / "model.safetensors")
        torch.save(stepped.optimizer.state_dict(), tmp_path / "optimizer.pt")
        run = training()
        assert load_checkpoint(run, tmp_path) == ("model", "optimizer")
        assert same(run.model.state_dict(), stepped.model.state_dict())
        assert [*run.optimizer.state_dict()["state"]] == [*stepped.optimizer.state_dict()["state"]]
        groups = [{"params": [parameter]} for parameter in run.model.parameters()]
        other = replace(run, optimizer=torch.optim.SGD(groups, lr=0.1))
        with pytest.raises(CheckpointError, match=r"parameter groups.*to load them alone"):
            load_checkpoint(other, tmp_path)

    def test_with_tied_weights_that_safetensors_keeps_only_once(self, tmp_path):
        other = Tied()
        save_model(other, str(tmp_path / "last.safetensors"))
        run = training(Tied())
        load_checkpoint(run, tmp_path / "last.safetensors")
        assert torch.equal(run.model.head.weight, other.embed.weight)
        assert run.model.head.weight is run.model.embed.weight

    def test_in_another_precision(self, tmp_path):
        saved = {name: tensor.double() for name, tensor in network(seed=1).state_dict().items()}
        torch.save(saved, tmp_path / "last.pt")
        run = training()
        load_checkpoint(run, tmp_path / "last.pt")
        assert run.model[0].weight.dtype == torch.float32
        assert torch.equal(run.model[0].weight, saved["0.weight"].float())


@given(
    st.sampled_from(["", *PREFIXES, "module.model."]),
    st.sampled_from(["", *PREFIXES, "module._orig_mod."]),
)
def test_every_way_to_wrap_a_model_matches_every_other(mine, theirs):
    class Wrapped(nn.Module):
        def state_dict(self, *, keep_vars):
            return {mine + name: value for name, value in network().state_dict(keep_vars=keep_vars).items()}

    saved = {theirs + name: value for name, value in network(seed=1).state_dict().items()}
    found = matched(Wrapped(), saved)
    assert same(found, {mine + name: value for name, value in network(seed=1).state_dict().items()})


class TestOptimizerAndSchedulerAreLoaded:
    @pytest.mark.parametrize(
        "keys",
        [
            ("model", "optimizer", "scheduler", False),
            ("model_state_dict", "optimizer_state_dict", "scheduler_state_dict", False),
            ("state_dict", "optimizer_states", "lr_schedulers", True),
        ],
    )
    def test_under_their_usual_keys(self, tmp_path, keys):
        other = stepped(training(network(seed=1), schedule=True))
        *names, in_lists = keys
        states = [other.model.state_dict(), other.optimizer.state_dict(), other.scheduler.state_dict()]
        if in_lists:
            states = [states[0], [states[1]], [states[2]]]
        torch.save(dict(zip(names, states, strict=True)), tmp_path / "last.ckpt")
        run = training(schedule=True)
        assert load_checkpoint(run, tmp_path / "last.ckpt") == ("model", "optimizer", "scheduler")
        assert run.optimizer.param_groups[0]["lr"] == other.optimizer.param_groups[0]["lr"]
        assert run.scheduler.last_epoch == 2
        stepped(run, 1)
        stepped(other, 1)
        assert same(run.model.state_dict(), other.model.state_dict()), "the run goes on as the other does"

    def test_unless_the_training_has_none(self, tmp_path):
        other = stepped(training(network(seed=1)))
        torch.save(
            {"model": other.model.state_dict(), "optimizer": other.optimizer.state_dict()}, tmp_path / "a.pt"
        )
        run = Training(network(), supervised(nn.MSELoss()), [0])
        assert load_checkpoint(run, tmp_path / "a.pt") == ("model",)


class Explosive:
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


class TestWhatDoesNotFitChangesNothing:
    @pytest.fixture
    def run(self):
        return stepped(training(schedule=True))

    @pytest.fixture(autouse=True)
    def _unchanged(self, run):
        model = copy.deepcopy(run.model.state_dict())
        optimizer = copy.deepcopy(run.optimizer.state_dict())
        scheduler = copy.deepcopy(run.scheduler.state_dict())
        yield
        assert same(run.model.state_dict(), model)
        assert run.optimizer.state_dict()["param_groups"] == optimizer["param_groups"]
        for index, state in optimizer["state"].items():
            assert same(run.optimizer.state_dict()["state"][index], state)
        assert run.scheduler.state_dict() == scheduler
        assert run.scheduler.optimizer is run.optimizer

    def test_a_file_that_is_not_there(self, run, tmp_path):
        (tmp_path / "last.pt").touch()
        said = complaint(run, tmp_path / "lats.pt")
        assert said == f"there is no checkpoint {tmp_path}/lats.pt, did you mean {tmp_path}/last.pt?"
        assert complaint(run, tmp_path / "no" / "x") == f"there is no checkpoint {tmp_path}/no/x"

    def test_a_folder_without_weights(self, run, tmp_path):
        assert complaint(run, tmp_path) == (
            f"{tmp_path} is a folder without model.safetensors or pytorch_model.bin: name the checkpoint file itself"
        )

    def test_missing_names(self, run, tmp_path):
        saved = network().state_dict()
        torch.save({"2.weight": saved["2.weight"]}, tmp_path / "last.pt")
        assert complaint(run, tmp_path / "last.pt") == (
            "the checkpoint does not fit the model: "
            "'0.weight', '0.bias', '1.weight' and 5 more of the model are not in it"
        )

    def test_names_left_over(self, run, tmp_path):
        torch.save({**network().state_dict(), "3.weight": torch.ones(1)}, tmp_path / "last.pt")
        said = complaint(run, tmp_path / "last.pt")
        assert said == "the checkpoint does not fit the model: the model has no '3.weight'"

    def test_a_name_that_differs(self, run, tmp_path):
        saved = network().state_dict()
        saved["last.bias"] = saved.pop("2.bias")
        torch.save(saved, tmp_path / "last.pt")
        assert complaint(run, tmp_path / "last.pt") == (
            "the checkpoint does not fit the model: '2.bias' of the model is not in it; the model has no 'last.bias'"
        )

    def test_another_shape(self, run, tmp_path):
        torch.save({**network(seed=1).state_dict(), "2.bias": torch.ones(5)}, tmp_path / "last.pt")
        assert complaint(run, tmp_path / "last.pt") == (
            "the checkpoint's '2.bias' has shape [5] and the model's [2]: "
            "build the model as it was when the checkpoint was saved"
        )

    def test_no_state_dict_at_all(self, run, tmp_path):
        torch.save({"epoch": 3, "losses": [1.0]}, tmp_path / "last.pt")
        assert complaint(run, tmp_path / "last.pt") == (
            f"{tmp_path}/last.pt holds no state_dict of a model among epoch, losses: "
            "save it with torch.save(model.state_dict(), file)"
        )

    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    @pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
    def test_a_file_that_was_cut_short(self, run, tmp_path, suffix, keep):
        path = tmp_path / f"last{suffix}"
        (torch.save if suffix == ".pt" else save_file)(network(seed=1).state_dict(), path)
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content))])
        said = complaint(run, path)
        assert said.startswith(f"{path} is damaged or no checkpoint")
        assert said.endswith("save or copy it again")

    @pytest.mark.parametrize("content", [b"hello, this is text\n" * 20, b"\x00" * 100, b"PK\x03\x04 no zip"])
    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    def test_a_file_that_is_something_else(self, run, tmp_path, content, suffix):
        path = tmp_path / f"last{suffix}"
        path.write_bytes(content)
        assert complaint(run, path).startswith(f"{path} is damaged or no checkpoint")

    @pytest.mark.parametrize("form", ["torch.save", "pickle", "pickle 2"])
    def test_a_file_that_would_run_code(self, run, tmp_path, form):
        path, marker = tmp_path / "last.pt", tmp_path / "it ran"
        content = {"model": network().state_dict(), "extra": Explosive(marker)}
        if form == "torch.save":
            torch.save(content, path)
        else:
            path.write_bytes(pickle.dumps(content["extra"], protocol=2 if form == "pickle 2" else None))
        said = complaint(run, path)
        assert said.startswith(f"refused to load {path}: it holds ")
        assert said.endswith(
            ", and loading that could run code; save tensors alone, as with torch.save(model.state_dict(), file)"
        )
        assert not marker.exists()
        if form == "torch.save":
            assert "'posix.mkdir'" in said

    def test_a_whole_model_instead_of_its_state(self, run, tmp_path):
        torch.save(network(), tmp_path / "last.pt")
        assert "it holds 'torch.nn.modules" in complaint(run, tmp_path / "last.pt")

    @pytest.mark.parametrize(
        ("optimizer", "problem"),
        [
            (
                torch.optim.SGD(network().parameters(), lr=0.1, momentum=0.9),
                "Adam: it is of another kind, without amsgrad, betas, eps",
            ),
            (
                torch.optim.Adam([{"params": [p]} for p in network().parameters()]),
                "Adam: it has 6 parameter groups, not 1",
            ),
            (torch.optim.Adam(network()[0].parameters()), "Adam: a group has 2 parameters, not 6"),
            (
                stepped(training(nn.Linear(3, 2), optimizer=lambda ps, lr: torch.optim.Adam(ps))).optimizer,
                "Adam: a group has 2 parameters, not 6",
            ),
        ],
    )
    def test_the_state_of_another_optimizer(self, run, tmp_path, optimizer, problem):
        torch.save(
            {"model": network(seed=1).state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "a.pt"
        )
        assert complaint(run, tmp_path / "a.pt") == f"the checkpoint's optimizer does not fit {problem}"

    def test_moments_of_another_shape(self, run, tmp_path):
        saved = copy.deepcopy(run.optimizer.state_dict())
        saved["state"][0]["exp_avg"] = torch.ones(7)
        torch.save({"model": network(seed=1).state_dict(), "optimizer": saved}, tmp_path / "a.pt")
        assert complaint(run, tmp_path / "a.pt") == (
            "the checkpoint's optimizer does not fit Adam: 'exp_avg' has shape [7], its parameter [4, 3]"
        )

    def test_a_model_whose_own_loading_fails_half_way(self, run, tmp_path):
        def refuse(*_):
            msg = "not today"
            raise ValueError(msg)

        run.model[2].register_load_state_dict_pre_hook(refuse)
        other = stepped(training(network(seed=1), schedule=True), 3)
        content = {"model": other.model, "optimizer": other.optimizer, "scheduler": other.scheduler}
        torch.save({key: part.state_dict() for key, part in content.items()}, tmp_path / "a.pt")
        said = complaint(run, tmp_path / "a.pt")
        assert said == "the checkpoint's model cannot be loaded: ValueError: not today"
