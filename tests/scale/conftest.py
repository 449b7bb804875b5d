"""A real Ray cluster on this machine: a head of one core, to which tests add nodes of one core each."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_memory_monitor_refresh_ms": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TEST_KEY": "sk-never-to-be-seen-77",
}
STORE = 200 * 2**20


@contextmanager
def nodes(cluster: Any, count: int) -> Iterator[list[Any]]:
    """Have so many nodes besides the head; yield those that were added."""
    added = [cluster.add_node(num_cpus=1, object_store_memory=STORE) for _ in range(count)]
    cluster.wait_for_nodes()
    try:
        yield added
    finally:
        for node in added:
            if node in cluster.list_all_nodes():
                cluster.remove_node(node)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """The head alone; this process has joined it."""
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    before = {name: os.environ.get(name) for name in ENVIRONMENT}
    os.environ.update(ENVIRONMENT)
    try:
        made = Cluster(
            initialize_head=True,
            head_node_args={"num_cpus": 1, "object_store_memory": STORE, "include_dashboard": False},
        )
        try:
            ray.init(address=made.address, log_to_driver=False, logging_level=logging.ERROR)
            yield made
        finally:
            ray.shutdown()
            made.shutdown()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
