"""The last minute of what was said, in memory."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

OVERHEAD = 250  # bytes that Python adds to a message


class Heard(NamedTuple):
    """One message as it came."""

    channel: int  # index
    heard_ns: int  # by the wall clock
    ticks_ns: int  # by the monotonic clock, which nobody sets: spans are measured by it
    data: bytes
    source: str | None = None  # of a latched topic: who said it; its last word stays true
    log_ns: int = 0  # where it stands in a recording, if that is not when it was heard


class MessageRing:
    """Messages of the last `span_s`, at most `max_bytes`; of latched topics also the last word before."""

    def __init__(self, span_s: float, max_bytes: int) -> None:
        self.span_ns, self.max_bytes = round(span_s * 1e9), max_bytes
        self.bytes = 0
        self.dropped = 0  # messages that went before their time
        self._messages: deque[Heard] = deque()
        self._words: dict[tuple[int, str], Heard] = {}

    def add(self, message: Heard) -> None:
        """Take a message, and let go of those that are too old or too many."""
        self._messages.append(message)
        self.bytes += len(message.data) + OVERHEAD
        since = message.ticks_ns - self.span_ns
        while (old := self._messages[0].ticks_ns < since) or self.bytes > self.max_bytes:
            gone = self._messages.popleft()
            self.bytes -= len(gone.data) + OVERHEAD
            self.dropped += not old
            if gone.source is not None:
                self._words[gone.channel, gone.source] = gone
            if not self._messages:
                break

    def messages(self) -> list[Heard]:
        """All of them, the oldest first; what was said before stands at the beginning of the span."""
        if not self._messages:
            return []
        since = self._messages[0].heard_ns
        return [word._replace(log_ns=since) for word in self._words.values()] + list(self._messages)
