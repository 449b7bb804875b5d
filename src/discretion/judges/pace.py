"""How many calls an endpoint bears: additive increase, multiplicative decrease, pauses that it asks for.

As in TCP: fast until the first push back, then careful. One pace for all calls to an endpoint.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

_BEGIN = 16
_LONGEST_PAUSE = 30.0


class Pace:
    """Lets calls through.

    Parameters
    ----------
    at_most : int
        Calls in flight, whatever the endpoint bears.
    clock : callable
        Seconds; another one makes tests quick.
    """

    def __init__(self, at_most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._at_most, self._clock = at_most, clock
        self.limit = float(min(at_most, _BEGIN))
        self.active = 0
        self._begun = clock()
        self._careful = False
        self._paused_until = self._decreased = float("-inf")
        self._pause = 0.5
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.last_good = clock()

    async def enter(self) -> None:
        """Wait for a turn."""
        while True:
            pause = self._paused_until - self._clock()
            if pause > 0:
                await asyncio.sleep(pause)
            elif self.active < int(self.limit):
                self.active += 1
                return
            else:
                turn = asyncio.get_running_loop().create_future()
                self._waiting.append(turn)
                await turn

    def leave(self) -> None:
        """End a turn."""
        self.active -= 1
        self._wake()

    def good(self) -> None:
        """Note that a call was answered: the endpoint may bear more."""
        self.last_good = self._clock()
        self._pause = 0.5
        step = 1.0 / self.limit if self._careful else 1.0
        self.limit = min(self.limit + step, float(self._at_most))
        self._wake()

    def push_back(self, asked: float | None = None) -> None:
        """Note that the endpoint had too much: halve the calls, and pause as long as it asks for.

        Parameters
        ----------
        asked : float, optional
            Seconds that it asked for; without them pauses grow from half a second.
        """
        now = self._clock()
        self._careful = True
        if now - self._decreased > 1.0 or asked is not None:  # calls in flight push back for the same reason
            self._decreased = now
            self.limit = max(self.limit / 2, 1.0)
        self._paused_until = max(self._paused_until, now + (asked if asked is not None else 0.0))

    def away(self, wait: float = 1.0) -> None:
        """Note that the endpoint is not there: pause, longer each time, and come back with a single call."""
        now = self._clock()
        self._careful = True
        self.limit = 1.0
        if now >= self._paused_until:
            self._paused_until = now + self._pause * wait
            self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _wake(self) -> None:
        free = int(self.limit) - self.active
        while free > 0 and self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                free -= 1
