"""One rate and one budget for many workers: a purse that all of them ask, and the tether that binds a worker to it.

Money is told of a few times a second and never asked for beforehand: no call waits for the purse, and what is in
flight when it is empty is overspent. Nothing here knows of Ray, so that both can be tried without a cluster.
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

from discretion.judges.asking import OK, Block, Judgement

BURST_SECONDS = 5.0
"""So many seconds' worth of the rate may be saved up while workers wait for answers."""

_TELL_SECONDS = 0.2


class Purse:
    """Holds the budget and the rate of a run; workers tell it what they spent and ask when they may go on.

    Parameters
    ----------
    budget : float or None
        US dollars.
    rate : float or None
        Judgements begun a second, of all workers together.
    clock : callable
        Seconds; another one makes tests quick.
    lifeline : int, optional
        The port of a `Lifeline`. When it breaks, the run is over: nobody is left to take the answers.
    """

    def __init__(
        self,
        budget: float | None,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        lifeline: int | None = None,
    ) -> None:
        self._budget, self._rate, self._clock = budget, rate, clock
        self._driver: socket.socket | None = None
        if lifeline is not None:
            with contextlib.suppress(OSError):  # where this process shares no network with it, nothing is watched
                self._driver = socket.create_connection(("127.0.0.1", lifeline), timeout=5)
                self._driver.setblocking(False)
        self._spent = 0.0
        self._turns = 1.0
        self._at: float | None = None  # nothing is saved up before the first worker asks
        self._stopped = False

    def tell(self, cost: float, unpriced: bool = False) -> bool:
        """Take note of what was spent, and return whether to begin no more.

        Parameters
        ----------
        cost : float
            US dollars since the worker last told.
        unpriced : bool
            Whether there were answers and none had a price: with a budget, this ends the run.
        """
        self._spent += cost
        self._stopped |= self._budget is not None and (unpriced or self._spent >= self._budget)
        self._stopped |= self._deserted()
        return self._stopped

    def spent(self) -> float:
        """Return what all workers have told of, also those that were lost with what it bought."""
        return self._spent

    def stop(self) -> None:
        """Have all workers finish what is in flight and begin no more."""
        self._stopped = True

    def turn(self, sizes: Sequence[int]) -> tuple[int, float]:
        """Return how many of the next comparisons may be asked now, and seconds to wait where it is none.

        A comparison is never divided, since its asks may share one call. The last one may go into debt, which the
        next ones wait for: the rate is kept in the long run, whatever the sizes.

        Parameters
        ----------
        sizes : sequence of int
            Judgements of each comparison, in order.
        """
        if self._rate is None:
            return len(sizes), 0.0
        now = self._clock()
        most = max(self._rate * BURST_SECONDS, 1.0)
        past = 0.0 if self._at is None else now - self._at
        self._turns = min(self._turns + past * self._rate, most)
        self._at = now
        taken = 0
        while taken < len(sizes) and self._turns > 0:
            self._turns -= sizes[taken]
            taken += 1
        return taken, 0.0 if taken else -self._turns / self._rate + 1e-3

    def _deserted(self) -> bool:
        if self._driver is None:
            return False
        try:
            return self._driver.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


class Lifeline:
    """A socket that the process which runs everything keeps open; it breaks with it, however it ends.

    A cluster that the process has started ends with it as well, but takes seconds, in which its workers would go on
    paying.
    """

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])

    def close(self) -> None:
        """Have it break."""
        self._socket.close()


class Ways(Protocol):
    """How a tether reaches the purse: its own methods, or calls to the process where it lives."""

    def tell(self, cost: float, unpriced: bool = False) -> bool:
        """See `Purse.tell`."""

    def turn(self, sizes: Sequence[int]) -> tuple[int, float]:
        """See `Purse.turn`."""


class Tether:
    """Binds a worker to a purse while it asks a block; a context manager, and the `Stop` of its judge.

    A thread of its own tells the purse, so that no judge waits for it between two calls.

    Parameters
    ----------
    ways : Ways
    """

    def __init__(self, ways: Ways) -> None:
        self._ways = ways
        self._lock = threading.Lock()
        self._cost, self._priced, self._answered = 0.0, False, False
        self._over, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep_telling, daemon=True)

    def __enter__(self) -> Self:
        self._tell()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        self._tell()

    def is_set(self) -> bool:
        """Whether to begin no more."""
        return self._over.is_set()

    def spent(self, judgements: Sequence[Judgement]) -> None:
        """Take note of what judgements cost; told a little later."""
        priced = [one.cost for one in judgements if not math.isnan(one.cost)]
        with self._lock:
            self._cost += sum(priced)
            self._priced |= bool(priced)
            self._answered |= any(one.status == OK for one in judgements)

    def allowed(self, blocks: Sequence[Block]) -> int:
        """Wait for a turn, and return how many of the blocks may be asked; none once it is over."""
        while not self.is_set():
            taken, wait = self._ways.turn([len(block.asks) for block in blocks])
            if taken:
                return taken
            self._over.wait(min(wait, 1.0))
        return 0

    def _keep_telling(self) -> None:
        while not self._ended.wait(_TELL_SECONDS):
            self._tell()

    def _tell(self) -> None:
        with self._lock:
            cost, self._cost = self._cost, 0.0
            unpriced = self._answered and not self._priced
        try:
            over = self._ways.tell(cost, unpriced)
        except Exception:
            # A purse out of reach is no leave to spend; the block ends with what it has.
            self._over.set()
            raise
        if over:
            self._over.set()
