"""pgai's worker in its own environment, timed: ``pgai_worker.py DSN`` installs its tables, then works when told to.

Each line on its input is a number of workers side by side in this process; the answer is the seconds until its queue
was empty. So neither its imports nor its installation count.
"""

import asyncio
import logging
import sys
import time

import pgai  # pyright: ignore[reportMissingImports]
import structlog  # pyright: ignore[reportMissingImports]
from pgai.vectorizer import Worker  # pyright: ignore[reportMissingImports]


def main(dsn: str) -> None:
    """Answer until the input ends."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    pgai.install(dsn)
    print("ready", flush=True)
    for line in sys.stdin:
        started = time.perf_counter()
        failed = asyncio.run(Worker(dsn, once=True, concurrency=int(line)).run())
        print(failed or time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
