"""Jobs on a real Ray of one machine: the same bytes as without, and what is refused."""

import sys

import cloudpickle
import gates
import pytest
from folders import hashes, told

from devsort.execution.cluster import connected, run_ray
from devsort.networks.trajectory import Options, llc_trajectory

ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'devsort[cluster]'")


@pytest.fixture(scope="module")
def address():
    """A cluster of one node of one core."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=node)
    yield found.address
    found.shutdown()


def test_a_trajectory_of_the_cluster_is_that_of_this_machine(address, tmp_path):
    cloudpickle.register_pickle_by_value(gates)  # a node does not see the tests
    config = gates.CONFIG.model_copy(update={"num_draws": 8})
    for engine in ("local", "ray"):
        gates.save(tmp_path / engine / "checkpoints")
        options = Options(device="cpu", engine=engine, address=address)
        folder = tmp_path / engine
        llc_trajectory(
            gates.loss(),
            folder / "checkpoints",
            gates.X,
            config,
            restrictions={"first": {"1.weight": (0, 0)}},
            store=folder / "llc.zarr",
            options=options,
        )
    assert hashes(tmp_path / "ray" / "llc.zarr") == hashes(tmp_path / "local" / "llc.zarr")


def doubled(job, advanced):
    if job == 13:
        raise ValueError("thirteen")
    advanced(job)
    return 2 * job


def test_what_the_work_raises_is_raised_here(address):
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # of Ray's own copy
    done = []
    found = dict(
        run_ray(address, 0.0, doubled, [1, 2, 3], 1, done.append, together=lambda j: j % 2)
    )
    assert found == {1: 2, 2: 4, 3: 6} and sorted(done) == [2, 4]
    with pytest.raises(ValueError, match="thirteen"):
        list(run_ray(address, 0.0, doubled, [13], 1))


def test_a_cluster_that_does_not_answer_is_told():
    message = told(connected, "127.0.0.1:1")
    assert message.startswith("no Ray cluster listens at 127.0.0.1:1 (")
    assert message.endswith("start one with `ray start --head`, or look at the host and port")
