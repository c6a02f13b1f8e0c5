"""Each remedy changes what it says, and nothing else."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

import unstuck
from objective.fingerprint import unchanged
from unstuck import Cause, Training, supervised
from unstuck.demos.digits import digits
from unstuck.findings.records import Finding
from unstuck.measurements.records import Sample
from unstuck.measurements.records.outputs import Outputs
from unstuck.objective import Objective, draw
from unstuck.objective.ledger import GRADIENT
from unstuck.remedies import batches, inputs, outputs, points, precision, rules, steps, units, wiring
from unstuck.remedies.activations import behind, rectify
from unstuck.remedies.catalogue import NAMES, choose, proposed
from unstuck.remedies.commit import commit
from unstuck.remedies.run import Run
from unstuck.remedies.treatment import NotApplicableError, Situation

LOSS = supervised(nn.functional.cross_entropy)


def data(examples=128, size=32):
    images, labels = digits()
    return list(zip(images[:examples].split(size), labels[:examples].split(size), strict=True))


def network(*, seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))


def training(model=None, make=None, loss=LOSS, batches_=None):
    model = model or network()
    optimizer = (make or (lambda p: torch.optim.SGD(p, lr=0.1)))(model.parameters())
    made = Training(model, loss, batches_ or data(), optimizer)
    for batch in list(made.data)[:2]:
        optimizer.zero_grad()
        made.loss(model, batch).backward()
        optimizer.step()
    return made


def known(made, **measured):
    diagnosis = unstuck.diagnose(made, trials=False, budget=30.0)
    records = replace(diagnosis.verdict.measured, **measured)
    return Situation(made, records, diagnosis.findings, seed=0, horizon=80 * 32.0)


def run_of(made):
    return Run(made, Objective(made, draw(made.data, seed=0, enough=lambda *_: False).batches))


def named(treatments, name):
    return next(each for each in treatments if each.name == name)


def through(run, updates):
    """Make updates as a continuation does; gives what they cost, in examples."""
    spent = []
    with run.objective.replay.session():
        for number, update in enumerate(updates):
            run.step(update, number / len(updates), lambda batch: spent.append(GRADIENT * batch.examples))
    return sum(spent)


@pytest.fixture(scope="module")
def plain():
    made = training()
    return made, known(made)


def test_every_proposed_remedy_leaves_the_training_as_it_was_and_says_how_to_change_the_code(plain):
    made, facts = plain
    for treatment in proposed(facts):
        with unchanged(made):
            run = run_of(made)
            try:
                treatment.apply(run)
            except unstuck.errors.UnstuckError:
                continue
            through(run, run.updates(run.objective.batches)[:2])
        assert treatment.name in NAMES
        assert treatment.change
        assert treatment.code
        assert treatment.source
        assert treatment.treats


def test_what_treats_the_cause_found_is_chosen_first(plain):
    _, facts = plain
    found = unstuck.diagnosis.Finding(Cause.GRADIENT_NOISE, 0.9, (), "", "")
    chosen = choose(replace(facts, findings=(found,)))
    treating = [Cause.GRADIENT_NOISE in each.treats for each in chosen]
    assert treating[0]
    assert treating == sorted(treating, reverse=True)
    assert {"larger-step", "per-parameter-scale"} <= {each.name for each in chosen}
    assert len({(each.name, each.change) for each in chosen}) == len(chosen)


def test_every_remedy_has_its_turn_before_the_second_variant_of_any(plain):
    _, facts = plain
    found = unstuck.diagnosis.Finding(Cause.PLATEAU, 0.9, (), "", "")
    chosen = [each.name for each in choose(replace(facts, findings=(found,)))]
    treating = {each.name for each in proposed(facts) if Cause.PLATEAU in each.treats}
    assert set(chosen[: len(treating)]) == treating


def test_where_there_is_no_learning_rate_none_is_multiplied():
    class Length(torch.optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"length": 0.1})

        def step(self, closure=None):
            del closure

    facts = known(training(make=Length))
    assert not {"smaller-step", "larger-step"} & {each.name for each in proposed(facts)}


def test_where_every_rate_is_0_a_larger_step_begins_with_what_the_schedule_began_with():
    made = training(make=lambda p: torch.optim.SGD(p, lr=0.03))
    scheduler = torch.optim.lr_scheduler.LambdaLR(made.optimizer, lambda _: 0.0)
    made = replace(made, scheduler=scheduler)
    first, further = steps.larger_step(known(made))
    for treatment, rate in ((first, 0.03), (further, 0.3)):
        run = run_of(made)
        treatment.apply(run)
        assert run.optimizer.param_groups[0]["lr"] == pytest.approx(rate)
        assert run.scheduler.base_lrs == [pytest.approx(rate)]
    assert wiring.unfreeze(known(made)) == []
    assert made.optimizer.param_groups[0]["lr"] == 0.0


def test_a_smaller_step_multiplies_every_rate_and_what_a_scheduler_makes_it_from():
    made = training(make=lambda p: torch.optim.Adam(p, lr=1e-2))
    scheduler = torch.optim.lr_scheduler.LambdaLR(made.optimizer, lambda step: 0.5**step)
    made = replace(made, scheduler=scheduler)
    run = run_of(made)
    named(steps.smaller_step(known(made)), "smaller-step").apply(run)
    factor = run.optimizer.param_groups[0]["lr"] / made.optimizer.param_groups[0]["lr"]
    assert factor < 1.0
    assert run.scheduler.base_lrs[0] == pytest.approx(made.scheduler.base_lrs[0] * factor)
    assert made.scheduler.base_lrs == [1e-2]


def test_what_large_steps_have_killed_is_begun_anew_with_smaller_ones_too():
    made = dead()
    plain, slower = units.begin_anew(known(made))
    run = run_of(made)
    slower.apply(run)
    assert slower.rated
    assert not plain.rated
    assert run.optimizer.param_groups[0]["lr"] < made.optimizer.param_groups[0]["lr"]


@pytest.mark.parametrize(("kind", "line"), [("Adam", "Adam(model"), ("AdamW", "AdamW(model")])
def test_an_adam_in_the_optimizers_place_decays_the_weights_as_that_did_and_its_line_says_so(kind, line):
    made = training(make=lambda ps: getattr(torch.optim, kind)(ps, lr=0.1, weight_decay=0.3))
    old = made.optimizer
    fresh = rules.fresh_adam(old, 1e-3)
    assert type(fresh) is type(old)
    assert fresh.defaults["weight_decay"] == 0.3
    assert rules.fresh_adam_lines(made, 1e-3) == (
        f"optimizer = torch.optim.{line}.parameters(), lr=0.001, weight_decay=0.3)",
    )


def test_an_adam_is_given_gradients_that_it_takes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.EmbeddingBag(9, 4, sparse=True), nn.Linear(4, 3))
    batches = [(torch.randint(9, (8, 5)), torch.randint(3, (8,))) for _ in range(3)]
    made = Training(model, LOSS, batches, optimizer=torch.optim.SGD(model.parameters(), lr=1e-3))
    run = run_of(made)
    named(rules.per_parameter_scale(known(made)), "per-parameter-scale").apply(run)

    first, _ = rules.fresh_adam_lines(made, 1e-3)
    optimizer = commit(made, run, run.theta(), None)
    LOSS(model, batches[0]).backward()
    optimizer.step()

    assert first.startswith("model.get_submodule('0').sparse = False")
    assert not model[0].sparse


def test_a_decaying_rate_ends_near_zero_and_is_put_back_between_steps(plain):
    made, facts = plain
    run = run_of(made)
    named(steps.decay(facts), "decay").apply(run)
    assert (run.factor(0.0), run.factor(1.0)) == (1.0, 0.0)
    through(run, run.updates(run.objective.batches))
    assert run.optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Rprop, torch.optim.ASGD])
def test_no_further_training_is_no_step_and_a_hundredth_of_the_rate_a_hundredth_of_the_step(make):
    run = run_of(training(make=lambda parameters: make(parameters, lr=1e-3)))
    places = [run.theta()]
    for factor in (0.0, 0.01, 1.0):
        run.factor = lambda _, factor=factor: factor
        with run.objective.replay.session():
            run.step((run.objective.batches[0],), 0.5, lambda _: None)
        places.append(run.theta())
    still, short, whole = (float((b - a).norm()) for a, b in itertools.pairwise(places))
    assert still == 0.0
    assert 0.005 < short / whole < 0.02


@pytest.mark.parametrize("make", [torch.optim.SGD, torch.optim.Rprop])
def test_what_is_to_be_changed_for_longer_steps_is_what_the_words_and_the_code_say(make):
    made = training(make=lambda parameters: make(parameters, lr=1e-3))
    longer = steps.larger_step(known(made))[0]
    bounded = make is torch.optim.Rprop
    assert ("step sizes and their bounds" in longer.change) is bounded
    assert ("learning rate" in longer.change) is not bounded
    before = [dict(group) for group in made.optimizer.param_groups]
    exec(longer.code[0], {"optimizer": made.optimizer})  # noqa: S102 - as the user would
    key = "step_sizes" if bounded else "lr"
    assert all(group[key] != old[key] for group, old in zip(made.optimizer.param_groups, before, strict=True))


def test_where_a_step_sees_all_the_data_it_is_corrected_for_curvature_at_what_its_evaluations_cost(plain):
    made = training(batches_=data(size=128))
    facts = known(made)
    run = run_of(made)
    named(rules.quasi_newton(facts), "quasi-newton").apply(run)
    before = run.objective.bare.value(run.theta())
    spent = through(run, run.updates(run.objective.batches))
    assert 2 * GRADIENT * 128 <= spent <= 25 * GRADIENT * 128
    assert run.objective.bare.value(run.theta()) < 0.5 * before
    sampled = replace(facts.measured, sample=replace(facts.measured.sample, whole=False))
    decaying = training(make=lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1), batches_=data(size=128))
    for other in (plain[1], replace(facts, measured=sampled), replace(facts, training=decaying)):
        assert rules.quasi_newton(other) == []


def test_a_fresh_adagrad_does_not_begin_again_with_a_sum_that_no_gradient_has_made():
    made = training(make=lambda p: torch.optim.Adagrad(p, lr=0.02, initial_accumulator_value=1e4))
    run = run_of(made)
    fresh = named(rules.refresh(known(made)), "refresh")
    fresh.apply(run)
    assert all(not bool(state["sum"].any()) for state in run.optimizer.state.values())
    assert all(float(state["sum"].min()) >= 1e4 for state in made.optimizer.state.values())
    exec("\n".join(fresh.code), {"optimizer": made.optimizer})  # noqa: S102 - the lines that a user is given
    assert all(not bool(state["sum"].any()) for state in made.optimizer.state.values())


def test_a_fresh_state_is_fresh_and_the_settings_stay():
    for make in (
        lambda p: torch.optim.Adagrad(p, lr=0.02),
        lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.5, 0.9)),
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.7),
    ):
        made = training(make=make)
        run = run_of(made)
        named(rules.refresh(known(made)), "refresh").apply(run)
        settings = [
            {key: value for key, value in group.items() if key != "params"}
            for group in run.optimizer.param_groups
        ]
        own = [
            {key: value for key, value in group.items() if key != "params"}
            for group in made.optimizer.param_groups
        ]
        assert settings == own
        assert all(float(state.get("step", 0.0)) == 0.0 for state in run.optimizer.state.values())


def test_larger_batches_step_along_the_mean_of_the_gradients(plain):
    made, facts = plain
    run = run_of(made)
    named(batches.larger_batch(facts), "larger-batch").apply(run)
    updates = run.updates(run.objective.batches)
    before = run.theta()
    assert through(run, updates[:1]) == 4 * 32
    whole = run.objective.gradient(before)
    torch.testing.assert_close(run.theta(), before - 0.1 * whole, rtol=1e-5, atol=1e-7)


def test_smaller_batches_hold_the_same_examples(plain):
    made, facts = plain
    run = run_of(made)
    named(batches.smaller_batch(facts), "smaller-batch").apply(run)
    pieces = [batch for update in run.updates(run.objective.batches) for batch in update]
    assert len(pieces) == 16
    joined = torch.cat([piece.content[0] for piece in pieces])
    assert torch.equal(joined, torch.cat([batch.content[0] for batch in run.objective.batches]))


def test_shuffling_keeps_every_example_and_every_size(plain):
    made, facts = plain
    run = run_of(made)
    named(batches.shuffle(facts), "shuffle").apply(run)
    mixed = [batch for update in run.updates(run.objective.batches) for batch in update]
    assert [batch.examples for batch in mixed] == [32] * 4
    before = torch.cat([batch.content[1] for batch in run.objective.batches])
    after = torch.cat([batch.content[1] for batch in mixed])
    assert not torch.equal(before, after)
    assert torch.equal(before.sort().values, after.sort().values)


def test_clipping_bounds_every_step(plain):
    made, facts = plain
    run = run_of(made)
    named(batches.clip(facts), "clip").apply(run)
    for update in run.updates(run.objective.batches):
        before = run.theta()
        through(run, [update])
        assert (run.theta() - before).norm() <= 0.1 * run.twin.clip * (1.0 + 1e-5)


def test_updates_that_are_not_finite_are_skipped():
    made = training()
    run = run_of(made)
    run.skip = True
    bad = run.objective.batches[0]
    bad.content[0][0, 0] = math.nan
    before = run.theta()
    through(run, [(bad,)])
    assert torch.equal(run.theta(), before)
    through(run, [(run.objective.batches[1],)])
    assert not torch.equal(run.theta(), before)


def dead():
    model = network(seed=1)
    with torch.no_grad():
        model[0].bias[:8] = -100.0
    return training(model)


def test_only_the_units_that_are_dead_are_revived():
    made = dead()
    run = run_of(made)
    before = run.theta()
    named(units.revive(known(made)), "revive").apply(run)
    parts = run.objective.parameters.pieces(run.theta() - before)
    rows = parts[0].abs().sum(1)
    assert (rows[:8] > 0).all()
    assert (rows[8:] == 0).all()
    assert (parts[2] == 0).all()


def test_what_a_step_has_killed_is_revived_with_a_smaller_one_too():
    made = dead()
    run = run_of(made)
    rate = run.optimizer.param_groups[0]["lr"]
    _, slower = units.revive(known(made))
    slower.apply(run)
    assert slower.name == "revive"
    assert run.optimizer.param_groups[0]["lr"] < rate
    assert bool(run.theta().ne(run_of(made).theta()).any())


def test_frozen_unlisted_and_rateless_parameters_are_trained_too():
    model = network()
    model[0].requires_grad_(requires_grad=False)
    made = Training(model, LOSS, data(), torch.optim.SGD([model[2].weight], lr=0.1))
    facts = known(made)
    run = run_of(made)
    with unchanged(made):
        named(wiring.unfreeze(facts), "unfreeze").apply(run)
        before = run.theta()
        through(run, run.updates(run.objective.batches)[:1])
    moved = run.objective.parameters.pieces(run.theta() - before)
    assert len(moved) == 4
    assert all(bool(piece.any()) for piece in moved)
    # The lines, in a script that begins as this one did, give the optimizer that the state is of.
    own = network()
    own[0].requires_grad_(requires_grad=False)
    script = {"model": own, "optimizer": torch.optim.SGD([own[2].weight], lr=0.1)}
    exec("\n".join(named(wiring.unfreeze(facts), "unfreeze").code), script)  # noqa: S102 - the lines are what is tested
    optimizer = commit(made, run, run.theta(), None)
    script["optimizer"].load_state_dict(optimizer.state_dict())
    names = [
        [
            [name for name, p in module.named_parameters() if any(p is q for q in group["params"])]
            for group in groups
        ]
        for module, groups in ((own, script["optimizer"].param_groups), (model, optimizer.param_groups))
    ]
    assert names[0] == names[1] == [["2.weight"], ["0.weight", "0.bias", "2.bias"]]
    assert all(parameter.requires_grad for parameter in own.parameters())


class Rounded(nn.Module):
    def forward(self, x):
        return torch.round(x)


def test_what_is_behind_a_step_function_is_trained_once_gradients_are_let_through():
    model = network()
    model[1] = Rounded()
    made = Training(model, LOSS, data(), torch.optim.SGD(model.parameters(), lr=0.1))
    run = run_of(made)
    with unchanged(made):
        named(wiring.reconnect(known(made)), "reconnect").apply(run)
        before = run.theta()
        through(run, run.updates(run.objective.batches)[:1])
    assert all(bool(piece.any()) for piece in run.objective.parameters.pieces(run.theta() - before))
    assert wiring.unfreeze(known(made)) == []


def test_master_weights_are_wider_and_the_loss_is_computed_as_before():
    made = training(network().bfloat16(), batches_=[(x.bfloat16(), y) for x, y in data()])
    facts = known(made)
    run = run_of(made)
    named(precision.master_weights(facts), "master-weights").apply(run)
    assert {copied.dtype for copied in run.twin.copies} == {torch.float32}
    values = run.objective.values(run.objective.theta)
    assert values == run_of(made).objective.values(run.objective.theta)
    through(run, run.updates(run.objective.batches)[:1])


def test_scaled_inputs_have_mean_zero_and_deviation_one(plain):
    made, facts = plain
    run = run_of(made)
    inputs.scale_inputs(facts)[0].apply(run)
    together = torch.cat([batch.content[0] for batch in run.objective.batches])
    assert together.mean(0).abs().max() < 1e-5
    varying = together.std(0, correction=0)
    assert bool(((varying - 1).abs().lt(1e-4) | varying.lt(1e-4)).all())
    assert torch.equal(
        run.prepare(draw(made.data, seed=0, enough=lambda *_: True).batches[0]).content[0],
        run.objective.batches[0].content[0],
    )


def reconstruct(model, batch):
    return nn.functional.mse_loss(model(batch[0]), batch[0] / 16)


def solve(model, batch):
    """u' = -u along the first pixel, as physics-informed networks learn it."""
    places = batch[0].clone().requires_grad_()
    values = model(places)
    (slope,) = torch.autograd.grad(values.sum(), places, create_graph=True)
    return (slope[:, 0] + values[:, 0]).square().mean()


def likelihood(model, batch):
    """Of the inputs under a Gaussian in the place of a flow; labels are left alone."""
    return model(batch[0]).square().mean()


@pytest.mark.parametrize(
    ("loss", "width", "seen"),
    [(LOSS, 10, False), (reconstruct, 64, True), (solve, 1, True), (likelihood, 64, True)],
)
def test_inputs_that_the_loss_is_made_of_are_not_scaled(plain, loss, width, seen):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, width))
    run = run_of(Training(model, loss, data(), torch.optim.SGD(model.parameters(), lr=1e-3)))
    for treatment in inputs.scale_inputs(plain[1]):
        if seen:
            with pytest.raises(NotApplicableError, match="made of the inputs"):
                treatment.apply(run)
        else:
            treatment.apply(run)


def test_activations_behind_the_last_layer_are_told_from_those_between():
    inner = nn.Sequential(nn.Linear(64, 8), nn.Sigmoid(), nn.Linear(8, 10))
    model = nn.Sequential(inner, nn.Softmax(dim=1))
    assert [type(child) for _, _, child in behind(model)] == [nn.Softmax]
    made = training(model)
    assert [each.name for each in rectify(known(made))] == ["rectify", "rectify"]
    assert rectify(known(training())) == []


def test_probabilities_become_logits_where_the_softmax_comes_off():
    model = network().append(nn.Softmax(dim=1))
    made = training(model, lambda p: torch.optim.Adam(p, lr=1e-2))
    for _ in range(20):
        for batch in made.data:
            made.optimizer.zero_grad()
            made.loss(model, batch).backward()
            made.optimizer.step()
    facts = known(made)
    assert facts.findings[0].cause is Cause.MISMATCHED_LOSS
    run = run_of(made)
    with unchanged(made):
        named(outputs.fit_outputs(facts), "fit-outputs").apply(run)
        found = run.objective.value(run.objective.theta)
    expected = sum(float(LOSS(model[:-1], batch).detach()) for batch in made.data) / 4
    assert found == pytest.approx(expected, rel=1e-5)


def test_outputs_that_the_loss_makes_of_parts_of_the_model_are_not_said_to_have_been_changed():
    def parted(model, batch):
        return nn.functional.nll_loss(model[2](model[1](model[0](batch[0]))).softmax(1), batch[1])

    made = training(loss=parted)
    facts = known(made)
    assert facts.findings[0].cause is Cause.MISMATCHED_LOSS
    with pytest.raises(NotApplicableError, match="parts of the model"):
        named(outputs.fit_outputs(facts), "fit-outputs").apply(run_of(made))


def test_cosines_are_scaled_where_the_model_gives_the_scores_themselves(plain):
    made, facts = plain
    blamed = Finding(Cause.MISMATCHED_LOSS, 0.9, (), "", "")
    for classes in (10, 64):
        bound = Outputs("cross_entropy", (), 1.4, 1.37, 0.0, "cosines", shapes=((32, classes),))
        situation = replace(facts, findings=(blamed,), measured=replace(facts.measured, outputs=bound))
        treatment, run = named(outputs.fit_outputs(situation), "fit-outputs"), run_of(made)
        if classes == 10:
            treatment.apply(run)
            expected = sum(
                float(nn.functional.cross_entropy(20 * made.model(batch[0]), batch[1]).detach())
                for batch in made.data
            )
            assert run.objective.value(run.objective.theta) == pytest.approx(
                expected / len(made.data), rel=1e-5
            )
        else:
            with pytest.raises(NotApplicableError, match="made in the loss"):
                treatment.apply(run)


def test_outputs_are_moved_to_where_a_bounded_loss_feels_the_targets():
    def bounded(model, batch):
        return (1.0 - (-0.5 * (model(batch[0]).squeeze(-1) - batch[1]).square()).exp()).mean()

    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    made = training(nn.Linear(5, 1), loss=bounded, batches_=[(x, 50.0 + x[:, 0])])
    run = run_of(made)
    points.offset_outputs(known(made))[0].apply(run)
    assert run.objective.value(run.theta()) < 0.9 * run.objective.value(run.objective.theta)


def test_an_escape_leaves_the_saddle_and_stays_within_its_share():
    made = unstuck.demos.DEMOS["lecture"].setup()
    facts = Situation(made, known(made).measured, (), seed=0, horizon=100.0)
    run = run_of(made)
    before = run.objective.ledger.examples
    points.leave_saddle(facts)[0].apply(run)
    assert run.objective.value(run.theta()) < 0.01
    assert run.objective.ledger.examples - before <= 0.6 * 100.0 + 3.0


def test_an_interrupted_escape_ends_the_trial_too():
    made = unstuck.demos.DEMOS["lecture"].setup()
    calls = itertools.count(1)

    def interrupted(model, batch):
        if next(calls) == 40:
            raise KeyboardInterrupt
        return made.loss(model, batch)

    facts = Situation(made, known(made).measured, (), seed=0, horizon=100.0)
    with pytest.raises(KeyboardInterrupt):
        points.leave_saddle(facts)[0].apply(run_of(replace(made, loss=interrupted)))


def test_the_sample_of_a_run_is_never_that_of_another(plain):
    made, facts = plain
    first, second = run_of(made), run_of(made)
    inputs.scale_inputs(facts)[0].apply(first)
    assert torch.equal(second.objective.batches[0].content[0], made.data[0][0])
    assert isinstance(facts.measured.sample, Sample)
