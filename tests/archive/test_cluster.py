"""An archive on a Ray cluster of two nodes, one of which is killed: each study is a row once."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cardiojax.archive import BatchConfig
from cardiojax.cli.batch import analyze_archive
from tests.helpers.archive import make_sizes

parquet = pytest.importorskip("pyarrow.parquet")
os.environ.setdefault("RAY_enable_metrics_collection", "0")  # read when ray is imported; nodes start sooner
ray = pytest.importorskip("ray", reason="needs cardiojax[cluster]")
#: Ray leaves sockets and files to the garbage collector.
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
ROOT = Path(__file__).parents[2]


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes of one processor core each on this machine."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("CARDIOJAX_TEST_DELAY", "0.3")
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")
    memory = 80 * 2**20
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 2, "object_store_memory": memory, "include_dashboard": False},
    )
    cluster.second = cluster.add_node(num_cpus=2, object_store_memory=memory)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def archive(root: Path, num: int) -> Path:
    for i in range(num):
        (root / f"{i:03d}").mkdir(parents=True)
        np.save(root / f"{i:03d}" / "loop.npy", np.ones((1, 32, 32 + i), np.float32))
    return root


def test_each_study_is_there_once_though_a_node_dies(tmp_path, cluster):
    root, out, num = archive(tmp_path / "archive", 24), tmp_path / "t.parquet", 24
    (root / "kills").mkdir()
    np.save(root / "kills" / "kills.npy", np.ones((1, 32, 32), np.float32))
    journal = tmp_path / "t.parquet.journal" / "journal.jsonl"

    def kill_node() -> None:
        while not journal.exists() or journal.read_bytes().count(b"\n") < 6:
            time.sleep(0.05)
        killed.append(journal.read_bytes().count(b"\n") - 1)
        cluster.remove_node(cluster.second, allow_graceful=False)

    killed: list[int] = []
    thread = threading.Thread(target=kill_node, daemon=True)
    thread.start()
    start = time.monotonic()
    counts, status = analyze_archive(
        root, out=out, config=BatchConfig(), make=make_sizes, num_workers=3, ray=cluster.address
    )
    thread.join(60)
    print(f"{time.monotonic() - start:.1f} s, node killed after {killed} rows, {os.cpu_count()} cores")
    assert 0 < killed[0] < num
    assert (*counts, status) == (num, 0, 1, True, 0)
    rows = parquet.read_table(out).to_pylist()
    assert len({row["study"] for row in rows}) == len(rows) == num + 1
    values = sorted(row["heart_rate_per_min"] for row in rows if row["status"] == "measured")
    assert values == [32.0 * (32 + i) for i in range(num)]
    assert {row["reason"] for row in rows} == {None, "The process that analysed it ended, each time."}


def test_an_absent_cluster_is_one_sentence(tmp_path):
    archive(tmp_path / "archive", 1)
    with pytest.raises(ValueError, match=r"no Ray cluster at 127\.0\.0\.1:1 "):
        analyze_archive(
            tmp_path / "archive",
            out=tmp_path / "t.parquet",
            config=BatchConfig(),
            make=make_sizes,
            ray="127.0.0.1:1",
        )
