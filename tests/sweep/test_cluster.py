"""Cells on a real Ray cluster of two nodes on the loopback, one of which is killed while cells run
on it.
"""

import json
import os
import sys

import numpy as np
import pytest
from commands import devsort, last_line
from sweeps import jobs_of, tiny_jobs, write_study

from devsort.errors import UserError
from devsort.sorting.artifacts import LLC
from devsort.sorting.checkpoints import load_checkpoint
from devsort.sorting.run import open_run
from devsort.sweep import cluster as cluster_module
from devsort.sweep import load_table, read_study
from devsort.sweep.cell import current_step
from devsort.sweep.cluster import run_cluster, run_task
from devsort.sweep.local import run_local

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'devsort[cluster]'")
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


def quiet(_):
    pass


@pytest.fixture(scope="module")
def cluster():
    """Two nodes of one core each: the cluster and the node that may be killed."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={**NODE, "include_dashboard": False})
    yield found, found.add_node(**NODE)
    found.shutdown()


def test_killing_a_node_loses_no_cell_and_counts_none_twice(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(cluster_module, "POLL", 0.05)
    nodes, second = cluster
    path = write_study(
        tmp_path, grid={"seed": "0..3"}, steps=["train", "llc"], set={"train.steps": 300}
    )
    study, out, killed = read_study(path), tmp_path / "out", []

    def kill_while_two_run(jobs):
        if not killed and sum(current_step(job.folder) is not None for job in jobs) == 2:
            killed.append(True)
            nodes.remove_node(second, allow_graceful=False)

    out.mkdir()
    outcomes = list(run_cluster(jobs_of(study, out), nodes.address, 1, 0, kill_while_two_run))
    assert killed and sorted((o.name, o.error) for o in outcomes) == [
        (f"seed{i}", None) for i in range(4)
    ]
    gathered = devsort("sweep", path, "--out", out, "--workers", "0", "--json")
    assert json.loads(gathered.out)["done"] == 4
    assert sorted(load_table(out).cell) == [f"seed{i}" for i in range(4)]
    check_against_local(jobs_of(study, tmp_path / "here")[:1], jobs_of(study, out))


def check_against_local(here, there):
    """The first cells again on this machine: the same bits."""
    assert [o.error for o in run_local(here, 1, 1, quiet)] == [None] * len(here)
    for ours, theirs in zip(here, there, strict=False):
        a, b = open_run(ours.folder), open_run(theirs.folder)
        last = a.steps()[-1]
        assert all(
            np.array_equal(v, load_checkpoint(b, last)[k])
            for k, v in load_checkpoint(a, last).items()
        )
        assert a.read(LLC).drop_attrs().identical(b.read(LLC).drop_attrs())
        rows = [json.loads((job.folder / "cell.json").read_text())["row"] for job in (ours, theirs)]
        assert rows[0] == rows[1]


def test_a_failing_cell_and_a_lost_process_are_told(cluster, tmp_path):
    groups = {
        "wild": {"set": {"train.lr": 1e11, "model.layer_norm": False, "train.steps": 200}},
        "plain": None,
    }
    path = write_study(tmp_path, groups=groups, steps=["train"])
    result = devsort(
        "sweep", path, "--out", tmp_path / "out", "--address", cluster[0].address, "--json"
    )
    rows = {r["cell"]: r["error"] for r in json.loads(result.out)["rows"]}
    assert result.code == 2 and rows["plain"] is None
    assert rows["wild"].startswith("training diverged by step ")


def test_a_node_that_does_not_share_the_files_is_told(tmp_path):
    (job,) = tiny_jobs(tmp_path)
    outcome = run_task(job, str(tmp_path))
    told = f"node {os.uname().nodename} does not see {job.folder.parent}"
    assert outcome.error == f"{told}; start its Ray where the file system is shared"


def test_no_cluster_is_a_users_error(tmp_path):
    path = write_study(tmp_path, steps=["train"])
    result = devsort("sweep", path, "--out", tmp_path / "out", "--address", "127.0.0.1:1")
    assert result.code == 2
    assert last_line(result.err).startswith("devsort: error: no Ray cluster listens at 127.0.0.1:1")


def test_no_ray_is_a_users_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError) as e:
        next(run_cluster(tiny_jobs(tmp_path), "auto", 1, 0, quiet))
    assert (
        str(e.value)
        == "--address needs Ray, which is not installed; run `pip install 'devsort[cluster]'`"
    )
