import math

import pytest

from recordings import HOSTILE, changed, copied, handmade, killed, short, stuck
from unstuck.report.run.drawing import averaged, drawn, spanned
from unstuck.report.run.terminal import to_text
from unstuck.watching.files.reading import read


@pytest.mark.parametrize("width", [40, 80, 100, 160])
@pytest.mark.parametrize("ascii_only", [False, True])
def test_the_text_is_as_wide_as_there_is_room_and_in_the_letters_there_are(width, ascii_only):
    text = to_text(read(stuck()), width, ascii_only=ascii_only)
    assert max(map(len, text.splitlines())) <= width
    assert text.isascii() == ascii_only
    assert "\x1b" not in text


def test_what_was_found_stands_in_the_headline_and_in_the_list():
    text = to_text(read(stuck()))
    assert "The loss has stood still since step" in text
    assert "stopped improving since" in text
    assert "finished: 999 steps" in text


@pytest.mark.parametrize(
    ("losses", "title"),
    [
        ([1.0, *[5.0] * 299], "The loss stays above where it began"),
        ([1.0, *[5.0] * 200, 1.0, *[5.0] * 98], "No stall"),  # it has been down again
        ([1.0, *[1.9] * 299], "No stall"),
        ([-1.0, *[5.0] * 299], "No stall"),
    ],
)
def test_a_loss_that_stays_above_where_it_began_is_not_passed_over(tmp_path, losses, title):
    steps = [(0, step, 0.1 * step, 1, loss, 0.1, 0) for step, loss in enumerate(losses, 1)]
    assert title in to_text(read(handmade(tmp_path / "run.sqlite", steps=steps)))


def test_a_loss_that_has_stood_lower_is_not_said_to_improve(tmp_path):
    level = {"falls": lambda step: 3.0 - step / 900, "rises": lambda step: 2.0 + step / 900}
    texts = {}
    for name, at in level.items():
        steps = [(0, step, 0.1 * step, 1, at(step) + 0.2 * (step % 3), 0.1, 0) for step in range(1, 900)]
        texts[name] = to_text(read(handmade(tmp_path / f"{name}.sqlite", steps=steps)))
    assert "Nothing says that the loss has stopped improving." in texts["falls"]
    assert "Nothing says" not in texts["rises"]
    both = [(number, *row[1:]) for row in steps for number in (0, 1)]
    optimizers = [(0, "Adam", "Generator", 10), (1, "SGD", "Critic", 20)]
    game = to_text(read(handmade(tmp_path / "game.sqlite", steps=both, optimizers=optimizers)))
    assert "it stood lower" not in game
    assert "it stood lower, at 2.2" in texts["rises"]


def test_heights_that_differ_little_are_written_apart(tmp_path):
    steps = [(0, step, 0.1 * step, 1, 1.609 + 1e-4 * (step % 7), 0.1, 0) for step in range(1, 300)]
    text = to_text(read(handmade(tmp_path / "run.sqlite", steps=steps)), 80, ascii_only=True)
    chart = text.split(" loss\n")[1].split("|g|")[0]
    heights = [row.split("|")[0].strip() for row in chart.splitlines() if "|" in row]
    assert len({height for height in heights if height}) == 3


def test_what_is_not_trained_stands_beside_the_loss_that_falls(tmp_path):
    steps = [(0, step, 0.1 * step, 1, 1.0 / step, 0.1, 0) for step in range(1, 300)]
    events = [(0, 128, 12.8, "note", "90 % of the parameters are not trained", '{"left_out": 0.9}')]
    text = to_text(read(handmade(tmp_path / "run.sqlite", steps=steps, events=events)))
    assert "But 90 % of the parameters are not trained." in text


def test_outputs_that_are_normalised_twice_stand_beside_the_loss_that_falls(tmp_path):
    steps = [(0, step, 0.1 * step, 1, 1.0 / step, 0.1, 0) for step in range(1, 300)]
    events = [(0, 128, 12.8, "note", "The loss takes a softmax itself", '{"twice": true}')]
    text = to_text(read(handmade(tmp_path / "run.sqlite", steps=steps, events=events)))
    assert "But the loss takes a softmax itself." in text


@pytest.mark.parametrize(
    ("last", "title"), [(0.5, "No step is made any more"), (None, "The loss is not a number")]
)
def test_what_is_no_number_is_named_in_the_headline(tmp_path, last, title):
    steps = [(0, step, 0.1 * step, 1, 1.0, 0.1, 0) for step in range(1, 300)]
    steps.append((0, 300, 30.0, 1, last, 0.1, int(last is None)))
    document = '{"cause": "non-finite", "confidence": 0.9, "explanation": "NaN.", "advice": "Look."}'
    events = [(0, 300, 30.0, "finding", "non-finite", document)]
    assert title in to_text(read(handmade(tmp_path / "run.sqlite", steps=steps, events=events)))


def test_a_finding_that_needs_no_stall_is_the_headline(tmp_path):
    steps = [(0, step, 0.1 * step, 1, 2.0, 0.1, 0) for step in range(1, 300)]
    document = (
        '{"cause": "step-too-small", "confidence": 0.9, "explanation": "They creep.", "advice": "Run."}'
    )
    events = [(0, 256, 25.6, "finding", "step-too-small", document)]
    text = to_text(read(handmade(tmp_path / "run.sqlite", steps=steps, events=events)))
    assert "No stall" not in text
    assert "Step too small" in text.splitlines()[0]
    assert "They creep." in text


def test_what_was_found_before_the_loss_surely_stood_still_is_why_it_does(tmp_path):
    steps = [(0, step, 0.1 * step, 1, 2.0, 0.1, 0) for step in range(1, 300)]
    document = '{"cause": "saddle-point", "confidence": 0.8, "explanation": "All zeros.", "advice": "Draw."}'
    events = [
        (0, 256, 25.6, "finding", "saddle-point", document),
        (0, 280, 28.0, "stall", "it stays", '{"since": 1}'),
    ]
    text = to_text(read(handmade(tmp_path / "run.sqlite", steps=steps, events=events)))
    headline = text.split("What was found")[0]
    assert "The loss has stood still since step 1" in headline
    assert "All zeros." in headline
    assert "ended before it was found out why" not in text
    moved = (0, 290, 29.0, "moving", "it improves again", "{}")
    text = to_text(read(handmade(tmp_path / "moved.sqlite", steps=steps, events=[*events, moved])))
    assert "All zeros." not in text.split("What was found")[0]


def test_a_finding_that_was_taken_back_since_is_no_headline(tmp_path):
    steps = [(0, step, 0.1 * step, 1, 2.0, 0.1, 0) for step in range(1, 300)]
    document = (
        '{"cause": "gradient-noise", "confidence": 0.6, "explanation": "To and fro.", "advice": "Lower."}'
    )
    found = (0, 128, 12.8, "finding", "gradient-noise", document)
    back = (0, 256, 25.6, "note", "not a reason any more", '{"withdrawn": ["gradient-noise"]}')
    for events, headline in (([found], "Gradient noise"), ([found, back], "No stall")):
        text = to_text(read(handmade(tmp_path / f"{len(events)}.sqlite", steps=steps, events=events)))
        assert headline in text.splitlines()[0]


def test_a_finding_in_the_same_words_is_given_once_and_named_again(tmp_path):
    steps = [(0, step, 0.1 * step, 1, 2.0, 0.1, 0) for step in range(1, 300)]
    document = (
        '{"cause": "dead-units", "confidence": 0.8, "explanation": "They are dead.", "advice": "Wake."}'
    )
    events = [(0, 200, 20.0, "stall", "it stays", '{"since": 1}')]
    events += [(0, step, step / 10, "finding", "dead-units", document) for step in (210, 280)]
    said = to_text(read(handmade(tmp_path / "run.sqlite", steps=steps, events=events))).split(
        "What was found"
    )[1]
    assert said.count("They are dead.") == 1
    assert "as at step 210" in said


def test_a_killed_run_says_when_it_was_last_heard_of():
    text = to_text(read(killed()), 160)
    assert "was killed, or left by os._exit, after step" in text
    assert "the last row is from" in text


def test_a_run_without_samples_and_looks_is_shown():
    text = to_text(read(short()))
    assert "Too early to tell" in text
    assert "loss" in text


def test_several_optimizers_stand_one_under_the_other(tmp_path):
    steps = [(number, step, 0.1 * step, 1, 1.0 / step, 0.1) for step in range(1, 200) for number in (0, 1)]
    optimizers = [(0, "Adam", "Generator", 10), (1, "SGD", "Critic", 20)]
    text = to_text(read(handmade(tmp_path / "gan.sqlite", steps=steps, optimizers=optimizers)))
    assert text.index("Optimizer 0: Adam on Generator") < text.index("Optimizer 1: SGD on Critic")
    assert text.count("How it stands") == 2


def test_what_would_move_the_cursor_or_style_the_text_is_shown_and_not_obeyed(tmp_path):
    path = changed(
        copied(stuck(), tmp_path),
        ("UPDATE about SET value = ? WHERE key = 'script'", "\x1b[2Jrun\r[red]x[/red]"),
    )
    text = to_text(read(path))
    assert "\x1b" not in text
    assert "[red]x[/red]" in text
    assert HOSTILE[:20] in text


def test_a_falling_line_falls_from_the_top_left_to_the_bottom_right():
    points = [(float(step), 10.0 - step) for step in range(11)]
    lines = drawn(points, (0.0, 10.0), spanned(points), 11, 4, ascii_only=True)
    places = [line.strip() and line.index(line.strip()[0]) for line in lines]
    assert places == sorted(places)
    assert lines[0][0] != " "
    assert lines[-1][-1] != " "


def test_a_value_that_is_not_known_breaks_the_line():
    points = [(0.0, 1.0), (1.0, 1.0), (5.0, None), (9.0, 2.0), (10.0, 2.0)]
    assert averaged(points, (0.0, 10.0), 11) == points
    lines = drawn(points, (0.0, 10.0), spanned(points), 11, 2, ascii_only=True)
    assert all(line[4] == " " for line in lines)


def test_points_of_one_column_are_drawn_as_their_mean():
    points = [(float(step), float(step % 2)) for step in range(100)]
    means = averaged(points, (0.0, 99.0), 10)
    assert len(means) == 10
    assert all(math.isclose(value, 0.5) for _, value in means)


def test_a_range_of_decades_is_drawn_on_a_logarithmic_scale():
    assert spanned([(0.0, 1.0), (1.0, 100.0)]).logarithmic
    assert not spanned([(0.0, -1.0), (1.0, 100.0)]).logarithmic
    assert spanned([(0.0, None), (1.0, math.nan)]) is None
    assert spanned([(0.0, 5.0)]).low < 5.0 < spanned([(0.0, 5.0)]).high
    assert spanned([(0.0, 0.0)]).low == 0.0  # no length is less


def test_a_loss_that_is_next_to_zero_is_no_trouble(tmp_path):
    steps = [(0, step, 0.1 * step, 1, 1e-9, 0.1) for step in range(1, 300)]
    event = (
        0,
        200,
        20.0,
        "stall",
        "the loss is down to 1e-09: there is nothing left to gain",
        '{"since": 20, "done": true}',
    )
    text = to_text(read(handmade(tmp_path / "done.sqlite", steps=steps, events=[event])))
    assert "Nothing left to gain" in text.splitlines()[0]
