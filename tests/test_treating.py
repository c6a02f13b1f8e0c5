"""A run that is stuck is got moving: in place, all of it or nothing, and in a checkpoint that the script can load."""

import copy
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, StepLR

import unstuck
from objective.fingerprint import unchanged
from unstuck import Training, optim, supervised
from unstuck.cli import main
from unstuck.demos import DEMOS
from unstuck.objective.undoing import all_or_nothing
from unstuck.target import like, load_checkpoint, write_checkpoint
from unstuck.treating import TreatmentError

LOSS = supervised(nn.functional.mse_loss)


def stuck(*, seed=0, rate=1e-5, make=torch.optim.SGD, schedule=None):
    """Steps that are much too small; with BatchNorm, whose statistics have to follow."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
    x = torch.randn(96, 6, generator=torch.Generator().manual_seed(1))
    y = 3.0 * x[:, :1] + x[:, 1:2]
    optimizer = make(model.parameters(), lr=rate)
    scheduler = None if schedule is None else schedule(optimizer)
    return Training(model, LOSS, list(zip(x.split(24), y.split(24), strict=True)), optimizer, scheduler)


def loss_of(training):
    """As the user's own script would see it, in training mode, without a trace."""
    model = copy.deepcopy(training.model)
    with torch.no_grad():
        return sum(float(training.loss(model, batch)) for batch in training.data) / len(training.data)


@pytest.fixture(scope="module")
def diagnosis():
    return unstuck.diagnose(stuck(), budget=60.0)


def test_the_training_itself_has_the_lower_loss_that_is_told(diagnosis):
    training = stuck()
    assert loss_of(training) == pytest.approx(treated_before := loss_of(training), rel=1e-6)
    treated = unstuck.treat(training, diagnosis)
    assert treated.before == pytest.approx(treated_before, rel=1e-5)
    assert loss_of(training) < 0.8 * treated.before
    assert loss_of(training) == pytest.approx(treated.after, rel=0.3)
    assert treated.training.model is training.model


def test_the_remedy_is_the_best_that_is_proved(diagnosis):
    treated = unstuck.treat(stuck(), diagnosis)
    assert (treated.remedy, treated.change) == (diagnosis.remedies[0].name, diagnosis.remedies[0].change)
    assert treated.code == diagnosis.remedies[0].code
    assert str(treated).startswith(treated.remedy)


def test_running_statistics_have_followed(diagnosis):
    training = stuck()
    before = training.model[1].running_mean.clone()
    treated = unstuck.treat(training, diagnosis)
    assert not torch.equal(training.model[1].running_mean, before)
    assert training.model[1].num_batches_tracked == round(treated.steps)
    model = copy.deepcopy(training.model).eval()
    with torch.no_grad():
        evaluated = sum(float(LOSS(model, batch)) for batch in training.data) / len(training.data)
    assert evaluated < 0.9 * treated.before


def test_the_optimizer_goes_on_from_where_the_copy_is(diagnosis):
    training = stuck()
    treated = unstuck.treat(training, diagnosis, remedy="larger-step", steps=40)
    assert treated.optimizer is training.optimizer
    assert training.optimizer.param_groups[0]["lr"] > 1e-5


def test_another_optimizer_is_given_back_and_moves_the_models_own_parameters(diagnosis):
    training = stuck()
    treated = unstuck.treat(training, diagnosis, remedy="per-parameter-scale")
    assert isinstance(treated.optimizer, torch.optim.Adam)
    before = loss_of(training)
    for _ in range(10):
        for batch in training.data:
            treated.optimizer.zero_grad()
            LOSS(training.model, batch).backward()
            treated.optimizer.step()
    assert loss_of(training) < before


def test_what_is_saved_holds_a_rate_that_was_changed_and_says_not_to_change_it_twice(diagnosis):
    treated = unstuck.treat(stuck(), diagnosis, remedy="larger-step", steps=40)
    again = stuck(seed=5)
    again.optimizer.load_state_dict(treated.state["optimizer_state_dict"])
    assert again.optimizer.param_groups[0]["lr"] == treated.optimizer.param_groups[0]["lr"]
    before, told = str(treated).split("\n".join(treated.code))[0], "do not make it twice"
    assert told in before


def test_what_no_state_can_hold_is_told_to_be_lost_without_it(diagnosis):
    treated = unstuck.treat(stuck(rate=1e-2), diagnosis, remedy="smaller-batch", steps=40)
    assert "lost again:\nDataLoader(" in str(treated)


def test_the_schedule_of_an_optimizer_that_is_replaced_ends_with_it(diagnosis, tmp_path):
    """Loaded for the new optimizer, it would set the rates of the old one."""
    training = stuck(schedule=lambda optimizer: LambdaLR(optimizer, lambda _: 1.0))
    torch.save(
        {"model": training.model.state_dict(), "scheduler": training.scheduler.state_dict()},
        tmp_path / "a.pt",
    )
    treated = unstuck.treat(training, diagnosis, remedy="per-parameter-scale")
    assert treated.training.scheduler is None
    assert "scheduler_state_dict" not in treated.state
    assert like(tmp_path / "a.pt", training.model, treated.state, unscheduled=True).keys() == {"model"}
    assert any("ends with it" in note for note in treated.notes)


def test_where_the_schedule_takes_the_rate_back_that_is_told(diagnosis):
    training = stuck(schedule=lambda optimizer: StepLR(optimizer, 1, 0.1))
    treated = unstuck.treat(training, diagnosis, remedy="larger-step")
    assert treated.training.scheduler is training.scheduler
    assert any("StepLR goes on" in note for note in treated.notes)


def test_a_remedy_that_is_proved_together_with_other_steps_is_made_with_them(diagnosis):
    verdict = diagnosis.verdict
    best = verdict.remedies[0]
    change = (
        "momentum 0.9, and Adam at rate 0.01: each parameter's step divided by the scale of its gradients"
    )
    both = replace(best, name="momentum", change=change)
    proved = replace(diagnosis, verdict=replace(verdict, remedies=(both, *verdict.remedies)))
    treated = unstuck.treat(stuck(), proved)
    assert (treated.remedy, treated.change) == ("momentum", change)
    assert isinstance(treated.optimizer, torch.optim.Adam)


def test_what_gained_more_and_is_a_change_of_the_code_is_told(diagnosis):
    verdict = diagnosis.verdict
    made = replace(verdict.remedies[0], low=0.5, high=0.998)
    code = replace(made, name="scale-inputs", change="every input scaled", gain=0.9995)
    for low, told in ((0.999, True), (0.997, False)):
        proved = replace(
            diagnosis, verdict=replace(verdict, remedies=(replace(code, low=low, high=1.0), made))
        )
        treated = unstuck.treat(stuck(), proved)
        assert treated.remedy == made.name
        notes = [
            note
            for note in treated.notes
            if note.startswith("in its trial scale-inputs gained more, 100.0 %")
        ]
        assert bool(notes) is told


def test_what_the_run_clips_to_it_clips_to_afterwards(diagnosis):
    treated = unstuck.treat(replace(stuck(), clip=1.0), diagnosis, remedy="larger-step", steps=20)
    assert treated.training.clip == 1.0


def test_a_remedy_that_finds_no_place_changes_nothing(diagnosis):
    training = stuck()
    with unchanged(training), pytest.raises(TreatmentError, match="nothing was changed by escape"):
        unstuck.treat(training, diagnosis, remedy="escape", steps=1)


def test_a_remedy_that_does_not_lower_the_loss_changes_nothing(diagnosis):
    training = stuck(rate=1e9)
    with unchanged(training), pytest.raises(TreatmentError, match="nothing was changed"):
        unstuck.treat(training, diagnosis, remedy="larger-step")


def test_without_a_proved_remedy_nothing_is_changed():
    training = DEMOS["minimum"].setup()
    found = unstuck.diagnose(training, trials=False, budget=60.0)
    with unchanged(training), pytest.raises(TreatmentError, match="no remedy was tried"):
        unstuck.treat(training, found)


def test_an_unknown_remedy_is_told_with_those_there_are(diagnosis):
    training = stuck()
    with unchanged(training), pytest.raises(TreatmentError, match=r"no remedy 'pray'.*larger-step"):
        unstuck.treat(training, diagnosis, remedy="pray")
    with pytest.raises(TreatmentError, match="did you mean 'larger-step'"):
        unstuck.treat(training, diagnosis, remedy="lager-step")


def test_a_training_without_an_optimizer_is_told_what_it_lacks(diagnosis):
    with pytest.raises(TreatmentError, match="pass the one of the run to Training"):
        unstuck.treat(replace(stuck(), optimizer=None), diagnosis)


def test_what_fails_while_it_is_written_is_undone():
    training = stuck(make=torch.optim.Adam)
    LOSS(training.model, training.data[0]).backward()
    training.optimizer.step()
    training.optimizer.zero_grad()

    def fail():
        with torch.no_grad():
            for parameter in training.model.parameters():
                parameter.zero_()
                parameter.requires_grad_(requires_grad=False)
        training.optimizer.add_param_group({"params": [torch.zeros(1)], "lr": 7.0})
        training.optimizer.param_groups[0]["lr"] = 5.0
        raise RuntimeError

    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    with pytest.raises(RuntimeError), all_or_nothing(training):
        fail()
    assert all(torch.equal(value, before[name]) for name, value in training.model.state_dict().items())
    assert all(parameter.requires_grad for parameter in training.model.parameters())
    assert len(training.optimizer.param_groups) == 1
    assert training.optimizer.param_groups[0]["lr"] == 1e-5


LAYOUTS = {
    "bare": lambda model, _: model.state_dict(),
    "tutorial": lambda model, optimizer: {
        "epoch": 7,
        "model_state_dict": model.state_dict(),
        "optimizer_state_dict": optimizer.state_dict(),
    },
    "of DDP": lambda model, _: {"module." + name: value for name, value in model.state_dict().items()},
    "Lightning": lambda model, optimizer: {
        "epoch": 3,
        "global_step": 12,
        "state_dict": {"model." + name: value for name, value in model.state_dict().items()},
        "optimizer_states": [optimizer.state_dict()],
    },
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_checkpoint_has_the_form_of_the_one_that_was_loaded(layout, diagnosis, tmp_path):
    training = stuck()
    original = LAYOUTS[layout](training.model, training.optimizer)
    torch.save(original, tmp_path / "last.pt")
    treated = unstuck.treat(training, diagnosis, remedy="larger-step", steps=40)
    content = like(tmp_path / "last.pt", training.model, treated.state)
    assert content.keys() == original.keys()
    assert content.get("epoch") == original.get("epoch")
    write_checkpoint(tmp_path / "treated.pt", content)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    again = stuck(seed=5)
    load_checkpoint(again, tmp_path / "treated.pt")
    assert loss_of(again) == pytest.approx(loss_of(training), rel=1e-6)
    if "optimizer" in " ".join(original):
        assert again.optimizer.param_groups[0]["lr"] == training.optimizer.param_groups[0]["lr"]


def test_safetensors_hold_the_model(diagnosis, tmp_path):
    training = stuck()
    treated = unstuck.treat(training, diagnosis)
    write_checkpoint(tmp_path / "treated.safetensors", treated.state)
    again = stuck(seed=5)
    load_checkpoint(again, tmp_path / "treated.safetensors")
    assert loss_of(again) == pytest.approx(loss_of(training), rel=1e-6)


@pytest.mark.parametrize("key", ["model", "state_dict", None])
def test_safetensors_hold_the_model_of_a_checkpoint_of_any_layout_tied_tensors_too(key, tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    state = model.state_dict()
    write_checkpoint(tmp_path / "w.safetensors", {key: state, "epoch": 3} if key else state)
    again = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    again[1].weight = again[0].weight
    load_checkpoint(Training(again, LOSS, [0]), tmp_path / "w.safetensors")
    assert all(torch.equal(again.state_dict()[name], value) for name, value in state.items())


def by_heart():
    """Examples of chance, and the training with the validation data that tell so."""
    drawn = torch.Generator().manual_seed(0)
    x = torch.randn(400, 20, generator=drawn)
    y = x[:, :1] + torch.randn(400, 1, generator=drawn)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    learnt = list(zip(x[:80].split(20), y[:80].split(20), strict=True))
    held = list(zip(x[80:].split(80), y[80:].split(80), strict=True))
    training = Training(model, LOSS, learnt, optimizer, validation=held)
    for _ in range(60):
        for batch in learnt:
            optimizer.zero_grad()
            LOSS(model, batch).backward()
            optimizer.step()
    return training


def test_what_is_learnt_by_heart_is_judged_by_the_validation_loss():
    training = by_heart()
    model, held = training.model, training.validation
    found = unstuck.diagnose(training, budget=60.0)
    assert found.cause is unstuck.Cause.GENERALIZATION_GAP
    assert found.verdict.trials.by_validation
    treated = unstuck.treat(training, found)
    with torch.no_grad():
        after = sum(float(LOSS(model, batch)) for batch in held) / len(held)
    assert treated.remedy == "weight-decay"
    assert after == pytest.approx(treated.after, rel=0.05)
    assert after < treated.before
    longer = unstuck.treat(by_heart(), found, steps=100)
    assert longer.change == treated.change, "what was proved is made, however long it is gone on with"


def test_an_escape_alone_leaves_the_saddle_in_place():
    training = DEMOS["lecture"].setup()
    treated = unstuck.escape(training)
    assert float(LOSS(training.model, training.data[0]).detach()) < 1e-3
    assert treated.after < 1e-3 < treated.before


def test_an_escape_ends_before_it_learns_by_heart():
    """Of labels a part of which is chance: followed to its end, the loss of other data is ten times as high."""
    torch.manual_seed(0)
    x = torch.randn(192, 8)
    y = torch.where(torch.rand(192) < 0.7, (x[:, 0] > 0).long(), torch.randint(2, (192,)))
    model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 2))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    loss = unstuck.supervised(nn.CrossEntropyLoss())
    held = [(x[96:], y[96:])]
    training = Training(model, loss, [(x[:96], y[:96])], validation=held)
    treated = unstuck.escape(training, budget=10.0)
    after = float(loss(model, held[0]).detach())
    assert after == pytest.approx(treated.after, rel=1e-5)
    assert after < treated.before
    assert treated.on == "96 validation examples"


def test_ctrl_c_in_an_escape_changes_nothing():
    training = DEMOS["lecture"].setup()

    def interrupted(_stage, share):
        if share > 0.0:
            raise KeyboardInterrupt

    with unchanged(training), pytest.raises(KeyboardInterrupt):
        unstuck.escape(training, progress=interrupted)


def test_where_there_is_no_way_down_an_escape_changes_nothing():
    class Bowl(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3))

        def forward(self, x):
            return x @ self.w

    model = Bowl()
    x = torch.eye(3)
    training = Training(model, LOSS, [(x, torch.zeros(3))], torch.optim.SGD(model.parameters(), lr=0.1))
    with unchanged(training), pytest.raises(TreatmentError, match="no way down"):
        unstuck.escape(training)


def test_a_budget_that_is_none_is_told():
    with pytest.raises(unstuck.errors.UnstuckError, match="`budget`"):
        unstuck.escape(DEMOS["lecture"].setup(), budget=0.0)


class TestCommand:
    @pytest.fixture
    def run(self, tmp_path, monkeypatch, capfd):
        monkeypatch.chdir(tmp_path)

        def call(*arguments):
            with pytest.raises(SystemExit) as ended:
                main(list(arguments))
            return ended.value.code, *capfd.readouterr()

        return call

    def test_treat_writes_a_checkpoint_and_prints_the_lines_to_change(self, run, tmp_path):
        code, out, err = run("treat", "demo:lecture", "--out", "sub/treated.pt")
        assert code == 0, err
        assert "loss 1 ->" in out
        assert out.splitlines()[-1].endswith("treated.pt")
        training = DEMOS["lecture"].setup()
        load_checkpoint(training, tmp_path / "sub" / "treated.pt")
        assert float(LOSS(training.model, training.data[0]).detach()) < 0.1

    def test_treat_of_a_healthy_run_is_one_line_and_no_file(self, run, tmp_path):
        code, out, err = run("treat", "demo:healthy", "--out", "treated.pt")
        assert (code, out) == (2, "")
        assert err.splitlines()[-1].startswith("error: nothing was changed: the run is healthy")
        assert list(tmp_path.iterdir()) == []

    def test_escape_prints_what_it_did(self, run, tmp_path):
        code, out, _ = run("escape", "demo:lecture", "--out", "escaped.pt")
        assert code == 0
        assert "escape:" in out
        assert (tmp_path / "escaped.pt").exists()
        assert "nothing is saved" not in out

    def test_an_escape_that_is_not_written_says_so(self, run, tmp_path):
        code, out, _ = run("escape", "demo:lecture")
        assert code == 0
        assert out.endswith("nothing is saved: name a checkpoint to write by --out FILE\n")
        assert list(tmp_path.iterdir()) == []

    def test_where_the_model_alone_is_saved_the_change_is_left_to_the_script(self, run):
        code, out, err = run(
            "treat", "demo:valley", "--out", "t.safetensors", "--budget", "2s", "--remedy", "momentum"
        )
        assert code == 0, err
        assert "what is saved is the model alone" in out
        assert "not make it twice" not in out

    def test_out_is_asked_for(self, run):
        code, _, err = run("treat", "demo:lecture")
        assert code == 2
        assert "--out" in err


def test_an_optimizer_composed_of_parts_gets_its_momentum_and_its_checkpoint_loads(tmp_path):
    def composed(params, lr, rule=None):
        return optim.Optimizer(params, rule or optim.gradient_descent(), lr=lr)

    training = stuck(rate=1e-3, make=composed)
    diagnosis = unstuck.diagnose(training, trials=False)
    treated = unstuck.treat(training, diagnosis, remedy="momentum")
    assert treated.optimizer is training.optimizer
    assert repr(training.optimizer.param_groups[0]["rule"]) == repr(optim.momentum(0.9))
    assert treated.code == ("optimizer.replace(momentum=unstuck.optim.HeavyBall(0.9))",)
    assert treated.after < treated.before
    buffers = [training.optimizer.state[param]["momentum_buffer"] for param in training.model.parameters()]
    assert all(buffer.any() for buffer in buffers)
    torch.save(treated.state, tmp_path / "treated.pt")
    saved = torch.load(tmp_path / "treated.pt", weights_only=True)
    again = stuck(rate=1.0, make=partial(composed, rule=optim.momentum(0.9)))
    again.optimizer.load_state_dict(saved["optimizer_state_dict"])
    loaded = [again.optimizer.state[param]["momentum_buffer"] for param in again.model.parameters()]
    assert all(map(torch.equal, loaded, buffers))
