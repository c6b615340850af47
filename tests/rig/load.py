"""A steady load of plain requests through nginx, each on a connection of its own, and what became of every one."""

import http.client
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

from rig.waiting import until

PAUSE_S = 0.01
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Ask:
    """One kind of request, asked again and again. `host` is the name that the browser was given."""

    port: int
    host: str
    method: str
    path: str
    headers: dict = field(default_factory=dict)
    body: bytes | None = None
    expected: tuple = (200, 201)

    def once(self):
        """Ask; return how it went."""
        began = time.monotonic()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            headers = {"Host": f"{self.host}:{self.port}", "Connection": "close", **self.headers}
            connection.request(self.method, self.path, self.body, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            return Answer(self, answer.status, text, dict(answer.headers), began, time.monotonic())
        except (OSError, http.client.HTTPException) as error:
            return Answer(self, 0, repr(error), {}, began, time.monotonic())
        finally:
            connection.close()


@dataclass(frozen=True)
class Answer:
    """How a request went; status 0 if there was no answer. Monotonic times in seconds."""

    ask: Ask
    status: int
    text: str
    headers: dict
    began: float
    ended: float

    @property
    def by_the_lab(self):
        """Whether it is what was asked for: neither nginx nor the daemon gives such an answer."""
        return self.status in self.ask.expected and "X-Jlabd-State" not in self.headers

    def __str__(self):
        took = self.ended - self.began
        return f"{self.ask.method} {self.ask.host}{self.ask.path}: {self.status} after {took:.2f} s: {self.text[:150]}"


class Load:
    """Asks while the `with` lasts. One thread per kind of request, so that one answer is awaited for each."""

    def __init__(self, *asks):
        self.asks = asks
        self.answers = []
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(ask,)) for ask in asks]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        self.wait_for_answers()
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.wait_for_answers()
        finally:
            self._over.set()
            for thread in self._threads:
                thread.join(2 * PATIENCE_S)

    def wait_for_answers(self, each=3):
        """Return when every kind of request that was begun from now on was answered a few times."""
        now = time.monotonic()

        def answered():
            counts = Counter(id(answer.ask) for answer in list(self.answers) if answer.began > now)
            return min(counts[id(ask)] for ask in self.asks) >= each

        until(answered, PATIENCE_S, "every kind of request to be answered again")

    def failures(self):
        """Return what was not answered by a lab."""
        return [answer for answer in self.answers if not answer.by_the_lab]

    def longest_s(self):
        """Return how long the slowest answer took."""
        return max(answer.ended - answer.began for answer in self.answers)

    def _go_on(self, ask):
        while not self._over.is_set():
            self.answers.append(ask.once())
            time.sleep(PAUSE_S)
