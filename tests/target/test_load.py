import pickle
import re
import sys
from textwrap import dedent

import pytest
import torch

from unstuck import Training
from unstuck.errors import TargetError
from unstuck.target import load_training

SETUP = """
    import torch
    from torch import nn
    import unstuck

    model = nn.Linear(2, 1)

    def setup():
        return unstuck.Training(
            model=model,
            loss=unstuck.supervised(nn.MSELoss()),
            data=[(torch.ones(4, 2), torch.zeros(4, 1))],
        )
"""


@pytest.fixture(autouse=True)
def _interpreter_as_before(monkeypatch, tmp_path):
    """Each test has its own folder, and what it imports is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text))
    return path


def complaint(target):
    with pytest.raises(TargetError) as caught:
        load_training(target)
    message = str(caught.value)
    assert "\n" not in message
    return message


class TestATrainingIsFound:
    def test_in_a_file_by_relative_path(self, tmp_path):
        write(tmp_path / "runs" / "train.py", SETUP)
        assert isinstance(load_training("runs/train.py:setup"), Training)

    def test_in_a_file_by_absolute_path(self, tmp_path):
        assert isinstance(load_training(f"{write(tmp_path / 'train.py', SETUP)}:setup"), Training)

    def test_in_a_file_in_the_home_folder(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        write(tmp_path / "train.py", SETUP)
        assert isinstance(load_training("~/train.py:setup"), Training)

    def test_in_a_module_of_a_package_in_the_current_folder(self, tmp_path):
        write(tmp_path / "package_of_mine" / "__init__.py", "")
        write(tmp_path / "package_of_mine" / "train.py", SETUP)
        assert isinstance(load_training("package_of_mine.train:setup"), Training)

    def test_among_the_demos(self):
        assert isinstance(load_training("demo:lecture"), Training)

    def test_as_an_object_instead_of_a_function(self, tmp_path):
        write(tmp_path / "train.py", SETUP + "\n    ready = setup()\n")
        assert isinstance(load_training("train.py:ready"), Training)

    def test_in_a_file_with_a_colon_in_its_folder(self, tmp_path):
        write(tmp_path / "12:30" / "train.py", SETUP)
        assert isinstance(load_training("12:30/train.py:setup"), Training)

    def test_anew_each_time_the_file_is_named(self, tmp_path):
        write(tmp_path / "train.py", SETUP)
        first, second = load_training("train.py:setup"), load_training("train.py:setup")
        assert first.model is not second.model


class TestAFileRunsAsAProgramWould:
    def test_with_its_neighbours_importable_also_when_the_function_runs(self, tmp_path):
        write(tmp_path / "runs" / "neighbour_at_once.py", "")
        write(tmp_path / "runs" / "neighbour_later.py", "")
        text = SETUP.replace("import unstuck", "import unstuck, neighbour_at_once")
        write(tmp_path / "runs" / "train.py", text.replace("return", "import neighbour_later; return"))
        assert isinstance(load_training("runs/train.py:setup"), Training)

    def test_without_what_its_main_guard_holds(self, tmp_path):
        write(
            tmp_path / "train.py", SETUP + '\n    if __name__ == "__main__":\n        raise SystemExit(3)\n'
        )
        assert isinstance(load_training("train.py:setup"), Training)

    def test_with_a_command_line_of_its_own(self, tmp_path, monkeypatch):
        monkeypatch.setattr(sys, "argv", ["unstuck", "diagnose", "--steps", "3"])
        text = SETUP + "\n    import argparse\n    argparse.ArgumentParser().parse_args()\n"
        write(tmp_path / "train.py", text)
        load_training("train.py:setup")
        assert sys.argv == ["unstuck", "diagnose", "--steps", "3"]

    def test_under_its_own_name_so_that_its_classes_can_be_pickled(self, tmp_path):
        text = """
            from dataclasses import dataclass

            @dataclass
            class Settings:
                rate: "float" = 0.1
        """
        write(tmp_path / "train.py", dedent(text) + dedent(SETUP))
        load_training("train.py:setup")
        settings = sys.modules["train"].Settings()
        assert pickle.loads(pickle.dumps(settings)) == settings  # noqa: S301

    def test_and_nothing_is_left_in_its_folder(self, tmp_path):
        write(tmp_path / "train.py", SETUP)
        load_training("train.py:setup")
        assert [path.name for path in tmp_path.iterdir()] == ["train.py"]


class TestWhatIsWrongIsSaidInOneLine:
    @pytest.mark.parametrize(
        ("target", "message"),
        [
            (
                "train",
                "TARGET must be file.py:function, package.module:function or demo:NAME, not 'train'",
            ),
            (
                "train.py",
                (
                    "TARGET must be file.py:function, package.module:function or demo:NAME, not 'train.py': "
                    "name a function that returns the training, as in 'train.py:setup'"
                ),
            ),
            (
                "saddle",
                (
                    "TARGET must be file.py:function, package.module:function or demo:NAME, not 'saddle': "
                    "did you mean 'demo:saddle'?"
                ),
            ),
            ("tran.py:setup", "there is no file tran.py, did you mean train.py?"),
            ("no/train.py:setup", "there is no file no/train.py: its folder no does not exist"),
            ("folder.py:setup", "folder.py is a folder: name a Python file in it"),
            ("./notes.txt:setup", "./notes.txt is not a Python file (.py)"),
            ("train.py:setpu", "train.py has no 'setpu', did you mean 'setup'?; it defines: setup, other"),
            ("train.py:", "train.py needs a function after the colon; it defines: setup, other"),
            ("empty.py:setup", "empty.py has no 'setup'; it defines no function"),
            ("train.py:model", None),
            (
                "trian:setup",
                (
                    "there is no module 'trian' in the current folder or installed, did you mean 'train'?; "
                    "a file is named with its ending, as in train.py:setup"
                ),
            ),
            (
                "train.sub:setup",
                (
                    "there is no module 'train.sub' in the current folder or installed, did you mean 'train'?; "
                    "a file is named with its ending, as in train.py:setup"
                ),
            ),
            (
                "no_such.module:setup",
                (
                    "there is no module 'no_such' (nor, so, 'no_such.module') in the current folder or installed; "
                    "a file is named with its ending, as in train.py:setup"
                ),
            ),
            (
                "my-train:setup",
                "'my-train' is neither a Python file (file.py) nor the dotted name of a module",
            ),
        ],
    )
    def test_about_what_was_typed(self, tmp_path, target, message):
        write(tmp_path / "train.py", SETUP + "\n    def other(): ...\n")
        write(tmp_path / "empty.py", "")
        write(tmp_path / "notes.txt", "")
        (tmp_path / "folder.py").mkdir()
        said = complaint(target)
        assert said == (message or said)

    def test_about_a_demo_that_does_not_exist(self):
        said = complaint("demo:sadle")
        assert said.startswith(
            "there is no demo 'sadle', did you mean 'saddle'?; there are: lecture, saddle,"
        )

    @pytest.mark.parametrize(
        ("body", "message"),
        [
            ("thing = 3", "train.py:thing is neither a function nor a Training but an int"),
            (
                "def thing(): Training()",
                "thing() of train.py failed at train.py:1: NameError: name 'Training' is not defined",
            ),
            (
                "def thing(): pass",
                "train.py:thing must return an unstuck.Training, not None: did you forget `return`?",
            ),
            ("def thing(): return {}", "train.py:thing must return an unstuck.Training, not a dict"),
            (
                "async def thing(): ...",
                "train.py:thing must return an unstuck.Training, not a coroutine: it must not be async",
            ),
            (
                "from torch.nn import Linear\ndef thing(): return Linear(1, 1)",
                (
                    "train.py:thing must return an unstuck.Training, not a Linear: "
                    "return unstuck.Training(model=..., loss=..., data=..., optimizer=...)"
                ),
            ),
            (
                "def thing(rate, *, size, more=1): ...",
                (
                    "train.py:thing needs arguments (rate, size): "
                    "name a function that can be called without any, such as one that calls it"
                ),
            ),
            (
                "import helper\ndef thing(): helper.load()",
                (
                    "thing() of train.py failed at helper.py:3: FileNotFoundError: "
                    "[Errno 2] No such file or directory: 'data.csv'"
                ),
            ),
            (
                "import torch\n\ndef thing():\n    torch.ones(2) @ torch.ones(3)",
                (
                    "thing() of train.py failed at train.py:4: RuntimeError: "
                    "inconsistent tensor size, expected tensor [2] and src [3] to have the same number of elements, "
                    "but got 2 and 3 elements respectively"
                ),
            ),
            (
                "import unstuck\nfrom torch.nn import ReLU\ndef thing():\n    unstuck.Training(ReLU(), print, [])",
                (
                    "thing() of train.py failed at train.py:4: `model` has no parameters: "
                    "pass the module that is being trained, not ReLU"
                ),
            ),
            ("1 / 0", "train.py failed at train.py:1: ZeroDivisionError: division by zero"),
            (
                "import nowhere",
                "train.py failed at train.py:1: ModuleNotFoundError: No module named 'nowhere'",
            ),
            (
                "\nfrom .helper import load",
                (
                    "train.py failed at train.py:2: ImportError: attempted relative import with no known parent "
                    "package (name the file by its module instead, as in package.module:function)"
                ),
            ),
            ("def thing(:", "train.py is not valid Python at train.py:1: invalid syntax: `def thing(:`"),
            (
                "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.parse_args()",
                (
                    "train.py ended the program with sys.exit(2) at train.py:4: "
                    "it asks for arguments of a command line, and gets none here: give them defaults"
                ),
            ),
            (
                "import sys\nsys.exit(2)",
                (
                    "train.py ended the program with sys.exit(2) at train.py:2: "
                    'put what should run only as a script under `if __name__ == "__main__":`'
                ),
            ),
            (
                "def thing():\n    raise ValueError('one\\ntwo')",
                "thing() of train.py failed at train.py:2: ValueError: one two",
            ),
            ("def thing():\n    raise ValueError", "thing() of train.py failed at train.py:2: ValueError"),
        ],
    )
    def test_about_what_is_in_the_file(self, tmp_path, body, message):
        write(tmp_path / "helper.py", "\ndef load():\n    open('data.csv')")
        write(tmp_path / "train.py", body)
        assert complaint("train.py:thing") == message

    def test_about_a_module_whose_package_fails(self, tmp_path):
        write(tmp_path / "package_that_fails" / "__init__.py", "import nowhere")
        write(tmp_path / "package_that_fails" / "train.py", SETUP)
        said = complaint("package_that_fails.train:setup")
        assert said == "package_that_fails.train failed: ModuleNotFoundError: No module named 'nowhere'"

    def test_about_a_module_that_fails(self, tmp_path):
        write(tmp_path / "module_that_fails.py", "\n1 / 0")
        said = complaint("module_that_fails:setup")
        assert (
            said == "module_that_fails failed at module_that_fails.py:2: ZeroDivisionError: division by zero"
        )

    def test_about_a_name_that_would_push_out_a_module_in_use(self, tmp_path):
        write(tmp_path / "random.py", SETUP)
        said = complaint("random.py:setup")
        assert said == "random.py has the name of the module 'random', which is in use: rename the file"
        assert str(tmp_path) not in sys.path

    def test_with_the_original_exception_as_its_cause(self, tmp_path):
        write(tmp_path / "train.py", "1 / 0")
        with pytest.raises(TargetError) as caught:
            load_training("train.py:setup")
        assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def test_of_a_long_message_the_beginning(self, tmp_path):
        write(tmp_path / "train.py", "raise ValueError('word ' * 1000)")
        assert re.fullmatch(
            r"train.py failed at train.py:1: ValueError: word .{200,300}\.\.\.", complaint("train.py:f")
        )


def test_a_file_that_fails_is_not_left_half_imported(tmp_path):
    write(tmp_path / "train.py", "1 / 0")
    complaint("train.py:setup")
    assert "train" not in sys.modules


def test_ctrl_c_in_the_users_file_is_not_taken_for_an_error(tmp_path):
    write(tmp_path / "train.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load_training("train.py:setup")


def test_the_training_is_the_one_that_the_function_makes(tmp_path):
    write(tmp_path / "train.py", SETUP)
    training = load_training("train.py:setup")
    assert training.model is sys.modules["train"].model
    assert torch.equal(next(iter(training.data))[0], torch.ones(4, 2))
