"""A lock on a folder that may be exchanged for another one while somebody waits for it.

It is taken on the folder itself, so that no lock file lies beside the data; it binds only those who ask for it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

_NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
_LOOKS = 50
_PAUSE = 0.01  # seconds


@contextlib.contextmanager
def held(folder: str | Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a folder: nobody else who asks for it has it meanwhile, in this process or another.

    The folder that is held is the one that stands at the path. Not to be taken twice by the same thread: it would
    wait for itself. On Windows, and on file systems without locks, nothing is held.

    Parameters
    ----------
    folder : path
        A folder; a link to one is followed.
    shared : bool
        Hold it together with others who ask for a share, against those who want it alone.

    Raises
    ------
    OSError
        There is no such folder, or it cannot be opened.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = _locked(folder, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        # Unlocked, not only closed: a process forked meanwhile has a copy of the descriptor.
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


@contextlib.contextmanager
def alone(folder: str | Path) -> Iterator[bool]:
    """Hold a folder if nobody else does, without waiting; yields whether it is held.

    On Windows, and on file systems without locks, it is as if nobody else did.

    Parameters
    ----------
    folder : path

    Raises
    ------
    OSError
        There is no such folder, or it cannot be opened.
    """
    if sys.platform == "win32":
        yield True
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            _wait(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _locked(folder: str | Path, kind: int) -> int:
    """Return a descriptor, locked, of the folder that stands at a path after the waiting."""
    looks = 0
    while True:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            # Where two folders cannot be exchanged in one step, there is none for the time between two renames.
            looks += 1
            if looks == _LOOKS:
                raise
            time.sleep(_PAUSE)
            continue
        try:
            _wait(descriptor, kind)
            if _stands_at(folder, descriptor):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # exchanged while we waited: what is at the path now is another folder


def _wait(descriptor: int, kind: int) -> None:
    try:
        fcntl.flock(descriptor, kind)
    except OSError as error:
        # Some network file systems have no locks on folders. Refusing to work there would lose more than it saves.
        if error.errno not in _NO_LOCKS:
            raise


def _stands_at(folder: str | Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(folder), os.fstat(descriptor))
    except FileNotFoundError:
        return False
