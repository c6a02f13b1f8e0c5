"""A script runs as under `python`: arguments, `__main__`, exceptions, exit code, standard input."""

import subprocess
import sys
import textwrap

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SCRIPT = """
import sys
print(sys.argv, __name__, __file__, sys.path[0], sys.stdin.read())
if "raise" in sys.argv:
    def inner():
        raise ValueError("boo")
    inner()
if "hook" in sys.argv:
    sys.excepthook = lambda kind, error, trace: print("own hook", kind.__name__, trace.tb_frame.f_code.co_name)
    raise ValueError
if "exit" in sys.argv:
    sys.exit(7)
if "text" in sys.argv:
    sys.exit("some text")
if "interrupt" in sys.argv:
    raise KeyboardInterrupt
if "atexit" in sys.argv:
    import atexit
    def later():
        print("later", __name__, sys.modules["__main__"].later is later)
    atexit.register(later)
if "pickle" in sys.argv:
    import pickle
    class Own: pass
    assert type(pickle.loads(pickle.dumps(Own()))) is Own
if "path" in sys.argv:
    import beside
    print(beside.VALUE)
"""


@pytest.fixture
def script(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "beside.py").write_text("VALUE = 42")
    return tmp_path / "script.py"


def both(*arguments, cwd, ours=(), given="some input"):
    """Run by Python, and by us."""
    return [
        subprocess.run(
            [sys.executable, *before, *arguments],
            cwd=cwd,
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        for before in ((), ("-m", "unstuck", "run", *ours))
    ]


def without_ours(text):
    return [line for line in text.splitlines() if not line.startswith("unstuck: ")]


@pytest.mark.parametrize(
    "argument", ["raise", "hook", "exit", "text", "interrupt", "atexit", "pickle", "path", "--help", "--out"]
)
def test_it_ends_as_under_python(script, argument):
    alone, ours = both("script.py", argument, cwd=script.parent)
    assert ours.returncode == alone.returncode
    assert ours.stdout == alone.stdout
    assert without_ours(ours.stderr) == without_ours(alone.stderr)


def test_as_a_module_too(script):
    package = script.parent / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "train.py").write_text(SCRIPT)
    for argument in ("x", "exit", "raise"):
        alone, ours = both("-m", "package.train", argument, cwd=script.parent)
        assert ours.returncode == alone.returncode
        assert ours.stdout == alone.stdout
        # Python's own frames of `runpy` are left out.
        assert without_ours(ours.stderr)[-2:] == without_ours(alone.stderr)[-2:]


def test_a_folder_with_a_main_runs(tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app" / "__main__.py").write_text("import sys; print(sys.argv, __name__)")
    alone, ours = both("app", "x", cwd=tmp_path)
    assert (ours.returncode, ours.stdout) == (alone.returncode, alone.stdout)


def test_a_script_that_is_not_there_is_one_clear_line(tmp_path):
    _, ours = both("nowhere.py", cwd=tmp_path)
    assert ours.returncode == 2
    assert ours.stderr == "error: cannot run nowhere.py: there is no such file\n"


@pytest.mark.parametrize("name", ["nowhere", "package.nowhere"])
def test_a_module_that_is_not_there_is_the_line_that_python_says(name, tmp_path):
    (tmp_path / "package").mkdir()
    alone, ours = both("-m", name, cwd=tmp_path)
    assert ours.returncode == alone.returncode == 1
    assert alone.stderr in ours.stderr
    assert "Traceback" not in ours.stderr


def test_what_a_module_fails_to_import_is_shown_where(tmp_path):
    (tmp_path / "train.py").write_text("import nowhere_at_all")
    _, ours = both("-m", "train", cwd=tmp_path)
    assert 'train.py", line 1' in ours.stderr


def test_weights_that_are_changed_by_hand_are_said_not_to_be_followed(tmp_path):
    (tmp_path / "s.py").write_text("import torch; torch.ones(2, requires_grad=True).sum().backward()")
    _, ours = both("s.py", cwd=tmp_path)
    assert "losses were differentiated, but weights that are changed by hand are not followed" in ours.stderr


def test_pytorch_is_not_imported_before_the_script_does_so(tmp_path):
    (tmp_path / "s.py").write_text(
        textwrap.dedent(
            """
            import os, sys
            assert "torch" not in sys.modules
            assert "numpy" not in sys.modules
            os.environ["OMP_NUM_THREADS"] = "1"
            import torch
            print(torch.get_num_threads())
            """
        )
    )
    _, ours = both("s.py", cwd=tmp_path)
    assert ours.stdout == "1\n", ours.stderr


def test_where_nothing_can_be_recorded_the_script_runs_all_the_same(tmp_path):
    (tmp_path / "s.py").write_text("import torch; print('ran')")
    (tmp_path / "file").write_text("")
    _, ours = both("s.py", cwd=tmp_path, ours=("--out", "file/runs"))
    assert (ours.returncode, ours.stdout) == (0, "ran\n")
    assert "cannot make the folder file/runs: Not a directory; the run is not recorded" in ours.stderr


def test_a_script_without_pytorch_is_told_so(tmp_path):
    (tmp_path / "s.py").write_text("print('ran')")
    _, ours = both("s.py", cwd=tmp_path)
    assert ours.stdout == "ran\n"
    assert "never imported torch" in ours.stderr


@pytest.mark.slow
def test_numbers_and_findings_go_to_tensorboard_where_that_is_asked_for(tmp_path):
    (tmp_path / "s.py").write_text(
        textwrap.dedent(
            """
            import torch
            weight = torch.nn.Parameter(torch.ones(3))
            optimizer = torch.optim.SGD([weight], lr=0.0)
            for _ in range(300):
                optimizer.zero_grad()
                weight.square().sum().backward()
                optimizer.step()
            """
        )
    )
    _, ours = both("s.py", cwd=tmp_path, ours=("--tensorboard", "board"))
    assert ours.returncode == 0, ours.stderr
    board = EventAccumulator(str(tmp_path / "board"))
    board.Reload()
    assert {"unstuck/loss", "unstuck/gradient_norm", "unstuck/stalled"} <= set(board.Tags()["scalars"])
    assert any(tag.startswith("unstuck/stall") for tag in board.Tags()["tensors"])


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_script_may_go_to_another_folder(tmp_path, where):
    go = "import os, tempfile; os.chdir(tempfile.mkdtemp())"
    steps = """
        import time
        weight = torch.ones(1, requires_grad=True)
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for _ in range(3):
            weight.square().sum().backward()
            optimizer.step()
        time.sleep(0.7)  # until something has been written
    """
    lines = [go, "import torch"] if where == "before" else ["import torch", go]
    (tmp_path / "script.py").write_text("\n".join([*lines, textwrap.dedent(steps)]))
    theirs, ours = both("script.py", cwd=tmp_path, ours=("--out", "runs"))
    assert (theirs.returncode, ours.returncode) == (0, 0)
    (file,) = (tmp_path / "runs").glob("*.sqlite")
    named = file if where == "before" else file.relative_to(tmp_path)
    assert ours.stderr == f"unstuck: 3 steps recorded: unstuck show {named}\n"
