"""The engine of one machine: threads read, run and write pieces at the same time, processes decode their pictures."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from scoring.decoders import Decoders, decoded
from scoring.parts import Record
from scoring.pieces import Piece
from scoring.scorer import Job, Scorer


def run(job: Job, pieces: Iterable[Piece], threads: int) -> Generator[Record, None, None]:
    """What each piece became, in the order in which they were done. Raises what a scorer raises, after the others.

    No more pieces are listed than `threads` ahead.
    """
    decoders = Decoders(threads)
    scorer = Scorer(job, decoders if threads > 1 else decoded)
    under_way: set[Future[Record]] = set()
    source = iter(pieces)
    with ThreadPoolExecutor(threads, "score") as pool:
        try:
            while True:
                while len(under_way) < threads and (piece := next(source, None)) is not None:
                    under_way.add(pool.submit(scorer.score, piece))
                if not under_way:
                    return
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                for each in done:
                    yield each.result()
        finally:
            pool.shutdown(cancel_futures=True)
            scorer.close()
            decoders.close()
