"""Curates on an engine in a process of its own: ``python engine_run.py daft|ray PAGES OUT``; ``OUT/done`` comes last.

``PAGES/newer`` are then curated against ``PAGES/local``, to ``OUT/newer``.  With ``ray`` two nodes of one processor
each are started on this machine.  ``done`` says where the work was done.
"""

import json
import os
import sys
from pathlib import Path

from herd.corpus import curate as module
from herd.corpus.curate import CurateConfig, curate
from herd.corpus.engine import EngineConfig, open_engine
from herd.foundation.progress import Progress


def where(_: int) -> int:
    """The process that does a piece of work; every node has its own."""
    return os.getpid()


def start_cluster() -> str:
    """The address of two nodes."""
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=node | {"include_dashboard": False})
    cluster.add_node(**node)
    return str(cluster.address)


def main() -> None:
    """Runs two curations in many small portions."""
    kind, pages, out = sys.argv[1:]
    settings = EngineConfig(kind=kind, address=start_cluster() if kind == "ray" else None)  # type: ignore[arg-type]
    module._PORTION_CHARACTERS = 20_000
    config = CurateConfig(engine=settings, workers=2)
    Path(out).mkdir()
    curate(config, Path(pages), Path(out), Progress.silent(), Path(pages) / "exam.jsonl")
    (Path(out) / "newer").mkdir()
    curate(config, Path(pages) / "newer", Path(out) / "newer", Progress.silent(), against=(Path(pages) / "local",))
    with open_engine(settings, 2) as engine:
        places = list(engine.map(where, range(12)))
    (Path(out) / "done").write_text(json.dumps({"driver": os.getpid(), "places": places}))


if __name__ == "__main__":
    main()
