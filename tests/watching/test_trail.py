"""The path of the weights is kept beside the run, evenly spread, and the training never notices."""

import pytest
import torch
from torch import nn

from unstuck import watch
from unstuck.errors import RunError, UnstuckError
from unstuck.watching.files import trail
from unstuck.watching.files.trail import folder_of
from unstuck.watching.files.trodden import snapshots
from watching.test_watch import problem, train


@pytest.fixture
def patient(monkeypatch):
    """Copying may take all the time there is: which steps are kept does then not depend on the clock."""
    monkeypatch.setattr(trail, "_SHARE", float("inf"))


def shapes(model):
    return {name: tuple(weight.shape) for name, weight in model.named_parameters()}


def watched_run(tmp_path, steps, **more):
    """Train under watch; gives the model, the weights after every step, and the watch."""
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    seen = []

    def remember(step):
        seen.append([weight.detach().clone() for weight in model.parameters()])

    with watch(model, optimizer, out=tmp_path, **more) as watched:
        train(model, optimizer, inputs, labels, steps, remember)
    remember(steps)
    return model, seen, watched


@pytest.mark.parametrize(("most", "steps"), [(8, 100), (3, 50), (5, 4)])
def test_snapshots_are_evenly_spread_from_before_the_first_step_to_the_last(tmp_path, patient, most, steps):
    model, seen, watched = watched_run(tmp_path, steps, path=most)
    kept = snapshots(watched.path)
    numbers = [each.step for each in kept]
    assert numbers[0] == 0
    assert numbers[-1] == steps
    assert len(numbers) <= most + 1
    stride = numbers[1]
    assert numbers[:-1] == list(range(0, stride * (len(numbers) - 1), stride))
    assert stride * most >= steps / 2 or stride == 1
    for each in kept:
        for weight, expected in zip(each.weights(shapes(model)), seen[each.step], strict=True):
            assert torch.equal(weight, expected)


def test_copying_takes_a_small_share_of_the_time_and_the_last_weights_are_there(tmp_path):
    _, _, watched = watched_run(tmp_path, 60, path=20)
    numbers = [each.step for each in snapshots(tmp_path)]
    assert watched.path.parent == tmp_path
    assert numbers[0] == 0
    assert numbers[-1] == 60


def test_the_training_is_the_same_to_the_bit_with_and_without(tmp_path):
    def ending(**more):
        model, _, _ = watched_run(tmp_path, 40, **more)
        return [*model.parameters(), torch.get_rng_state()]

    assert all(torch.equal(one, other) for one, other in zip(ending(), ending(path=6), strict=True))


def test_what_would_take_too_much_of_the_disk_is_not_kept_and_said(tmp_path, patient, monkeypatch, capsys):
    monkeypatch.setattr(trail, "MOST_BYTES", 700)  # three times the weights, and four are needed
    _, _, watched = watched_run(tmp_path, 10, path=50)
    assert not folder_of(watched.path).exists()
    assert "the path of the weights is not kept" in capsys.readouterr().err
    monkeypatch.setattr(trail, "MOST_BYTES", 51 * 4 * 6)
    _, _, watched = watched_run(tmp_path, 30, path=50)
    assert 4 <= len(snapshots(watched.path)) <= 6


def test_a_folder_that_cannot_be_made_does_not_reach_the_training(tmp_path, capsys):
    model, inputs, labels = problem()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watch(model, optimizer, out=tmp_path, path=5) as watched:
        folder_of(watched.path).write_text("in the way")
        train(model, optimizer, inputs, labels, 20)
    assert watched.steps == 20
    assert "not kept any further" in capsys.readouterr().err


def test_a_run_without_its_path_says_how_to_keep_it(tmp_path):
    watched_run(tmp_path, 5)
    with pytest.raises(RunError, match="--path"):
        snapshots(tmp_path)


def test_weights_are_found_under_a_prefix_and_those_of_another_model_are_refused(tmp_path, patient):
    model, seen, _ = watched_run(tmp_path, 10, path=5)
    last = snapshots(tmp_path)[-1]
    inside = nn.ModuleDict({"inner": model})
    for weight, expected in zip(last.weights(shapes(inside)), seen[-1], strict=True):
        assert torch.equal(weight, expected)
    with pytest.raises(RunError, match="not those of the model"):
        last.weights(shapes(nn.Sequential(nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))))


@pytest.mark.parametrize("path", [1, 2, -3])
def test_too_few_snapshots_are_refused(tmp_path, path):
    model = nn.Linear(2, 1)
    with pytest.raises(UnstuckError, match="path"):
        watch(model, torch.optim.SGD(model.parameters()), out=tmp_path, path=path)
