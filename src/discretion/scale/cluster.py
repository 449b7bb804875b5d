"""Starting or joining a Ray cluster, and leaving it.

One of the modules that import ray as they load. A cluster that the caller has joined already is used as it is and
left running; whatever is started here is stopped here.
"""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from discretion.errors import DiscretionError, ExtraError, shown

try:
    import ray
except ModuleNotFoundError as error:
    raise ExtraError("ray", "Working on a cluster") from error

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing about a study leaves the machines unasked
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what Ray will do by default; without it each start warns
}


_KNOCK_SECONDS = 5.0  # Ray itself tries for a minute and a half, and fills the screen meanwhile


@contextmanager
def connect(address: str | None = None) -> Iterator[None]:
    """Join the cluster at an address, or start one on this machine, and leave it at the end.

    Parameters
    ----------
    address : str, optional
        "auto" for the cluster that this machine belongs to, "HOST:PORT" of its head (of that one too: to work on a
        cluster elsewhere, submit a job), "local" for a new one with this machine's cores. By default what the
        environment variable RAY_ADDRESS says (`ray job submit` sets it), otherwise "local".

    Raises
    ------
    DiscretionError
        No cluster answers there.
    """
    if ray.is_initialized():
        yield
        return
    before = {key: os.environ.get(key) for key in _QUIET}
    for key, value in _QUIET.items():
        os.environ.setdefault(key, value)
    given = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        _knock(given)
        dashboard = False if given == "local" else None  # only who starts a cluster decides
        ray.init(address=given, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=dashboard)
    except (OSError, RuntimeError, ValueError) as error:
        if given == "local":
            raise DiscretionError(f"no Ray cluster could be started on this machine: {error}") from error
        whose = "" if address else " (the environment variable RAY_ADDRESS)"
        raise DiscretionError(
            f"no Ray cluster answers at {shown(given)}{whose}: {error} "
            "Start one with `ray start --head`, or name the address local to use this machine alone."
        ) from error
    finally:
        for key, was in before.items():
            if was is None:
                del os.environ[key]
            else:
                os.environ[key] = was
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Refuse what Ray would try in vain."""
    if "://" in address:
        raise ValueError(
            "An address with :// is one for Ray's own client or for jobs, through which nothing is run here. "
            "Run the command within the cluster: ray job submit --address http://HEAD:8265 -- discretion …"
        )
    found = re.fullmatch(r"\[?([^\]]+?)\]?:(\d+)", address)
    if found is not None:
        socket.create_connection((found[1], int(found[2])), timeout=_KNOCK_SECONDS).close()
