import warnings

from unstuck.objective.warned import warned_once


def test_a_warning_is_shown_once_though_filters_are_changed_in_between(monkeypatch):
    told = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *_, **__: told.append(str(message)))
    before = warnings.showwarning
    with warned_once():
        for number in range(6):
            with warnings.catch_warnings():  # which makes Python forget what it has shown
                warnings.simplefilter("default")
                warnings.warn(f"of kind {number % 2}", UserWarning, stacklevel=1)
    assert told == ["of kind 0", "of kind 1"]
    assert warnings.showwarning is before
