"""The workers of a judge on a Ray cluster: hired, handed blocks, replaced when they are lost, dismissed at the end.

One of the modules that import ray as they load. Plain actors rather than Ray Data: a run must be able to end in the
middle and keep what it has, and a block whose worker was lost must be the only one that is asked again.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from discretion.errors import DiscretionError, ExtraError, JudgeError, StudyError, shown
from discretion.judges.asking import Block, Judge, Judgement, digest
from discretion.judges.opening import open_judge
from discretion.judges.spec import PRICED, Options, Spec
from discretion.scale.pace import Lifeline, Purse, Tether
from discretion.scale.parts import packed

try:
    import ray
    from ray.exceptions import (
        LocalRayletDiedError,
        NodeDiedError,
        ObjectLostError,
        OutOfMemoryError,
        RayActorError,
        RayError,
        WorkerCrashedError,
    )
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ModuleNotFoundError as error:
    raise ExtraError("ray", "Judging on a cluster") from error

__all__ = ["Answered", "Crew", "RayError", "Worker", "hands"]

_LOST = (
    RayActorError, ObjectLostError, WorkerCrashedError, OutOfMemoryError, NodeDiedError, LocalRayletDiedError,
)  # fmt: skip
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
            return self._judge.name, dict(self._judge.identity), ""
        except Exception as error:  # whatever it is, it has to reach who can end the run in good order
            return "", {}, self._said(error)

    def ask(self, blocks: list[Block]) -> Answered:
        """Ask what the purse allows; return what was answered, also where something went wrong."""
        made: list[Judgement] = []
        over, wrong = False, ""
        try:
            judge = self._judge or open_judge(self._spec, self._options)
            with Tether(self._purse) as tether:

                def deliver(judgements: list[Judgement]) -> None:
                    made.extend(judgements)
                    tether.spent(judgements)

                while blocks and (allowed := tether.allowed(blocks)):
                    judge.run(blocks[:allowed], deliver, tether)
                    blocks = blocks[allowed:]
            over = tether.is_set()
        except RayError:
            wrong = "the process that keeps the account of the run was lost: see to its node's memory."
        except Exception as error:  # CUDA out of memory, say: what was made before it was made all the same
            wrong = self._said(error)
        return Answered(packed(judge.name, judge.identity, made) if made else b"", over, wrong)

    def _said(self, error: Exception) -> str:
        text = str(error) if isinstance(error, DiscretionError) else f"{type(error).__name__}: {shown(str(error), 400)}"
        key = os.environ.get(self._options.key_variable)
        return text.replace(key, "…") if key else text


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
        0: one for each GPU where the judge is a model that runs on them, otherwise one for each CPU; never more than
        calls may be in flight. Those for which there is no room wait until there is.
    budget, rate : float or None
        US dollars, and judgements begun a second, of all workers together.
    known : str
        The digest of the judge's identity, where it is known before a worker has opened it; or "".

    Raises
    ------
    StudyError
        The judge is to run on GPUs, and the cluster has none.
    """

    def __init__(
        self, spec: Spec, options: Options, workers: int, budget: float | None, rate: float | None, known: str = ""
    ) -> None:
        size, self._needs = hands(spec, options, workers, ray.cluster_resources())
        self._size = size
        self._spec = spec
        device = options.device.partition(":")[0]  # a worker sees its own GPU alone
        self._options = replace(options, at_once=max(options.at_once // size, 1), device=device)
        # Beside this process, which cannot be lost without the run: on a worker's node the account would go with it.
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        self._lifeline = Lifeline()
        self._purse: Any = _actor(Purse, num_cpus=0, scheduling_strategy=here).remote(
            budget, rate, lifeline=self._lifeline.port
        )
        self._awaited: dict[Any, Any] = {}  # what a worker was told to do -> the worker
        self._given: dict[Any, list[Block]] = {}  # of these, what it was to ask
        self._idle: list[Any] = []
        self._again: deque[list[Block]] = deque()
        self._losses: dict[str, int] = {}
        self._known = known
        self._stopping = False

    def __enter__(self) -> Crew:
        for _ in range(self._size):
            self._hire()
        return self

    def __exit__(self, *_: object) -> None:
        for actor in [*self._awaited.values(), *self._idle, self._purse]:
            ray.kill(actor)
        self._lifeline.close()

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

    def spent(self) -> float:
        """Return US dollars that workers have told of, with those for answers that were lost; 0 if nobody knows."""
        with contextlib.suppress(RayError):
            return cast(float, ray.get(self._purse.spent.remote()))
        return 0.0

    def ask(self, blocks: Iterator[list[Block]], stop: threading.Event) -> Iterator[Answered]:
        """Have all blocks asked, and yield what comes; when `stop` is set, what is in flight is waited for.

        Raises
        ------
        JudgeError
            A block has lost too many workers, or a new one cannot open the judge or has another one. Raised once all
            that is in flight has come in.
        """
        drained = False
        wrong: JudgeError | None = None
        while True:
            if wrong is not None or stop.is_set():
                self._stop()
            while self._idle and not self._stopping and (self._again or not drained):
                block = self._again.popleft() if self._again else next(blocks, [])
                drained = drained or not block
                if block:
                    worker = self._idle.pop()
                    ref = worker.ask.remote(block)
                    self._awaited[ref], self._given[ref] = worker, block
            if not self._given and (self._stopping or (drained and not self._again)):
                break
            ready, _ = ray.wait(list(self._awaited), timeout=_LOOK_SECONDS)
            for ref in ready:
                try:
                    made = self._arrived(ref)
                except JudgeError as error:
                    wrong = wrong or error
                    continue
                if made is not None:
                    yield made
        if wrong is not None:
            raise wrong

    def _hire(self) -> None:
        made = _actor(Worker, scheduling_strategy="SPREAD", **self._needs).remote(
            self._spec, self._options, self._purse
        )
        self._awaited[made.describe.remote()] = made

    def _stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            with contextlib.suppress(RayError):  # workers find out for themselves that it is lost
                ray.get(self._purse.stop.remote())

    def _arrived(self, ref: Any) -> Answered | None:
        """Return what a worker made; None for one that is new, or lost."""
        if ref not in self._given:
            self._welcome(ref)
            return None
        worker, block = self._awaited.pop(ref), self._given.pop(ref)
        made = self._got(ref, worker, block)
        if made is not None:
            self._idle.append(worker)
        return cast("Answered | None", made)

    def _welcome(self, ref: Any) -> tuple[str, dict[str, object]] | None:
        worker = self._awaited.pop(ref)
        found = self._got(ref, worker, [])
        if found is None:
            return None
        name, identity, wrong = found
        self._idle.append(worker)
        if wrong:
            raise JudgeError(f"on a worker: {wrong}")
        self._losses.pop("", None)  # those before it have nothing to do with what may come in hours
        known = digest(identity)
        if self._known and known != self._known:
            raise JudgeError(
                f"{name} is not the same judge on all workers and here: their identities differ. Give every node the "
                "same template file, the same model and the same release of discretion."
            )
        self._known = known
        return name, identity

    def _got(self, ref: Any, worker: Any, block: list[Block]) -> Any:
        """Return what a worker returned, or None where it is lost: another one is hired in its place."""
        try:
            return ray.get(ref)
        except _LOST:
            self._lose(worker, block)
            return None
        except RayError as error:
            ray.kill(worker)
            raise JudgeError(f"on a worker: {type(error).__name__}: {shown(str(error), 400)}") from error

    def _lose(self, worker: Any, block: list[Block]) -> None:
        ray.kill(worker)  # one that was only out of reach must not go on asking
        if self._stopping:
            return
        key = block[0].case if block else ""
        self._losses[key] = self._losses.get(key, 0) + 1
        if self._losses[key] >= _MOST_LOSSES:
            what = f"the block that begins with {shown(key)}" if block else "opening the judge"
            raise JudgeError(
                f"{_MOST_LOSSES} workers were lost over {what}. See why they end (most likely memory), give them "
                "smaller blocks (--block), and run this again: what was answered is kept."
            )
        if block:
            self._again.append(block)
        self._hire()


def hands(spec: Spec, options: Options, workers: int, there: Mapping[str, float]) -> tuple[int, dict[str, Any]]:
    """Return how many workers a judge gets, and what each of them needs of its node.

    Parameters
    ----------
    spec, options, workers :
        As for `Crew`.
    there : mapping
        What the cluster has: "CPU", "GPU".

    Raises
    ------
    StudyError
        The judge is to run on GPUs, and there are none.
    """
    gpus = int(there.get("GPU", 0)) if spec.kind == "local" and options.device != "cpu" else 0
    asked_for = spec.kind == "local" and options.device.startswith("cuda")
    if asked_for and not (gpus or workers):
        raise StudyError(
            "the cluster has no GPU now. Expected one for --device cuda: say how many workers to wait for with "
            "--workers, or leave the device out."
        )
    size = workers or gpus or max(int(there.get("CPU", 1)), 1)
    if spec.kind in PRICED:
        size = min(size, max(options.at_once, 1))
    # Left out, Ray would want a CPU beside each GPU, and leave GPUs idle on a node that was given fewer of them.
    return size, {"num_gpus": 1, "num_cpus": 0} if gpus or asked_for else {"num_cpus": 1}


def _actor(kind: type, **needs: Any) -> Any:
    return ray.remote(kind).options(**needs)
