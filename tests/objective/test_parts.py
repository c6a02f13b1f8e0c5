"""Some parameters alone: the same numbers as in the whole, and everything else as it was."""

import pytest
import torch
from torch import nn

import unstuck
from objective import zoo
from objective.fingerprint import unchanged
from unstuck.errors import TrainingError
from unstuck.objective import Objective, draw
from unstuck.objective.parameters import matches


class Net(nn.Module):
    """Its last layer is tied to the first one's, transposed."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 3, bias=False)
        self.h = nn.ModuleList([nn.Linear(3, 3) for _ in range(2)])
        self.last = nn.Linear(6, 3, bias=False)
        self.last.weight = self.first.weight

    def forward(self, x):
        for layer in self.h:
            x = x + nn.functional.pad(torch.tanh(layer(self.first(x))), (0, 3))
        return self.last(x)


class Writing(nn.Module):
    """Shrinks a weight at each evaluation, as a crude normalisation would."""

    def __init__(self, traceless):
        super().__init__()
        self.inner, self.outer, self.traceless = nn.Linear(6, 4), nn.Linear(4, 3), traceless

    def forward(self, x):
        with torch.no_grad():
            (self.inner.weight.data if self.traceless else self.inner.weight).mul_(0.5)
        return self.outer(torch.tanh(self.inner(x)))


def training_of(model, make=torch.optim.SGD, **settings):
    optimizer = make(model.parameters(), lr=0.1, **settings)
    loss = unstuck.supervised(nn.CrossEntropyLoss())
    return unstuck.Training(model, loss, zoo.batches(16, 12), optimizer)


def made(model):
    torch.manual_seed(0)
    return training_of(model())


def objectives(training, among):
    batches = draw(training.data, seed=0, enough=lambda *_: False).batches
    return (
        Objective(training, batches, dtype=torch.float64),
        Objective(training, batches, dtype=torch.float64, among=among),
    )


def hessian(objective):
    with objective.products(objective.theta) as products:
        return products.block(torch.eye(objective.size, dtype=torch.float64))


@pytest.mark.parametrize("among", [("h.1.*",), ("h.0.bias", "last.*"), ("*",)])
def test_gradient_and_curvature_are_those_of_the_whole_at_the_chosen_places(among):
    whole, part = objectives(made(Net), among)
    chosen = {slot.name for slot in part.parameters.slots}
    places = torch.cat(
        [torch.full((slot.parameter.numel(),), slot.name in chosen) for slot in whole.parameters.slots]
    )
    assert part.size == int(places.sum())
    torch.testing.assert_close(part.gradient(part.theta), whole.gradient(whole.theta)[places])
    torch.testing.assert_close(hessian(part), hessian(whole)[places][:, places])


def test_a_part_is_a_function_of_its_own_vector_the_others_held_fixed():
    whole, part = objectives(made(Net), ("h.1.weight",))
    theta, inner = whole.theta.clone(), part.theta + 0.5
    pieces = dict(zip((s.name for s in whole.parameters.slots), whole.parameters.pieces(theta), strict=True))
    pieces["h.1.weight"].copy_(inner.view(3, 3))
    assert part.value(inner) == pytest.approx(whole.value(theta), rel=1e-12)


def test_nothing_of_the_training_changes_not_even_what_asks_for_a_gradient():
    training = made(Net)
    training.loss(training.model, training.data[0]).backward()
    before = [(parameter.requires_grad, parameter.grad.clone()) for parameter in training.model.parameters()]
    with unchanged(training):
        hessian(objectives(training, ("h.0.*",))[1])
    for parameter, (asks, gradient) in zip(training.model.parameters(), before, strict=True):
        assert parameter.requires_grad is asks
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize("traceless", [False, True])
@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_a_model_that_writes_on_what_is_held_fixed_writes_on_a_copy(traceless, dtype):
    torch.manual_seed(0)
    training = training_of(Writing(traceless))
    batches = draw(training.data, seed=0, enough=lambda *_: False).batches
    with unchanged(training):
        part = Objective(training, batches, dtype=dtype, among=("outer.*",))
        values = {part.value(part.theta) for _ in range(3)}
        part.gradient(part.theta)
    assert len(values) == 1


def test_what_is_held_fixed_is_copied_only_where_it_is_written_on():
    for model, aliased in ((Net, True), (lambda: Writing(traceless=True), False)):
        training = made(model)
        batches = draw(training.data, seed=0, enough=lambda *_: False).batches
        name = training.model.named_parameters().__next__()[0]
        others = [n for n, _ in training.model.named_parameters() if n != name]
        assert Objective(training, batches, among=others).parameters.aliased is aliased


def saved_tensors(objective):
    """How many tensors the graph of a gradient keeps."""
    kept = []

    def keep(tensor):
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        objective.gradient(objective.theta)
    return len(kept)


def test_no_graph_is_kept_of_what_lies_before_the_chosen_layer():
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Sequential(nn.Linear(6, 6), nn.Tanh()) for _ in range(8)], nn.Linear(6, 3))
    whole, part = objectives(training_of(model), ("7.*",))
    assert saved_tensors(part) < 0.4 * saved_tensors(whole)


def test_a_name_matches_from_its_beginning_or_after_a_dot():
    assert matches("transformer.h.1.attn.weight", "h.1.*")
    assert matches("transformer.h.1.attn.weight", "transformer.*")
    assert not matches("transformer.h.11.attn.weight", "h.1.*")
    assert not matches("path.weight", "h.weight")


def test_a_pattern_that_matches_nothing_is_told_in_one_line_with_some_of_the_names():
    training = made(Net)
    training.model.h[0].bias.requires_grad_(requires_grad=False)
    for pattern in ("h.7.*", "h.0.bias"):
        with pytest.raises(TrainingError, match=r"first\.weight") as caught:
            unstuck.diagnose(training, only=["first.*", pattern])
        assert repr(pattern) in str(caught.value)
        assert "\n" not in str(caught.value)


def test_parameters_that_the_loss_does_not_use_are_told_apart_from_a_loss_that_uses_none():
    training = made(Net)
    training.model.unused = nn.Linear(2, 2)
    for look in (unstuck.diagnose, unstuck.spectrum):
        with pytest.raises(TrainingError, match=r"does not depend on the parameters that match unused"):
            look(training, only="unused.*")


def test_a_diagnosis_of_a_part_says_which_and_calls_nothing_frozen():
    training = made(Net)
    with unchanged(training):
        found = unstuck.diagnose(training, only="h.1.*", budget=20.0)
    subject = found.verdict.measured.subject
    assert (subject.parameters, subject.trainable, subject.frozen) == (12, 42, 0)
    assert unstuck.Cause.FROZEN_PARAMETERS not in {finding.cause for finding in found.findings}
    assert found.verdict.measured.wiring.scalars == 42
    assert found.verdict.trials is None
    text = " ".join(str(found).split())
    assert "12 of 42 parameters: only h.1.*, the others held fixed" in text
    assert "No remedy was tried: only a part" in text


def test_a_layer_that_really_is_frozen_is_still_found_beside_a_part():
    training = made(Net)
    training.model.first.weight.requires_grad_(requires_grad=False)
    found = unstuck.diagnose(training, only="h.1.*", budget=20.0)
    subject = found.verdict.measured.subject
    assert (subject.parameters, subject.trainable, subject.frozen) == (12, 24, 18)
    assert [each.names for each in found.verdict.measured.wiring.excluded] == [("first.weight",)]


@pytest.mark.parametrize("look", [unstuck.spectrum, unstuck.sharpness, unstuck.surface])
def test_spectrum_sharpness_and_surface_look_at_the_part(look):
    training = made(Net)
    with unchanged(training):
        found = look(training, only="h.1.*", budget=3.0)
    assert "12 of 42 parameters: only h.1.*" in " ".join(str(found).split())


def test_the_spectrum_of_a_part_is_that_of_its_block():
    training = made(Net)
    _, part = objectives(training, ("h.1.*",))
    values = torch.linalg.eigvalsh(hessian(part))
    (spread, *_) = unstuck.spectrum(training, only="h.1.*", budget=20.0).bending.spreads
    assert spread.lowest[0].value == pytest.approx(float(values[0]), abs=1e-9)
    assert spread.highest[0].value == pytest.approx(float(values[-1]), rel=1e-9)
