"""A study on the workers of a real cluster, started on this machine, gives what it gives alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CLUSTERS = {
    "ray": """
import ray
from ray.util.joblib import register_ray
ray.init(
    num_cpus=2,
    include_dashboard=False,
    log_to_driver=False,
    object_store_memory=100_000_000,
    _node_ip_address="127.0.0.1",
)
register_ray()
""",
    "dask": """
from dask.distributed import Client
client = Client(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1")
""",
}

SCRIPT = """
import os
import sys
from pathlib import Path
import joblib
from small import SMALL
from unstuck.study.running import run_study
from unstuck.study.store import Store

if __name__ == "__main__":
{cluster}
    with Store(Path("there.sqlite")) as there, Store(Path("here.sqlite")) as here:
        with joblib.parallel_config(backend="{name}"):
            first = run_study(SMALL, there, seeds=2)
            again = run_study(SMALL, there, resume=True)
        alone = run_study(SMALL, here, jobs=1)
    assert (first.kept, again.kept) == (0, 4)
    assert again.table == alone.table
    print("the same")
"""


@pytest.mark.parametrize("name", list(CLUSTERS))
def test_a_cluster_makes_the_same_runs_and_they_are_kept(name, tmp_path):
    indented = "".join(f"    {line}\n" for line in CLUSTERS[name].strip().splitlines())
    (tmp_path / "script.py").write_text(SCRIPT.format(cluster=indented, name=name))
    paths = [str(Path(__file__).parent), *sys.path]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
        "HOME": str(tmp_path),  # where Ray keeps a token
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "the same" in done.stdout
