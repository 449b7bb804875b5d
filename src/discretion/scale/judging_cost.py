"""What judging on a cluster will take: judgements, hours, GPU-hours, the driver's share, disk and memory.

A few measured rates times what is counted. The one that decides, how many judgements a worker makes a second, is
yours to measure: `benchmarks/local_judge.py` does for a model, a run with `--limit` for an endpoint.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from discretion.errors import StudyError
from discretion.scale.parts import MERGED


@dataclass(frozen=True, slots=True)
class Rates:
    """Seconds of one core of the driver, and bytes; `python benchmarks/ray_judging.py --rates` prints the seconds.

    Parameters
    ----------
    planned : float
        To lay out one judgement: once to count what is missing, once to ask for it.
    taken : float
        To count one judgement that came, and to merge it.
    block : float
        To hand out a block and to write its part.
    start : float
        To start a cluster on this machine and the first worker.
    journalled, in_part, held : float
        Bytes of a judgement in the journal, in a part, and in memory while the judge's preferences are written out.
    """

    planned: float = 9e-6
    taken: float = 33e-6
    block: float = 0.01
    start: float = 15.0
    journalled: float = 142.0
    in_part: float = 55.0
    held: float = 770.0


MEASURED = Rates()
"""On two cores of a shared cloud machine."""


@dataclass(frozen=True, slots=True)
class JudgingCost:
    """What judging takes.

    Parameters
    ----------
    judgements, blocks : int
    twice : int
        Judgements that are asked again at the most when the driver dies: a block of each worker.
    seconds_asking : float
        Of all workers together, side by side.
    worker_hours : float
        GPU-hours, where a worker has a GPU.
    seconds_driver : float
        To plan, hand out, count and merge: the part that more workers do not shorten.
    seconds_merging : float
        The part of it that is counting and merging.
    seconds : float
        From start to end: the longer of the two, and the start.
    bytes_journal : float
        On the driver's disk when all is done.
    bytes_parts : float
        Beside it meanwhile, at the most.
    bytes_driver : float
        Of the driver's memory at the end, when what the judge prefers is written out from all of its judgements.
    """

    judgements: int
    blocks: int
    twice: int
    seconds_asking: float
    worker_hours: float
    seconds_driver: float
    seconds_merging: float
    seconds: float
    bytes_journal: float
    bytes_parts: float
    bytes_driver: float


def judging_cost(
    comparisons: int,
    questions: int,
    *,
    rate: float,
    workers: int = 1,
    orders: int = 2,
    samples: int = 1,
    block: int = 64,
    rates: Rates = MEASURED,
) -> JudgingCost:
    """Estimate what it takes to ask a judge everything about a study on a cluster.

    Parameters
    ----------
    comparisons, questions, orders, samples : int
        As many judgements as their product.
    rate : float
        Judgements a second of one worker; for an endpoint, the `--rate` of all workers divided by their number.
    workers : int
        GPUs, where each has one.
    block : int
        Comparisons that a worker is given at a time.
    rates : Rates

    Raises
    ------
    StudyError
        A count is below 1, or the rate is not above 0.
    """
    if min(comparisons, questions, orders, samples, workers, block) < 1 or not rate > 0:
        raise StudyError(
            f"comparisons={comparisons}, questions={questions}, orders={orders}, samples={samples}, workers={workers}, "
            f"block={block}, rate={rate}. Expected 1 or more of each, and a rate above 0."
        )
    each = questions * orders * samples
    judgements = comparisons * each
    blocks = math.ceil(comparisons / block)
    rounds = math.ceil(blocks / workers)  # workers that have no block left wait for the others
    asking = rounds * min(block, comparisons) * each / rate
    merging = judgements * rates.taken
    driver = judgements * rates.planned + merging + blocks * rates.block
    return JudgingCost(
        judgements=judgements,
        blocks=blocks,
        twice=min(workers * block, comparisons) * each,
        seconds_asking=asking,
        worker_hours=asking * workers / 3600,
        seconds_driver=driver,
        seconds_merging=merging,
        seconds=rates.start + max(asking, driver),
        bytes_journal=judgements * rates.journalled,
        bytes_parts=min(MERGED, blocks) * min(block, comparisons) * each * rates.in_part,
        bytes_driver=judgements * rates.held,
    )
