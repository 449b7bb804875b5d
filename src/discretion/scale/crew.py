"""The workers of a judge on a Ray cluster: hired, handed blocks, replaced when they are lost, dismissed at the end.

One of the modules that import ray as they load. Plain actors rather than Ray Data: a run must be able to end in the
middle and keep what it has, and a block whose worker was lost must be the only one that is asked again.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from discretion.errors import DiscretionError, ExtraError, JudgeError, shown
from discretion.judges.asking import Block, Judge, Judgement, digest
from discretion.judges.opening import open_judge
from discretion.judges.spec import Options, Spec
from discretion.scale.pace import Purse, Tether
from discretion.scale.parts import packed

try:
    import ray
    from ray.exceptions import ObjectLostError, RayActorError, WorkerCrashedError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as error:
    raise ExtraError("ray", "Judging on a cluster") from error

_LOST = (RayActorError, ObjectLostError, WorkerCrashedError)
_MOST_LOSSES = 5  # workers that one block may cost before it is taken to be the reason
_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Answered:
    """What a worker made of a block.

    Parameters
    ----------
    part : bytes
        Its judgements; see `parts.packed`. Fewer than were asked for where the run was stopped.
    over : bool
        Whether the run was stopped.
    wrong : str
        Why the judge cannot be asked any more, or "". Text, since not every error survives the way to another process.
    """

    part: bytes
    over: bool
    wrong: str = ""


class Worker:
    """Opens a judge where it runs, and asks it a block at a time.

    Parameters
    ----------
    spec : Spec
    options : Options
        Without a key: only the name of the variable that holds it.
    purse : actor handle of a `Purse`
    """

    def __init__(self, spec: Spec, options: Options, purse: Any) -> None:
        self._spec, self._options, self._purse = spec, options, _ByRay(purse)
        self._judge: Judge | None = None

    def describe(self) -> tuple[str, dict[str, object], str]:
        """Open the judge; return its name and its identity, and what is wrong with it or ""."""
        try:
            self._judge = open_judge(self._spec, self._options)
        except DiscretionError as error:
            return "", {}, str(error)
        return self._judge.name, dict(self._judge.identity), ""

    def ask(self, blocks: list[Block]) -> Answered:
        """Ask what the purse allows; return what was answered, also where something went wrong."""
        judge = self._judge or open_judge(self._spec, self._options)
        made: list[Judgement] = []
        wrong = ""
        with Tether(self._purse) as tether:

            def deliver(judgements: list[Judgement]) -> None:
                made.extend(judgements)
                tether.spent(judgements)

            try:
                while blocks and (allowed := tether.allowed(blocks)):
                    judge.run(blocks[:allowed], deliver, tether)
                    blocks = blocks[allowed:]
            except DiscretionError as error:
                wrong = str(error)
        return Answered(packed(judge.name, judge.identity, made) if made else b"", tether.is_set(), wrong)


class _ByRay:
    """A purse in another process."""

    def __init__(self, purse: Any) -> None:
        self._purse = purse

    def tell(self, cost: float, unpriced: bool = False) -> bool:
        return cast(bool, ray.get(self._purse.tell.remote(cost, unpriced)))

    def turn(self, sizes: Sequence[int]) -> tuple[int, float]:
        return cast("tuple[int, float]", ray.get(self._purse.turn.remote(sizes)))


class Crew:
    """The workers of one judge; a context manager, in a cluster that was joined.

    Parameters
    ----------
    spec : Spec
    options : Options
        Its `at_once` is shared among the workers.
    workers : int
        0: one for each GPU where the judge is a model that runs on them, otherwise one for each CPU. Those for which
        there is no room wait until there is.
    budget, rate : float or None
        US dollars, and judgements a second, of all workers together.
    """

    def __init__(self, spec: Spec, options: Options, workers: int, budget: float | None, rate: float | None) -> None:
        there: dict[str, float] = ray.cluster_resources()
        gpus = int(there.get("GPU", 0)) if spec.kind == "local" and options.device != "cpu" else 0
        self._size = workers or gpus or max(int(there.get("CPU", 1)), 1)
        self._needs: dict[str, Any] = {"num_gpus": 1} if gpus else {"num_cpus": 1}
        self._spec = spec
        self._options = replace(options, at_once=max(options.at_once // self._size, 1))
        # Beside this process, which cannot be lost without the run: on a worker's node the account would go with it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._purse: Any = _actor(Purse, num_cpus=0, scheduling_strategy=here).remote(budget, rate)
        self._awaited: dict[Any, Any] = {}  # what a worker was told to do -> the worker
        self._given: dict[Any, list[Block]] = {}  # of these, what it was to ask
        self._idle: list[Any] = []
        self._again: deque[list[Block]] = deque()
        self._losses: dict[str, int] = {}
        self._known = ""

    def __enter__(self) -> Crew:
        for _ in range(self._size):
            self._hire()
        return self

    def __exit__(self, *_: object) -> None:
        for actor in [*self._awaited.values(), *self._idle, self._purse]:
            ray.kill(actor)

    def described(self) -> tuple[str, dict[str, object]]:
        """Wait for the first worker, and return its judge's name and identity.

        Raises
        ------
        JudgeError
            The judge cannot be opened there.
        """
        while True:
            (ref,), _ = ray.wait(list(self._awaited))
            found = self._welcome(ref)
            if found is not None:
                return found

    def ask(self, blocks: Iterator[list[Block]], stop: threading.Event) -> Iterator[Answered]:
        """Have all blocks asked, and yield what comes; when `stop` is set, what is in flight is waited for.

        Raises
        ------
        JudgeError
            A block has lost too many workers, or a new one has another judge.
        """
        stopping = drained = False
        while True:
            if stop.is_set() and not stopping:
                stopping = True
                ray.get(self._purse.stop.remote())
            while self._idle and not stopping and (self._again or not drained):
                block = self._again.popleft() if self._again else next(blocks, [])
                drained = drained or not block
                if block:
                    worker = self._idle.pop()
                    ref = worker.ask.remote(block)
                    self._awaited[ref], self._given[ref] = worker, block
            if not self._given and (stopping or (drained and not self._again)):
                return
            ready, _ = ray.wait(list(self._awaited), timeout=_LOOK_SECONDS)
            for ref in ready:
                if ref not in self._given:
                    self._welcome(ref)
                    continue
                worker, block = self._awaited.pop(ref), self._given.pop(ref)
                try:
                    made = ray.get(ref)
                except _LOST:
                    self._lose(worker, block)
                    continue
                self._idle.append(worker)
                yield made

    def _hire(self) -> None:
        made = _actor(Worker, scheduling_strategy="SPREAD", **self._needs).remote(
            self._spec, self._options, self._purse
        )
        self._awaited[made.describe.remote()] = made

    def _welcome(self, ref: Any) -> tuple[str, dict[str, object]] | None:
        worker = self._awaited.pop(ref)
        try:
            name, identity, wrong = ray.get(ref)
        except _LOST:
            self._lose(worker, [])
            return None
        self._idle.append(worker)
        if wrong:
            raise JudgeError(f"on a worker: {wrong}")
        known = digest(identity)
        if self._known and known != self._known:
            raise JudgeError(
                f"{name} is not the same judge on all workers: their identities differ. Give every node the same "
                "template file and the same model."
            )
        self._known = known
        return name, identity

    def _lose(self, worker: Any, block: list[Block]) -> None:
        ray.kill(worker)  # one that was only out of reach must not go on asking
        key = block[0].case if block else ""
        self._losses[key] = self._losses.get(key, 0) + 1
        if self._losses[key] >= _MOST_LOSSES:
            what = f"the block that begins with {shown(key)}" if block else "opening the judge"
            raise JudgeError(
                f"{_MOST_LOSSES} workers were lost over {what}. See why they end (most likely memory), give them "
                "smaller blocks, and run this again: what was answered is kept."
            )
        if block:
            self._again.append(block)
        self._hire()


def _actor(kind: type, **needs: Any) -> Any:
    return ray.remote(kind).options(**needs)
