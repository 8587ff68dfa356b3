"""English prose for the benchmarks: documents of about 850 characters, cut from texts that are on this machine."""

from itertools import chain, cycle, islice

from evergreen_host.demo import corpus

LENGTH = 850


def documents(number: int) -> list[str]:
    """Return so many different documents of equal length."""
    prose = [f"{document.title}. {document.body}" for document in corpus.best(number).documents]
    characters = chain.from_iterable(f"{text}\n\n" for text in cycle(prose))
    return [f"{i}. {''.join(islice(characters, LENGTH - 8))}" for i in range(number)]
