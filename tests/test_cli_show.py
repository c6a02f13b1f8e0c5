import io
import json
import re
import sys

import pytest

from recordings import changed, copied, short, stuck
from unstuck.cli import main
from unstuck.watching.files.schema import VERSION


@pytest.fixture
def run(capsys):
    """Run the command in this process; gives exit code, standard output and standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["show", *map(str, arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


def test_a_run_is_shown_plainly_where_it_is_piped(run):
    code, out, err = run(stuck())
    assert (code, err) == (0, "")
    assert "The loss has stood still since step" in out
    assert "\x1b" not in out


def test_a_folder_shows_its_newest_run_and_names_the_one_before(run, tmp_path):
    copied(short(), tmp_path / "from").rename(tmp_path / "20260101-000000-1.sqlite")
    copied(stuck(), tmp_path / "from").rename(tmp_path / "20260101-000001-1.sqlite")
    code, out, _ = run(tmp_path)
    assert code == 0
    assert "the newest of 2 runs" in out
    assert "20260101-000000-1.sqlite" in re.sub(r"[│\s]", "", out)  # it may be broken over lines


def test_the_document_is_all_that_comes_on_standard_output(run):
    code, out, err = run(stuck(), "--json", "-")
    assert (code, err) == (0, "")
    assert json.loads(out)["schema"] == 1


def test_page_and_document_are_written_to_files(run, tmp_path):
    code, out, err = run(short(), "--html", tmp_path / "run.html", "--json", tmp_path / "run.json")
    assert code == 0
    assert "Too early to tell" in out
    assert f"wrote {tmp_path / 'run.html'}" in err
    assert (tmp_path / "run.html").read_text().startswith("<!DOCTYPE html>")
    assert json.loads((tmp_path / "run.json").read_text())["steps"] == 3


def test_a_run_of_a_newer_version_is_one_clear_line(run, tmp_path):
    path = changed(copied(stuck(), tmp_path), (f"PRAGMA user_version = {VERSION + 1}",))
    code, out, err = run(path)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert "written by a newer unstuck" in err


def test_a_stream_without_unicode_gets_what_it_can_take(run, monkeypatch):
    asked = run(stuck())[1].count(
        "?"
    )  # by the text itself: any more would stand for what could not be written
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    monkeypatch.setattr(sys, "stdout", stream)
    with pytest.raises(SystemExit) as caught:
        main(["show", str(stuck())])
    assert caught.value.code == 0
    shown = stream.buffer.getvalue().decode("ascii")
    assert "|g|" in shown
    assert shown.count("?") == asked
