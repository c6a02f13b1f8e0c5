import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small import SLOW, SMALL

from unstuck.cli import main
from unstuck.study import catalogue
from unstuck.study.catalogue import STUDIES


@pytest.fixture
def run(capsys, tmp_path, monkeypatch):
    """Run the command in this process, with the small study beside the real ones."""
    monkeypatch.setitem(catalogue.STUDIES, "small", SMALL)
    monkeypatch.setitem(catalogue.STUDIES, "slow", SLOW)

    def run(*arguments):
        with pytest.raises(SystemExit) as caught:
            main(["study", *map(str, arguments)])
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


def test_without_a_name_every_study_is_listed_in_one_line(run):
    code, out, err = run()
    assert (code, err) == (0, "")
    assert [line.split()[0] for line in out.splitlines()] == list(STUDIES)
    assert max(map(len, out.splitlines())) <= 100


def test_a_name_that_is_none_is_one_line_with_those_that_are(run, tmp_path):
    code, out, err = run("smal", "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err.startswith("error: there is no study 'smal': choose all or surface, ")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_scale_that_is_none_is_one_line(run):
    assert run("small", "--scale", "big")[::2] == (2, "error: --scale must be small or full, not 'big'\n")


def test_page_table_and_store_are_written(run, tmp_path):
    code, out, err = run("small", "--out", tmp_path / "out")
    assert code == 0
    assert out.startswith("small: A small study\n")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"runs.sqlite", "small.csv", "small.html"}
    assert "\x1b" not in out + err
    assert f"wrote {tmp_path / 'out' / 'small.html'}" in err


def test_of_several_studies_there_is_a_page_of_all(run, tmp_path):
    assert run("small", "slow", "--out", tmp_path)[0] == 0
    links = re.findall(r'href="(\w+\.html)"', (tmp_path / "index.html").read_text())
    assert links == ["small.html", "slow.html"]


def test_the_document_alone_comes_on_standard_output(run, tmp_path):
    code, out, _ = run("small", "--json", "-", "--seeds", "2", "--out", tmp_path)
    assert code == 0
    assert json.loads(out)["studies"][0]["runs"] == 4


def test_finished_runs_are_kept_with_resume(run, tmp_path):
    run("small", "--out", tmp_path)
    assert "6 of them kept from before" in run("small", "--out", tmp_path, "--resume")[1]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interruption_ends_with_130_and_keeps_what_is_done(jobs, tmp_path):
    script = (
        "import sys\nfrom small import SLOW\nfrom unstuck.cli import main\n"
        "from unstuck.study.catalogue import STUDIES\nSTUDIES['slow'] = SLOW\nmain(sys.argv[1:])\n"
    )
    arguments = ["study", "slow", "--seeds", "40", "--out", str(tmp_path), "--jobs", str(jobs)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        for line in process.stderr:
            if " of 80 runs" in line and not line.startswith("  0%"):
                break
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all of them
        rest = process.stderr.read()
        assert process.wait(timeout=60) == 130, rest
    assert "error: interrupted; finished runs are kept: go on with --resume" in rest
    assert "Traceback" not in rest
