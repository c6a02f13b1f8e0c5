"""A watched loop is recorded rightly whatever its form, and nothing in here gets in its way."""

import gc
import inspect
import json
import sqlite3
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import torch
from torch import nn
from torch.nn import functional

from unstuck import watch
from unstuck.errors import UnstuckError
from unstuck.estimate import Estimate
from unstuck.findings.records import Cause, Finding
from unstuck.measurements.records.live import Look
from unstuck.watching import alarms, recorder, samples
from unstuck.watching.files.reading import read
from unstuck.watching.follower import Follower
from unstuck.watching.kernels import guard
from unstuck.watching.knowing import wired
from unstuck.watching.losses.stalls import Stall
from unstuck.watching.watch import Watch


def rows(watched, query):
    with closing(sqlite3.connect(watched.path)) as connection:
        return connection.execute(query).fetchall()


def problem():
    torch.manual_seed(0)
    return (
        nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3)),
        torch.randn(64, 8),
        torch.randint(0, 3, (64,)),
    )


def train(model, optimizer, inputs, labels, steps, each=None):
    losses = []
    for step in range(steps):
        index = torch.randint(len(inputs), (16,))
        loss = functional.cross_entropy(model(inputs[index]), labels[index])
        optimizer.zero_grad()
        loss.backward()
        if each:
            each(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_every_step_is_there_with_its_loss_and_rate(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path) as watched:
        losses = train(model, optimizer, inputs, labels, 50)
    assert rows(watched, "SELECT step, loss, rate FROM steps") == [
        (step, loss, 0.1) for step, loss in enumerate(losses, 1)
    ]
    assert rows(watched, "SELECT name, model, parameters FROM optimizers") == [("SGD", "Sequential", 51)]
    assert [row[0] for row in rows(watched, "SELECT DISTINCT layer FROM layers")] == ["0", "2"]


def test_the_loss_of_gradients_that_are_put_where_an_optimizer_finds_them_is_recorded(tmp_path):
    model, inputs, labels = problem()
    weights = [*model.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    losses = []
    with watch(model, optimizer, out=tmp_path) as watched:
        for _ in range(20):
            loss = functional.cross_entropy(model(inputs), labels)
            put_there(loss, weights)
            optimizer.step()
            losses.append(loss.item())
    assert [row[0] for row in rows(watched, "SELECT loss FROM steps ORDER BY step")] == losses


def test_what_is_differentiated_beside_the_steps_is_none_of_their_losses(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def saliency(_step):
        beside = inputs[:4].clone().requires_grad_()
        torch.autograd.grad(model(beside).square().sum(), beside)

    with watch(model, optimizer, out=tmp_path) as watched:
        losses = train(model, optimizer, inputs, labels, 20, saliency)
        optimizer.step()  # along the last gradient once more, of no loss
    recorded = [row[0] for row in rows(watched, "SELECT loss FROM steps ORDER BY step")]
    assert recorded == [*losses, None]


def test_afterwards_pytorch_is_as_it_was(tmp_path):
    def exchanged():
        scaler = torch.amp.GradScaler
        return (torch.autograd.backward, scaler.scale, scaler.step, scaler.update)

    before = exchanged()
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watched = watch(model, optimizer, out=tmp_path)
    assert torch.autograd.backward is not before[0]
    watched.close()
    watched.close()
    assert exchanged() == before
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    train(model, optimizer, inputs, labels, 3)
    assert watched.steps == 0


def test_the_loss_of_accumulated_micro_batches_is_their_sum(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    expected = []
    with watch(model, optimizer, out=tmp_path) as watched:
        for _ in range(10):
            parts = [functional.cross_entropy(model(inputs[i::4]), labels[i::4]) / 4 for i in range(4)]
            for part in parts:
                part.backward()
            optimizer.step()
            optimizer.zero_grad()
            expected.append(sum(part.item() for part in parts))
    assert [row[0] for row in rows(watched, "SELECT loss FROM steps")] == pytest.approx(expected)


def test_two_optimizers_with_losses_of_their_own_are_told_apart(tmp_path):
    one, inputs, labels = problem()
    other, _, _ = problem()
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1), torch.optim.Adam(other.parameters())]
    with Watch(optimizers, out=tmp_path) as watched:
        for _ in range(5):
            for model, optimizer, factor in ((one, optimizers[0], 1.0), (other, optimizers[1], 100.0)):
                optimizer.zero_grad()
                (factor * functional.cross_entropy(model(inputs), labels)).backward()
                optimizer.step()
    found = rows(watched, "SELECT optimizer, loss FROM steps")
    assert all((loss > 50.0) == bool(number) for number, loss in found)
    assert len(found) == 10


def test_trainings_of_several_threads_are_told_apart(tmp_path):
    models = [nn.Linear(8, 3) for _ in range(2)]
    optimizers = [torch.optim.Adam(model.parameters(), lr=0.01) for model in models]
    _, inputs, labels = problem()
    losses = [[], []]
    both = threading.Barrier(2, timeout=30.0)

    def work(number):
        for _ in range(40):
            loss = (number + 1) * functional.cross_entropy(models[number](inputs), labels)
            optimizers[number].zero_grad()
            both.wait()
            loss.backward()
            both.wait()  # both have differentiated before either steps
            optimizers[number].step()
            losses[number].append(loss.item())

    with Watch(optimizers, out=tmp_path, share=0.2, about={}) as watched:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    recorded = [
        [
            loss
            for (loss,) in rows(watched, f"SELECT loss FROM steps WHERE optimizer = {number} ORDER BY step")
        ]
        for number in range(2)
    ]
    assert sorted(recorded) == sorted(losses)
    assert not rows(watched, "SELECT message FROM events WHERE kind = 'error'")


def test_what_a_thread_differentiates_for_the_steps_of_another_is_their_loss(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []

    def differentiate():
        loss = functional.cross_entropy(model(inputs), labels)
        loss.backward()
        losses.append(loss.item())

    with Watch([optimizer], out=tmp_path, share=0.5, about={}) as watched, ThreadPoolExecutor(1) as pool:
        for _ in range(200):
            optimizer.zero_grad()
            pool.submit(differentiate).result()
            optimizer.step()
    assert [loss for (loss,) in rows(watched, "SELECT loss FROM steps ORDER BY step")] == losses
    (said,) = rows(watched, "SELECT message FROM events WHERE kind = 'note'")
    assert "another thread" in said[0]


def test_what_another_thread_differentiates_beside_a_training_is_none_of_its_losses(tmp_path):
    model, inputs, labels = problem()
    # The second one's steps share what was differentiated before the first one's.
    optimizers = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (model[0], model[2])]
    losses = []
    with Watch(optimizers, out=tmp_path, share=0.0, about={}) as watched, ThreadPoolExecutor(1) as pool:
        for _ in range(20):
            pool.submit(lambda: torch.ones((), requires_grad=True).mul(99.0).backward()).result()
            loss = functional.cross_entropy(model(inputs), labels)
            loss.backward()
            losses.append(loss.item())
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    for number in range(2):
        found = rows(watched, f"SELECT loss FROM steps WHERE optimizer = {number} ORDER BY step")
        assert [loss for (loss,) in found] == losses


def test_losses_of_a_game_need_not_fall_and_are_not_called_stalled(tmp_path):
    one, inputs, labels = problem()
    other, _, _ = problem()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.0) for model in (one, other)]
    with Watch(optimizers, out=tmp_path) as watched:
        for _ in range(400):
            for model, optimizer in zip((one, other), optimizers, strict=True):
                optimizer.zero_grad()
                functional.cross_entropy(model(inputs), labels).backward()
                optimizer.step()
    assert rows(watched, "SELECT * FROM events") == []


def test_a_player_of_a_game_that_no_gradient_reaches_is_noted(tmp_path, capsys):
    torch.manual_seed(0)
    maker, judge = nn.Linear(2, 2), nn.Linear(2, 1)
    optimizers = [torch.optim.SGD(one.parameters(), lr=1e-3) for one in (maker, judge)]
    with Watch(optimizers, out=tmp_path, share=0.0):
        for _ in range(600):
            made = maker(torch.randn(4, 2)).detach()
            for optimizer, sign in zip(optimizers, (1.0, -1.0), strict=True):
                optimizer.zero_grad()
                functional.softplus(sign * judge(made)).mean().backward()
                optimizer.step()
    told = capsys.readouterr().err
    assert told.count("100 % of the trainable parameters are not trained: `weight`, `bias` are cut off") == 1


def test_what_follows_a_pretraining_is_tested_though_that_one_s_optimizer_is_still_there(tmp_path):
    model, inputs, labels = problem()
    first = torch.optim.SGD(model.parameters(), lr=0.1)
    second = torch.optim.SGD(model[2].parameters(), lr=0.0)
    with Watch([first, second], out=tmp_path, share=0.0) as watched:
        train(model, first, inputs, labels, 60)
        train(model, second, inputs, labels, 400)
    assert rows(watched, "SELECT DISTINCT optimizer FROM events WHERE kind = 'finding'") == [(1,)]


# PyTorch calls its own functions deprecated when it begins to compile.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_model_is_known_by_its_own_names_and_not_looked_at(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compiled = torch.compile(model, backend="eager")
    with Watch([optimizer], out=tmp_path, share=0.9) as watched:
        train(compiled, optimizer, inputs, labels, 200)
    assert {row[0] for row in rows(watched, "SELECT layer FROM layers")} == {"0", "2"}
    (note,) = rows(watched, "SELECT message FROM events WHERE kind = 'note'")
    assert "it is compiled" in note[0]


def test_two_optimizers_of_one_backward_pass_share_its_loss(tmp_path):
    model, inputs, labels = problem()
    optimizers = [torch.optim.SGD(layer.parameters(), lr=0.1) for layer in (model[0], model[2])]
    with Watch(optimizers, out=tmp_path) as watched:
        for _ in range(5):
            functional.cross_entropy(model(inputs), labels).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    losses = rows(
        watched,
        "SELECT a.loss, b.loss FROM steps a JOIN steps b ON a.step = b.step AND a.optimizer < b.optimizer",
    )
    assert len(losses) == 5
    assert all(one == other for one, other in losses)


def test_a_closure_s_first_loss_is_where_the_step_starts_from(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)
    evaluated = []

    def closure():
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(inputs), labels)
        loss.backward()
        evaluated.append(loss.item())
        return loss

    first = []
    with watch(model, optimizer, out=tmp_path) as watched:
        for _ in range(4):
            evaluated.clear()
            optimizer.step(closure)
            first.append(evaluated[0])
    assert [row[0] for row in rows(watched, "SELECT loss FROM steps")] == first


def test_what_a_scaler_scales_is_recorded_unscaled_and_what_it_skips_is_forgotten(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    losses = []
    with watch(model, optimizer, out=tmp_path) as watched:
        for step in range(6):
            loss = functional.cross_entropy(model(inputs), labels) * (torch.inf if step == 2 else 1.0)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            losses += [] if step == 2 else [loss.item()]
    assert [row[0] for row in rows(watched, "SELECT loss FROM steps")] == losses


def test_an_objective_that_is_maximised_stalls_when_it_no_longer_rises(tmp_path):
    weight = nn.Parameter(torch.zeros(()))
    model = nn.ParameterList([weight])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, maximize=True)
    with watch(model, optimizer, out=tmp_path) as watched:
        for _ in range(400):
            optimizer.zero_grad()
            (weight + 1.0).backward()
            optimizer.step()
    assert not watched.stalled


def added_up(loss, weights):
    for weight in weights:
        weight.grad = None
    loss.backward()


def put_there(loss, weights):
    for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
        weight.grad = gradient


@pytest.mark.parametrize("differentiate", [added_up, put_there])
def test_a_loss_that_stands_still_is_told_with_its_cause(differentiate, tmp_path, capsys):
    model, inputs, labels = problem()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    weights = [*model.parameters()]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    with watch(model, optimizer, out=tmp_path, share=0.5) as watched:
        for _ in range(2000):
            differentiate(functional.cross_entropy(model(inputs), labels), weights)
            optimizer.step()
    assert watched.stalled
    assert [finding.cause for finding in watched.findings] == [Cause.SADDLE_POINT]
    assert "saddle-point" in capsys.readouterr().err
    kinds = dict(rows(watched, "SELECT kind, document FROM events"))
    assert json.loads(kinds["finding"])["cause"] == "saddle-point"
    assert "stall" in kinds


def test_inner_derivatives_that_are_mapped_over_tasks_are_no_loss_and_no_trouble(tmp_path):
    model = nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def loss_of(weights, inputs):
        return torch.func.functional_call(model, weights, (inputs,)).square().mean()

    def adapted(weights, inputs):
        gradients = torch.func.grad(loss_of)(weights, inputs)
        return loss_of({name: weight - 0.1 * gradients[name] for name, weight in weights.items()}, inputs)

    losses = []
    with watch(model, optimizer, out=tmp_path) as watched:
        for _ in range(40):
            tasks = torch.randn(4, 8, 2)
            loss = torch.func.vmap(adapted, in_dims=(None, 0))(dict(model.named_parameters()), tasks).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert [loss for (loss,) in rows(watched, "SELECT loss FROM steps")] == losses
    assert rows(watched, "SELECT message FROM events WHERE kind = 'error'") == []


def test_a_run_whose_optimizer_is_gone_before_the_end_is_concluded_all_the_same(tmp_path):
    def training():
        model, inputs, labels = problem()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        for _ in range(300):
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()

    with Watch(None, out=tmp_path, share=1e-9) as watched:
        training()
        gc.collect()
    assert watched.steps == 300
    (said,) = rows(watched, "SELECT message FROM events WHERE kind = 'finding'")
    assert "stay as they are at a step" in said[0]


def test_layers_of_zeros_are_told_from_the_record_of_a_run_too_short_for_a_look(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    inputs, labels = torch.randn(64, 8), torch.randint(0, 3, (64,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path, share=1e-9) as watched:
        for _ in range(600):
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    assert [finding.cause for finding in watched.findings] == [Cause.SADDLE_POINT]
    (said,) = rows(watched, "SELECT message FROM events WHERE kind = 'finding'")
    assert "`0`, `2` that are trained are exactly zero" in said[0]


def noisy_targets(*, rate, steps, folder, noise=30.0):
    """Regression where the noise of a batch hides for a long time whether the loss falls."""
    torch.manual_seed(0)
    model, teacher = nn.Linear(16, 1), torch.randn(16, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    with watch(model, optimizer, out=folder) as watched:
        for _ in range(steps):
            inputs = torch.randn(64, 16)
            targets = inputs @ teacher + noise * torch.rand(1) * torch.randn(64, 1)
            optimizer.zero_grad()
            functional.mse_loss(model(inputs), targets + 20.0).backward()
            optimizer.step()
    return watched


def test_steps_that_cannot_get_anywhere_are_told_though_noise_hides_that_the_loss_stands_still(tmp_path):
    assert [one.cause for one in noisy_targets(rate=1e-9, steps=1100, folder=tmp_path).findings] == [
        Cause.STEP_TOO_SMALL
    ]
    healthy = noisy_targets(rate=1e-2, steps=1100, folder=tmp_path / "healthy")
    assert healthy.findings == ()


def test_weights_that_hardly_move_are_noted_where_labels_are_all_noise(tmp_path):
    torch.manual_seed(0)
    model = nn.Linear(64, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-7)
    with watch(model, optimizer, out=tmp_path, share=1e-9) as watched:
        for _ in range(1100):
            optimizer.zero_grad()
            functional.cross_entropy(model(torch.randn(8, 64)), torch.randint(0, 3, (8,))).backward()
            optimizer.step()
    said = [message for (message,) in rows(watched, "SELECT message FROM events")]
    assert sum("hardly moved" in message for message in said) == 1


def test_what_has_been_said_of_a_stall_is_written_down_and_not_said_again(tmp_path, capsys):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    first, second, third = (
        Finding(cause, 0.9, (), f"This is {cause}.", "Do.")
        for cause in (Cause.DEAD_UNITS, Cause.GRADIENT_NOISE, Cause.PLATEAU)
    )
    with watch(model, optimizer, out=tmp_path) as watched:
        train(model, optimizer, inputs, labels, 5)
        own, (follower,) = watched._alarms, watched.recorder.followers
        for findings in ((first, second), (first, third)):
            own.telling.conclude(follower, 5, findings)
    said = capsys.readouterr().err
    assert [said.count(f"This is {one.cause}") for one in (first, second, third)] == [1, 1, 1]
    assert "gradient-noise: by what is known now this is not a reason any more" in said
    assert len(rows(watched, "SELECT message FROM events WHERE kind = 'finding'")) == 4


@pytest.mark.parametrize("looked", [False, True])
def test_that_nothing_is_found_any_more_gainsays_what_has_been_said_only_by_a_look(looked, tmp_path, capsys):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    nil = Estimate(0.0, 0.0)
    look = Look(20, 1.0, 1.0, nil, nil, 0.0, 51, None, None, None, None, 0.0, 1.0, 0.0, 4, 52.0, 0.1)
    with watch(model, optimizer, out=tmp_path, share=1e-9) as watched:
        train(model, optimizer, inputs, labels, 20)
        watched._store.flush()
        own, (follower,) = watched._alarms, watched.recorder.followers
        own.standing[follower.number] = Stall(20, 1, 1.0, nil, 0.0, rising=False)
        own.telling.told[follower.number] = {Cause.PLATEAU}
        own._ending = True
        own.diagnose(follower, look if looked else None)
    said = capsys.readouterr().err
    assert ("plateau: by what is known now this is not a reason any more" in said) is looked
    assert ("not sure why" in said) is looked


def test_that_steps_are_undone_is_said_once_and_taken_back_once(tmp_path, monkeypatch, capsys):
    found = Finding(Cause.GRADIENT_NOISE, 0.6, (), "They go to and fro.", "Lower it.")
    monkeypatch.setattr(alarms, "undone", lambda _: found)
    monkeypatch.setattr(alarms, "taken_back", lambda recent: recent.until > 300)
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path, share=0.0) as watched:
        train(model, optimizer, inputs, labels, 300)
        watched._store.flush()
        own, (follower,) = watched._alarms, watched.recorder.followers
        heard = own._heard[follower.number]
        for _ in range(3):
            own._creep(follower, heard)
        assert own.telling.told[follower.number] == {Cause.GRADIENT_NOISE}
        train(model, optimizer, inputs, labels, 30)
        watched._store.flush()
        for _ in range(3):
            own._creep(follower, heard)
    said = capsys.readouterr().err
    assert said.count("They go to and fro.") == 1
    assert said.count("gradient-noise: by what is known now this is not a reason any more") == 1


@pytest.mark.parametrize("scheduled", ["", "by PyTorch", "by hand"])
def test_of_a_rate_that_a_schedule_may_yet_lower_it_is_said_at_the_end_alone(
    scheduled, tmp_path, monkeypatch
):
    found = Finding(Cause.GRADIENT_NOISE, 0.6, (), "They go to and fro.", "Lower it.")
    monkeypatch.setattr(alarms, "undone", lambda _: found)
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if scheduled == "by PyTorch":
        torch.optim.lr_scheduler.MultiStepLR(optimizer, [10_000])
    monkeypatch.setattr(recorder, "writes_rates", lambda _: scheduled == "by hand")
    with watch(model, optimizer, out=tmp_path, share=0.0) as watched:
        train(model, optimizer, inputs, labels, 300)
        watched._store.flush()
        (follower,) = watched.recorder.followers
        watched._alarms._creep(follower, watched._alarms._heard[follower.number])
        assert bool(watched.findings) is not bool(scheduled)
    assert watched.findings == (found,)


def test_steps_that_noise_undoes_are_told_though_noise_hides_that_the_loss_stands_still(tmp_path):
    torch.manual_seed(0)
    model, optimum = nn.Linear(16, 1), torch.randn(16, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.04)
    with watch(model, optimizer, out=tmp_path, share=0.0) as watched:
        for step in range(1100):
            inputs = torch.randn(2, 16)
            optimizer.zero_grad()
            functional.mse_loss(model(inputs), inputs @ optimum + 3.0 * torch.randn(2, 1)).backward()
            optimizer.step()
            if step % 10 == 0:  # as if there were time for many samples
                follower = watched.recorder.followers[0]
                follower.due = follower.next_sample = 0.0
        assert not watched.stalled
    (finding,) = watched.findings
    assert finding.cause in {Cause.GRADIENT_NOISE, Cause.STEP_TOO_LARGE}
    assert "the next ones lose again" in finding.explanation


def test_a_loss_that_ends_far_above_where_it_stood_is_noted_at_the_end(tmp_path, capsys):
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    torch.manual_seed(0)
    with watch(model, optimizer, out=tmp_path, share=0.0):
        for step in range(1100):
            optimizer.zero_grad()
            (
                (1.0 if step < 800 else 5.0) * (1.0 + 0.3 * torch.rand(1)) * model(torch.ones(4)).exp()
            ).backward()
            optimizer.step()
    assert capsys.readouterr().err.count("has always been more than twice that") == 1


@pytest.mark.parametrize("dead", ["0", "2"])
def test_that_no_input_comes_through_is_told_though_noise_hides_that_the_loss_stands_still(dead, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 1))
    nn.init.constant_(model.get_submodule(dead).bias, -99.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    with watch(model, optimizer, out=tmp_path, share=0.0) as watched:
        for _ in range(1100):
            optimizer.zero_grad()
            functional.mse_loss(model(torch.randn(2, 8)), 3.0 * torch.randn(2, 1)).backward()
            optimizer.step()
        assert not watched.stalled
    assert [finding.cause for finding in watched.findings] == [Cause.DEAD_UNITS]


def test_after_a_loss_that_is_no_number_any_more_nothing_is_found_at_the_end(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.7)
    inputs, targets = torch.rand(64, 64), functional.one_hot(torch.arange(64) % 10).float()
    with watch(model, optimizer, out=tmp_path, share=0.0) as watched:
        for _ in range(300):
            optimizer.zero_grad()
            (5.0 * functional.mse_loss(model(inputs), targets)).backward()
            optimizer.step()
    assert [finding.cause for finding in watched.findings] == [Cause.NON_FINITE]
    assert len(rows(watched, "SELECT message FROM events WHERE kind = 'finding'")) == 1


def test_a_loss_that_its_first_steps_have_thrown_up_is_noted_once(tmp_path, capsys):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=10.0)
    with watch(model, optimizer, out=tmp_path, share=0.0):
        for _ in range(600):
            inputs = torch.randn(4, 8)
            optimizer.zero_grad()
            functional.mse_loss(model(inputs), inputs[:, :1]).backward()
            optimizer.step()
    assert capsys.readouterr().err.count("has never been as low as it began") == 1


def test_a_loss_that_grows_while_its_steps_lead_down_is_not_called_thrown(tmp_path, capsys):
    torch.manual_seed(0)
    model = nn.Linear(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
    with watch(model, optimizer, out=tmp_path, share=0.0):
        for step in range(600):  # as returns do that a critic learns
            inputs = torch.randn(32, 8)
            optimizer.zero_grad()
            (functional.mse_loss(model(inputs), inputs[:, :1]) * (1 + step)).backward()
            optimizer.step()
    heard = capsys.readouterr().err
    assert "has never been as low as it began" not in heard
    assert "has stopped improving" not in heard
    assert heard.count("becomes the loss of something else") == 1


def test_what_is_trained_is_known_while_a_functional_call_exchanges_the_parameters(tmp_path):
    known = []

    class Asking(nn.Linear):
        def forward(self, inputs):
            if len(watched._recorder.followers) and watched._recorder.followers[0].samples:
                watched._alarms.hear(watched._recorder.followers[0], 1, 1.0, None)
                known.append(
                    wired(watched.recorder.followers[0], watched._alarms._heard[0], watched.recorder)
                )
            return super().forward(inputs)

    model = Asking(8, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path, share=0.0) as watched:
        for _ in range(20):
            exchanged = {name: 1.0 * weight for name, weight in model.named_parameters()}
            optimizer.zero_grad()
            torch.func.functional_call(model, exchanged, torch.randn(4, 8)).square().mean().backward()
            optimizer.step()
    assert known
    assert all(not one.unlisted for one in known)


def test_what_no_optimizer_has_is_noted_though_the_loss_falls(tmp_path, capsys):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.05)
    with watch(model, optimizer, out=tmp_path, share=0.0) as watched:
        for _ in range(300):
            optimizer.zero_grad()
            functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
    notes = [text for (text,) in rows(watched, "SELECT message FROM events WHERE kind = 'note'")]
    assert [text for text in notes if "`0.weight`, `0.bias` are in no optimizer" in text] == notes[-1:]
    assert "in no optimizer" in capsys.readouterr().err


def test_an_optimizer_of_a_head_that_has_been_replaced_is_told(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.05)
    model[2] = nn.Linear(4, 3)
    with Watch([optimizer], out=tmp_path) as watched:
        for _ in range(300):
            train(model, optimizer, inputs, labels[:0].new_ones(64), 1)
            with torch.no_grad():
                model[0].weight.zero_()  # no batch differs from the others: the loss surely stands still
    assert [finding.cause for finding in watched.findings] == [Cause.FROZEN_PARAMETERS]
    assert "No gradient comes to any" in watched.findings[0].explanation


@pytest.mark.parametrize("left", [1e-3, 1.0])
def test_where_weights_have_come_down_to_nothing_no_unit_is_called_dead(left, tmp_path, monkeypatch):
    monkeypatch.setattr(Follower, "shrunk", lambda _: left)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    nn.init.constant_(model[0].bias, -99.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)  # the loss surely stands still
    _, inputs, labels = problem()
    with watch(model, optimizer, out=tmp_path, share=0.0) as watched:
        train(model, optimizer, inputs, labels, 600)
    assert watched.stalled
    assert (Cause.DEAD_UNITS in [finding.cause for finding in watched.findings]) is (left == 1.0)


def test_probabilities_that_are_taken_for_logits_are_noted_though_the_loss_falls(tmp_path, capsys):
    model, inputs, labels = problem()
    model.append(nn.Softmax(dim=1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path, share=0.0):
        train(model, optimizer, inputs, labels, 300)
    assert capsys.readouterr().err.count("has gone through a softmax already") == 1


def test_parameters_that_no_module_has_are_looked_at_unless_a_module_that_there_is_has_hooks(monkeypatch):
    weights = torch.randn(4, requires_grad=True)
    hooked = nn.Linear(4, 1)
    for living, why_not in (([nn.Linear(4, 1)], False), ([hooked], True)):
        hooked.register_full_backward_hook(lambda *_: None)
        monkeypatch.setattr(guard, "living", lambda living=living: living)  # other tests leave theirs
        assert bool(guard.obstacle(None, [weights])) is why_not


@pytest.mark.parametrize(
    ("micro", "zeroed", "scaled"),
    [(1, False, 1.0), (3, False, 1.0), (1, True, 1.0), (3, True, 1.0), (1, False, 1024.0)],
)
def test_gradients_that_pile_up_from_step_to_step_are_noted_and_those_of_one_step_are_not(
    micro, zeroed, scaled, tmp_path, capsys
):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=scaled, enabled=scaled > 1.0)
    with watch(model, optimizer, out=tmp_path, share=0.0):
        for _ in range(260):
            for _ in range(micro):
                scaler.scale(functional.cross_entropy(model(inputs), labels)).backward()
            scaler.step(optimizer)
            scaler.update()
            if zeroed:
                optimizer.zero_grad()
    harmless = zeroed or scaled > 1.0  # what is left is divided by the scale once more
    assert ("not set to zero between steps" in capsys.readouterr().err) is not harmless


def test_a_loss_that_is_no_number_is_told_at_once(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path) as watched:
        for step in range(10):
            loss = functional.cross_entropy(model(inputs), labels) * (torch.nan if step > 5 else 1.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert [finding.cause for finding in watched.findings] == [Cause.NON_FINITE]
    assert rows(watched, "SELECT step FROM events WHERE kind = 'finding'") == [(7,)]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("good", [0, 3])
def test_a_scaler_that_makes_no_step_any_more_is_told(good, fused, tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
    with watch(model, optimizer, out=tmp_path) as watched:
        for step in range(good + 20):
            same = model[0].weight - model[0].weight
            loss = functional.cross_entropy(model(inputs), labels)
            loss = loss + (
                same.square().sum().sqrt() if step >= good else 0.0
            )  # finite, and its slope is not
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert [finding.cause for finding in watched.findings] == [Cause.NON_FINITE]
    assert "the gradient was NaN" in watched.findings[0].explanation
    if not fused:  # else the steps that leave all as it was are counted, too
        assert rows(watched, "SELECT step FROM events WHERE kind = 'finding'") == [(good + 1,)]


def test_a_scaler_that_looks_for_its_scale_is_not_told(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-10)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    with watch(model, optimizer, out=tmp_path) as watched:
        for _ in range(40):
            loss = 2.0**30 * functional.cross_entropy(model(inputs), labels)
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
    assert watched.findings == ()


def test_a_failure_in_here_is_written_down_and_the_training_goes_on(tmp_path, monkeypatch, capsys):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    monkeypatch.setattr("unstuck.watching.recorder.Follower", lambda *_: 1 / 0)
    with watch(model, optimizer, out=tmp_path) as watched:
        assert len(train(model, optimizer, inputs, labels, 60)) == 60
    assert capsys.readouterr().err.count("something went wrong in unstuck, and the training goes on") == 1
    errors = rows(watched, "SELECT message FROM events WHERE kind = 'error'")
    assert 1 <= len(errors) <= 20  # then it gives up


# What PyTorch says of a hook on a module whose inputs need no gradient.
@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("hook", ["retain_grad", "tensor", "parameter", "module", "checkpoint"])
def test_a_graph_that_others_hang_on_is_not_looked_at(tmp_path, hook):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    heard = []
    if hook == "parameter":
        model[0].weight.register_hook(heard.append)
    if hook == "module":
        model[0].register_full_backward_hook(lambda *_: heard.append(1))
    with watch(model, optimizer, out=tmp_path, share=0.9) as watched:
        steps = 0
        # As long as it takes until a look has been given up, on however slow a machine.
        while not watched._alarms.looking.why_not and steps < 20_000:
            steps += 1
            optimizer.zero_grad()
            hidden = model[1](model[0](inputs))
            if hook == "checkpoint":
                hidden = torch.utils.checkpoint.checkpoint(model[1], hidden, use_reentrant=False)
            if hook == "retain_grad":
                hidden.retain_grad()
            if hook == "tensor":
                hidden.register_hook(lambda _: heard.append(1))
            functional.cross_entropy(model[2](hidden), labels).backward()
            optimizer.step()
    assert rows(watched, "SELECT * FROM looks") == []
    assert len(rows(watched, "SELECT * FROM events WHERE kind = 'note'")) == 1
    assert len(heard) in {0, steps}


def test_where_the_file_is_gone_the_end_does_not_promise_it(tmp_path, capsys):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    watched = watch(model, optimizer, out=tmp_path)
    watched.path.unlink()
    train(model, optimizer, inputs, labels, 5)
    watched.end("finished")
    assert "5 steps seen, but not all could be written" in capsys.readouterr().err


# PyTorch calls its own functions deprecated when it begins to compile.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_step_is_left_alone(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path):
        functional.cross_entropy(model(inputs), labels).backward()
        step = torch.compile(optimizer.step, backend="eager")
        step()
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())


COMPILED = """
import sys
import torch
from torch import nn
import unstuck

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 4), nn.Tanh(), nn.Linear(4, 3))
inputs, labels = torch.randn(64, 8), torch.randint(0, 3, (64,))
weights = [*model.parameters()]

def differentiate(inputs):
    (gradient,) = torch.autograd.grad(nn.functional.cross_entropy(model(inputs), labels), weights[:1])
    return gradient

optimizer = torch.optim.SGD(weights, lr=0.1)
with unstuck.watch(model, optimizer, out=sys.argv[1]):
    compiled = torch.compile(differentiate, backend="eager")(inputs)
    assert torch.equal(compiled, differentiate(inputs))
"""


def test_derivatives_that_are_compiled_are_left_alone(tmp_path):
    # In a process of its own, for there the types of our arguments are not checked, which would be compiled as well.
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_numbers_go_to_a_writer_under_their_names(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.Adam(model.parameters())
    written = {}

    class Writer:
        def add_scalar(self, tag, scalar_value, global_step=None):
            written.setdefault(tag, []).append((global_step, scalar_value))

        def add_text(self, tag, text_string, global_step=None):
            pass

    with watch(model, optimizer, out=tmp_path, writer=Writer()) as watched:
        train(model, optimizer, inputs, labels, 200)
        assert "gradient_norm" in watched.scalars()
    assert {"unstuck/gradient_norm", "unstuck/update_share", "unstuck/stalled"} <= written.keys()


def test_of_several_processes_only_the_first_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path) as watched:
        train(model, optimizer, inputs, labels, 3)
    assert watched.path is None
    assert list(tmp_path.iterdir()) == []


def _worker(rank, meet, out):
    torch.distributed.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=out):
        train(model, optimizer, inputs, labels, 3)
    torch.distributed.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_of_processes_that_have_met_by_themselves_the_first_writes(tmp_path):
    torch.multiprocessing.start_processes(
        _worker, (str(tmp_path / "meet"), str(tmp_path / "runs")), nprocs=2, start_method="fork"
    )
    assert len([*(tmp_path / "runs").glob("*.sqlite")]) == 1


@pytest.mark.parametrize(
    ("model", "optimizer", "options", "message"),
    [
        (None, "right", {}, "`model` must be a torch.nn.Module, not None"),
        ("right", [], {}, "`optimizer` must be a torch.optim.Optimizer, or several, not"),
        ("right", "sgd", {}, "`optimizer` must be a torch.optim.Optimizer, or several, not 'sgd'"),
        ("right", "right", {"share": 2.0}, "`share` must be a share of the time between 0 and 1, not 2.0"),
        ("right", "right", {"writer": 3}, "`writer` must have add_scalar and add_text"),
    ],
)
def test_bad_input_is_one_clear_line(tmp_path, model, optimizer, options, message):
    right, _, _ = problem()
    given = right if model == "right" else model
    own = torch.optim.SGD(right.parameters(), lr=0.1) if optimizer == "right" else optimizer
    with pytest.raises(UnstuckError, match=message):
        inspect.unwrap(watch)(given, own, out=tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_an_optimizer_around_another_is_not_asked_and_weights_that_are_put_back_are_noted(tmp_path, capsys):
    class Around(torch.optim.Optimizer):
        def __init__(self, inner):
            super().__init__(inner.param_groups, {})
            self.inner, self.count = inner, 0
            self.kept = [weight.detach().clone() for weight in inner.param_groups[0]["params"]]

        @torch.no_grad()
        def step(self, closure=None):
            self.inner.step()
            self.count += 1
            for weight, kept in zip(self.inner.param_groups[0]["params"], self.kept, strict=True):
                if self.count % 2 == 0:
                    weight.copy_(kept)

    model, inputs, labels = problem()
    optimizer = Around(torch.optim.SGD(model.parameters(), lr=1e-3))
    with watch(model, [optimizer, optimizer.inner], out=tmp_path) as watched:
        train(model, optimizer, inputs, labels, 1200)
    stalls = rows(watched, "SELECT DISTINCT optimizer FROM events WHERE kind = 'stall'")
    assert stalls == [(0,)]
    assert rows(watched, "SELECT name FROM optimizers ORDER BY optimizer") == [("SGD",), ("Around",)]
    assert "moved by something else" in capsys.readouterr().err
    assert Cause.ILL_CONDITIONED not in {finding.cause for finding in watched.findings}


def test_a_run_that_makes_ever_new_optimizers_is_not_searched_for_the_model_of_each(tmp_path, monkeypatch):
    searched = []
    monkeypatch.setattr(samples, "model_of", lambda parameters: searched.append(len(parameters)))
    model, inputs, labels = problem()
    with Watch(None, out=tmp_path) as watched:
        monkeypatch.setattr(watched.recorder, "_introducing", 60.0)
        for _ in range(30):
            train(model, torch.optim.SGD(model.parameters(), lr=0.1), inputs, labels, 3)
    assert len(searched) == 4
    assert len(rows(watched, "SELECT DISTINCT name FROM optimizers")) == 1
    assert rows(watched, "SELECT count(*) FROM optimizers") == [(30,)]
    shown = read(watched.path)
    assert len(shown.optimizers) + shown.optimizers_left_out == 30


class Listed(nn.Module):
    """Keeps its hidden layers in a plain list, as is easily done; and a list of numbers beside."""

    def __init__(self):
        super().__init__()
        self.hidden = [nn.Linear(8, 4), nn.Linear(4, 4)]
        self.out, self.seen = nn.Linear(4, 1), [0.0]

    def forward(self, inputs):
        for layer in self.hidden:
            inputs = torch.tanh(layer(inputs))
        return self.out(inputs)


def test_layers_in_a_plain_list_are_noted_unless_an_optimizer_has_them(tmp_path, capsys):
    def noted(out, *more):
        model = Listed()
        parameters = [*model.parameters(), *(weight for layer in more for weight in layer(model))]
        optimizer = torch.optim.SGD(parameters, lr=0.1)
        with watch(model, optimizer, out=out, share=0.0):
            for _ in range(300):
                optimizer.zero_grad()
                model(torch.randn(4, 8)).square().mean().backward()
                optimizer.step()
        return capsys.readouterr().err

    said = noted(tmp_path / "listed")
    assert "`hidden.0.weight`" in said
    assert "`hidden`: kept in a plain list" in said
    assert "not trained" not in noted(
        tmp_path / "given", lambda model: [weight for layer in model.hidden for weight in layer.parameters()]
    )


def test_a_loss_that_has_always_been_zero_is_not_called_learnt(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path, share=0.0) as watched:
        for _ in range(300):
            optimizer.zero_grad()
            (0.0 * functional.cross_entropy(model(inputs), labels)).backward()
            optimizer.step()
    assert [finding.cause for finding in watched.findings] == [Cause.PLATEAU]


def test_of_an_optimizer_that_is_gone_it_is_not_asked_what_the_next_one_has(tmp_path):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watch(None, out=tmp_path) as watched:
        train(model, optimizer, inputs, labels, 40)
        first = watched._recorder.followers[0]
        watched._alarms.hear(first, 1, 1.0, None)
        before = wired(first, watched._alarms._heard[0], watched.recorder)
        another, _, _ = problem()
        following = torch.optim.SGD(another.parameters(), lr=0.1)
        del optimizer
        train(another, following, inputs, labels, 40)
        assert len(watched._recorder.alive) == 1
        assert wired(first, watched._alarms._heard[0], watched.recorder) == before
    assert not before.unlisted


def test_where_there_is_no_look_the_record_is_asked_again_as_it_grows(tmp_path, monkeypatch):
    late = frozenset(range(200, 300, 10))  # long after it stands still
    monkeypatch.setattr(recorder, "_FIRST_STEPS", late)
    monkeypatch.setattr(recorder, "_FIRST_GAP", float("inf"))
    monkeypatch.setattr(recorder, "_SHARE", 1e-9)
    torch.manual_seed(0)
    model = nn.Linear(1, 1, bias=False)
    model.register_full_backward_pre_hook(lambda *_: None)  # such a model is not looked at
    # Twice as far as the bottom: from one side to the other.
    optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
    with watch(model, optimizer, out=tmp_path) as watched:
        for step in range(1100):
            optimizer.zero_grad()
            (0.5 * model(torch.ones(1, 1, requires_grad=True)).square().mean()).backward()
            optimizer.step()
            while step == 190 and not watched._alarms.standing:
                time.sleep(0.001)  # until the thread that writes has come so far
        while watched._recorder._pile:
            time.sleep(0.001)
        found = watched.findings  # before the end, when all is asked once more
    assert [finding.cause for finding in found] == [Cause.STEP_TOO_LARGE]


def test_losses_that_no_step_is_ever_made_for_are_not_kept_for_ever(tmp_path):
    model = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path) as watched:
        own = watched.recorder._threads.own
        for _ in range(10_100):
            (2.0 * model.bias).sum().backward()
        assert watched.recorder.aimless
        assert len(own.losses) <= 10_000
        own.forget()
        for _ in range(3):  # micro-batches of a step
            (0.0 * model.bias + 2.0).sum().backward()
        optimizer.step()
        assert watched.recorder.followers[0].loss == 6.0
        assert not watched.recorder.aimless
