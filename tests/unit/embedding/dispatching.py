"""A model without a server, and dispatchers that call it."""

import threading

import numpy as np

from evergreen.core.embedding import Answer, EmbeddingTask, Limits
from evergreen.core.errors import RejectedError
from evergreen.core.pipeline import Model
from evergreen.core.step import run_directly
from evergreen.embedding.dispatcher import RequestDispatcher
from evergreen.embedding.limits.admission import Unlimited

DIMENSIONS = 3


class Fake:
    """A provider in this process: records requests and answers as ``answer`` says."""

    free = False
    zeros = False

    def __init__(self, answer=None, *, inputs=8, request_tokens=None, sql=False):
        self.sql = sql
        self.requests = []
        self.threads = set()
        self.at_once = 1
        self.input_tokens: int | None = None
        self._inputs, self._request_tokens = inputs, request_tokens
        self._answer = answer or (lambda _: None)
        self._lock = threading.Lock()

    def check(self, _model):
        """Any model will do."""

    def limits(self, _model):
        return Limits(self._inputs, self._request_tokens, self.input_tokens, self.at_once)

    def embed(self, _model, request):
        texts = request.texts
        with self._lock:
            self.requests.append(list(texts))
            self.threads.add(threading.get_ident())
        answer = self._answer(texts)
        if answer is not None:
            return answer if isinstance(answer, Answer) else Answer(list(answer))
        return Answer([np.array([len(text), ord(text[0]), 1], dtype=np.float32) for text in texts])


def texts(count):
    return {str(i).encode(): f"{chr(97 + i % 26)}{i}" for i in range(count)}


MODEL = Model(1, "fake", "fake", None, DIMENSIONS, {}, None)


def task(provider, wanted, **how):
    return EmbeddingTask(provider, MODEL, dict(wanted), **how)


def make_dispatcher(on_tick=lambda: None, admission=None, longest_wait=1.0):
    return RequestDispatcher(admission or Unlimited(), run_directly, on_tick, longest_wait=longest_wait)


def run_all(dispatcher, *tasks):
    """Carry orders that were taken to their ends; return them in the order in which they were done."""
    done = []
    while dispatcher.busy:
        done += dispatcher.poll()
    return done


def run(provider, wanted, *, at_once=4, on_tick=lambda: None, **how):
    provider.at_once = at_once
    dispatcher = make_dispatcher(on_tick)
    one = task(provider, wanted, **how)
    dispatcher.submit(one, set())
    try:
        run_all(dispatcher)
    finally:
        dispatcher.close()
    return one.result


def refuse(*culprits):
    def answer(batch):
        if any(text in culprits for text in batch):
            raise RejectedError("not this")

    return answer


def always(error):
    def answer(batch):
        raise error

    return answer


def waits_for(event):
    def answer(_batch):
        event.wait(20)

    return answer
