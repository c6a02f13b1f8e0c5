import json
import os
import re
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from textwrap import dedent

import pytest
import torch
import typer

import unstuck
from recordings import stuck
from unstuck.cli import main
from unstuck.cli.arguments import seconds
from unstuck.cli.endings import interruptible
from unstuck.cli.output import OutputError, prepare, write
from unstuck.demos import DEMOS
from unstuck.demos.networks import perceptron

QUADRATIC = """
    import torch
    import unstuck

    print("this is printed while importing")

    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.w = torch.nn.Parameter(torch.tensor(3.0))

        def forward(self, x):
            return self.w * x

    def setup():
        print("this is printed while building")
        model = Line()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        ones = torch.ones(4)
        return unstuck.Training(model, loss, [(ones, 0 * ones)] * 4, optimizer)

    def loss(model, batch):
        return (model(batch[0]) - batch[1]).square().mean()
"""


@pytest.fixture(autouse=True)
def _folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("train", None)


@pytest.fixture
def run(capsys):
    """Run the command in this process; gives exit code, standard output and standard error."""

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


def write_file(path, text):
    path.write_text(dedent(text))
    return path


def test_a_recorded_run_is_the_past_of_a_training(run):
    code, out, _ = run(
        "diagnose", "demo:saddle", "--history", stuck(), "--no-trials", "--budget", "5s", "--json", "-"
    )
    assert code == 0
    assert json.loads(out)["past"]["last"] == 999


def in_a_process(*arguments, **settings):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "unstuck", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **settings)


class TestHelp:
    def test_is_shown_for_no_arguments_at_all(self, run):
        code, out, err = run()
        assert (code, err) == (0, "")
        assert "Usage: unstuck" in out
        assert "diagnose" in out

    @pytest.mark.parametrize("flag", ["--help", "-h"])
    def test_of_diagnose_names_every_option_with_an_example(self, run, flag):
        code, out, _ = run("diagnose", flag)
        assert code == 0
        for option in (
            "checkpoint",
            "steps",
            "budget",
            "no-trials",
            "html",
            "json",
            "seed",
            "check",
            "debug",
        ):
            assert f"--{option} " in out
        assert out.count("<bool>") <= 1  # of a flag no value is asked for; --help is the library's own
        assert "unstuck diagnose demo:saddle" in out

    def test_has_the_version(self, run):
        assert run("--version") == (0, f"unstuck {version('unstuck')}\n", "")

    def test_lists_the_demos(self, run):
        code, out, err = run("demos")
        assert (code, err) == (0, "")
        assert [line.split()[0] for line in out.splitlines()] == [f"demo:{name}" for name in DEMOS]


class TestBadInputIsOneLineOnStandardErrorAndExitsWithTwo:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["diagnose"], "Missing argument 'TARGET'."),
            (["diagnose", "demo:lecture", "--bogus"], "No such option: --bogus"),
            (["frobnicate"], "No such command 'frobnicate'."),
            (
                ["diagnose", "demo:sadle"],
                r"there is no demo 'sadle', did you mean 'saddle'\?; there are: lecture.*",
            ),
            (["diagnose", "x.py:f"], "there is no file x.py in .*"),
            (["diagnose", "demo:lecture", "--checkpoint", "x.pt"], "there is no checkpoint x.pt"),
            (
                ["diagnose", "demo:lecture", "--budget", "soon"],
                "Invalid value for --budget: 'soon' is not a time above zero such as 90s, 2m or 1h",
            ),
            (["diagnose", "demo:lecture", "--steps", "-1"], "Invalid value for '--steps': .*, not '-1'"),
            (["diagnose", "demo:lecture", "--seed=x"], "Invalid value for '--seed': .*, not 'x'"),
            (["batch", "demo:lecture", "--to=nan"], "Invalid value for --to: 'nan' is not a finite loss.*"),
            (
                ["surface", "demo:lecture", "--along=up"],
                "Invalid value for '--along': .*'up' is not one of .*",
            ),
            (["diagnose", "demo:lecture", "--html", "."], "cannot write .: it is a folder"),
            (
                ["diagnose", "demo:lecture", "--json", "file/report.json"],
                "cannot write file/report.json: cannot make its folder, File exists",
            ),
        ],
    )
    def test_for(self, run, tmp_path, arguments, message):
        (tmp_path / "file").touch()
        code, out, err = run(*arguments)
        assert (code, out) == (2, "")
        assert re.fullmatch(f"error: {message}\n", err)

    def test_for_a_loss_that_fails(self, run, tmp_path):
        write_file(tmp_path / "train.py", QUADRATIC.replace("batch[1])", "batch[7])"))
        code, out, err = run("diagnose", "train.py:setup")
        assert (code, out) == (2, "")
        assert err.splitlines()[-1].startswith("error: `loss` failed on a batch of `data`")
        assert "Traceback" not in err

    def test_but_debug_shows_the_traceback_down_to_the_users_own_line(self, run, tmp_path):
        write_file(tmp_path / "train.py", "\n1 / 0\n")
        code, _, err = run("diagnose", "train.py:setup", "--debug")
        assert code == 2
        assert "Traceback" in err
        assert 'train.py", line 2' in err
        assert (
            err.splitlines()[-1]
            == "error: train.py failed at train.py:2: ZeroDivisionError: division by zero"
        )

    def test_in_a_real_process_too(self, tmp_path):
        write_file(tmp_path / "train.py", "def setup(): pass")
        done = in_a_process("diagnose", "train.py:setup")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            "error: train.py:setup must return an unstuck.Training, not None: did you forget `return`?\n"
        )


class TestTheAnswer:
    def test_is_printed(self, run):
        code, out, err = run("diagnose", "demo:lecture")
        assert code == 0
        assert "Saddle point" in out
        assert "reading the data" in err, "progress goes elsewhere"

    def test_as_json_is_all_there_is_on_standard_output_whatever_the_users_code_prints(self, tmp_path):
        write_file(tmp_path / "train.py", QUADRATIC)
        done = in_a_process("diagnose", "train.py:setup", "--json", "-", "--no-trials")
        assert done.returncode == 0
        assert json.loads(done.stdout)["schema"] == 1
        assert "this is printed while importing" in done.stderr
        assert "this is printed while building" in done.stderr

    def test_is_written_to_files_in_folders_that_are_made(self, run, tmp_path):
        code, out, err = run("diagnose", "demo:lecture", "--html", "a/b/r.html", "--json", "c/r.json")
        assert code == 0
        assert "Saddle point" in out
        assert "<html" in (tmp_path / "a" / "b" / "r.html").read_text()
        assert json.loads((tmp_path / "c" / "r.json").read_text())["cause"] == "saddle-point"
        assert err.splitlines()[-2:] == ["wrote a/b/r.html", "wrote c/r.json"]
        assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["r.html"]

    def test_is_that_of_the_library(self, run):
        # Without trials, whose length hangs on how busy the machine is.
        _, out, _ = run("diagnose", "demo:lecture", "--json", "-", "--seed", "3", "--no-trials")
        ours = json.loads(unstuck.diagnose(DEMOS["lecture"].setup(), seed=3, trials=False).to_json())
        theirs = json.loads(out)
        assert {**ours, "cost": None} == {**theirs, "cost": None}

    def test_has_the_trials_unless_they_are_not_wanted(self, run):
        _, out, _ = run("diagnose", "demo:lecture", "--json", "-")
        found = json.loads(out)
        assert found["remedies"][0]["name"] == "escape"
        assert found["remedies"][0]["helps"]
        assert found["trials"]["tried"]
        _, out, _ = run("diagnose", "demo:lecture", "--json", "-", "--no-trials")
        assert json.loads(out)["trials"] is None


class TestCheck:
    def test_exits_with_one_when_something_should_be_done(self, run):
        assert run("diagnose", "demo:lecture", "--check")[0] == 1

    def test_exits_with_zero_when_nothing_can_be_done(self, run):
        assert run("diagnose", "demo:degenerate", "--check")[0] == 0


class TestBeforeDiagnosing:
    def test_a_checkpoint_is_loaded(self, run, tmp_path):
        write_file(tmp_path / "train.py", QUADRATIC)
        torch.save({"model": {"w": torch.tensor(2.0)}}, tmp_path / "last.pt")
        code, out, err = run("diagnose", "train.py:setup", "--json", "-", "--checkpoint", "last.pt")
        assert code == 0
        assert json.loads(out)["point"]["loss"] == pytest.approx(4.0)
        assert "loaded model from last.pt" in err.splitlines()

    def test_steps_are_trained(self, run, tmp_path):
        write_file(tmp_path / "train.py", QUADRATIC)
        _, out, err = run("diagnose", "train.py:setup", "--json", "-", "--steps", "5")
        assert json.loads(out)["point"]["loss"] == pytest.approx((3.0 * 0.8**5) ** 2)
        assert "  0% training 5 steps" in err.splitlines()

    def test_a_checkpoint_that_does_not_fit_is_an_error(self, run, tmp_path):
        torch.save(perceptron(2, 2).state_dict(), tmp_path / "last.pt")
        code, out, err = run("diagnose", "demo:lecture", "--checkpoint", "last.pt")
        assert (code, out) == (2, "")
        assert err.startswith(
            "error: the checkpoint does not fit the model: 'w1', 'w2' of the model are not in it;"
        )


class TestEndingEarly:
    def test_ctrl_c_before_anything_is_known_says_so_and_exits_with_130(self, tmp_path):
        write_file(tmp_path / "train.py", "import time\nopen('ready', 'w').close()\ntime.sleep(60)")
        process = self.started("diagnose", "train.py:setup")
        self.interrupt(process, tmp_path / "ready")
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (130, "")
        assert err == "error: interrupted\n"

    def test_ctrl_c_while_measuring_prints_what_is_known_and_exits_with_130(self, tmp_path):
        # It counts in a file: what it counts in memory is put back after every evaluation.
        slow = """
            import pathlib, time

            def loss(model, batch):
                time.sleep(0.005)  # so that few calls tell the pace
                with open("calls", "a") as calls:
                    calls.write(".")
                    if calls.tell() > 150:
                        pathlib.Path("ready").touch()
                        time.sleep(0.5)
                return (model(batch[0]) - batch[1]).square().mean()
        """
        write_file(tmp_path / "train.py", dedent(QUADRATIC) + dedent(slow))
        process = self.started("diagnose", "train.py:setup", "--json", "-", "--html", "partial.html")
        self.interrupt(process, tmp_path / "ready")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 130
        assert json.loads(out)["complete"] is False
        assert err.splitlines()[-2:] == ["wrote partial.html", "interrupted: this is what was known by then"]

    def test_ctrl_c_that_becomes_another_error_in_an_import_is_told_as_what_it_was(self, capsys):
        @interruptible()
        def command():
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise ImportError from None

        handler = signal.getsignal(signal.SIGINT)
        assert (command(), capsys.readouterr().err) == (130, "error: interrupted\n")
        assert signal.getsignal(signal.SIGINT) is handler

    def test_a_reader_that_has_gone_is_no_error(self):
        command = f"set -o pipefail; {sys.executable} -m unstuck demos | true"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize("closed", ["<&- >&-", "2>&-", ">&- 2>&-"])
    def test_streams_that_are_closed_are_no_error(self, closed):
        done = subprocess.run(["bash", "-c", f"{sys.executable} -m unstuck demos {closed}"], check=False)
        assert done.returncode == 0

    def test_a_run_does_not_fail_where_nothing_can_be_said(self, tmp_path):
        write_file(tmp_path / "quiet.py", "print('done')")
        command = f"{sys.executable} -m unstuck run quiet.py 2>&-"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout) == (0, "done\n")

    def test_a_full_disk_behind_standard_output_is_told_in_a_line(self):
        command = f"{sys.executable} -m unstuck demos > /dev/full"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert "cannot write to standard output" in done.stderr

    @staticmethod
    def started(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "unstuck", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    @staticmethod
    def interrupt(process, ready):
        end = time.monotonic() + 60
        while not ready.exists():
            assert time.monotonic() < end
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)


class TestDurations:
    @pytest.mark.parametrize(
        ("text", "value"),
        [("60s", 60.0), ("2m", 120.0), ("1h", 3600.0), ("90", 90.0), ("1.5 m", 90.0), (" 5s ", 5.0)],
    )
    def test_are_seconds_minutes_or_hours(self, text, value):
        assert seconds(text) == value

    @pytest.mark.parametrize("text", ["", "soon", "0s", "-3s", "5d", "1m30s", "nan", "inf", "1e3"])
    def test_are_nothing_else(self, text):
        with pytest.raises(typer.BadParameter, match="is not a time above zero such as 90s, 2m or 1h"):
            seconds(text)


class TestFiles:
    def test_are_replaced_as_a_whole(self, tmp_path):
        path = tmp_path / "report"
        path.write_text("old and long")
        write(prepare(str(path)), "new é")
        assert path.read_text(encoding="utf-8") == "new é"
        assert [file.name for file in tmp_path.iterdir()] == ["report"]

    def test_stay_as_they_were_when_they_cannot_be_written(self, tmp_path):
        path = tmp_path / "report"
        path.write_text("old")
        with pytest.raises(UnicodeEncodeError):
            write(path, "half of it \ud800")
        assert path.read_text() == "old"
        assert [file.name for file in tmp_path.iterdir()] == ["report"]

    def test_behind_a_link_are_written_where_it_points_to(self, tmp_path):
        (tmp_path / "real").write_text("old")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        write(prepare(str(tmp_path / "link")), "new")
        assert (tmp_path / "real").read_text() == "new"
        assert (tmp_path / "link").is_symlink()

    def test_that_are_devices_are_written_to(self):
        write(prepare("/dev/null"), "text")

    def test_that_cannot_be_written_are_an_error_of_one_line(self):
        with pytest.raises(OutputError, match=r"^cannot write /dev/full: No space left on device$"):
            write(prepare("/dev/full"), "text")


def test_what_several_processes_cannot_do_is_said_at_once(run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    code, out, err = run("batch", "nowhere.py:setup")
    assert (code, out) == (2, "")
    assert err.splitlines() == [
        (
            "error: process 0: this command cannot be used with torchrun, only `diagnose`, `treat`, `escape`, "
            "`spectrum`, `sharpness` and `surface`"
        )
    ]
