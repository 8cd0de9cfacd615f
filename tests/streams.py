"""Streams of a CUDA device that is not here: what is put on them only says what it comes after."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import pytest
import torch

from skelcontrast import _side_by_side


class Event:
    def __init__(self, past: frozenset[str]) -> None:
        self.past = past


class Stream:
    """A queue of named operations; its past is all that has surely ended before the next begins."""

    def __init__(self) -> None:
        self.past = frozenset[str]()

    def record_event(self) -> Event:
        return Event(self.past)

    def wait_event(self, event: Event) -> None:
        self.past |= event.past

    def wait_stream(self, other: "Stream") -> None:
        self.past |= other.past


class Device:
    """Takes the place of torch's streams; `do` puts an operation on the current one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current = [Stream()]
        self.before: dict[str, frozenset[str]] = {}
        monkeypatch.setattr(torch.cuda, "current_stream", lambda: self.current[-1])
        monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
        monkeypatch.setattr(torch.cuda, "stream", self._on)
        monkeypatch.setattr(_side_by_side, "_side_stream", lru_cache(lambda *_: Stream()))

    @contextmanager
    def _on(self, stream: Stream) -> Iterator[None]:
        self.current.append(stream)
        yield
        self.current.pop()

    def do(self, name: str) -> str:
        """Put an operation on the current stream, and keep what it comes after."""
        self.before[name] = self.current[-1].past
        self.current[-1].past |= {name}
        return name
