"""Starting or joining a Ray cluster, and leaving it.

One of the modules that import ray as they load. A cluster that the caller has joined already is used as it is and
left running; whatever is started here is stopped here.
"""

from __future__ import annotations

import logging
import os
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


@contextmanager
def connect(address: str | None = None) -> Iterator[None]:
    """Join the cluster at an address, or start one on this machine, and leave it at the end.

    Parameters
    ----------
    address : str, optional
        "auto" for the cluster that this machine belongs to, "ray://HOST:PORT" for one elsewhere; by default what the
        environment variable RAY_ADDRESS says (`ray job submit` sets it), otherwise a new one with this machine's
        cores.

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
    dashboard = None if address is not None else False  # only who starts a cluster decides
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=dashboard)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise DiscretionError(
            f"no Ray cluster answers at {shown(address or 'this machine')}: {error} "
            "Start one with `ray start --head`, or leave the address out to use this machine alone."
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
