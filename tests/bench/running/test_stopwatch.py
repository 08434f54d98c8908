import time

import pytest
import torch
from zsad.bench.running.stopwatch import Stopwatch


def test_the_seconds_of_all_works_are_added_up():
    watch = Stopwatch(torch.device("cpu"))
    for _ in range(2):
        with watch.running():
            time.sleep(0.02)
        time.sleep(0.05)  # not counted
    assert 0.04 <= watch.seconds() < 0.09
    assert watch.seconds() == watch.seconds()


def test_work_that_raises_is_not_counted():
    watch = Stopwatch(torch.device("cpu"))
    with pytest.raises(ValueError, match="no"), watch.running():
        raise ValueError("no")
    assert watch.seconds() == 0


class Event:
    """Stands in for CUDA's: its time is that of the stream, which the test moves."""

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self, stream):
        self.at = stream["now"]

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return other.at - self.at


def test_on_a_gpu_events_are_read_at_the_end_and_nothing_waits(monkeypatch):
    stream = {"now": 0.0}
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: pytest.fail("it waited"))
    watch = Stopwatch(torch.device("cuda"))
    for milliseconds in (250.0, 500.0):
        with watch.running():
            stream["now"] += milliseconds
        stream["now"] += 1000
    assert watch.seconds() == watch.seconds() == 0.75


def test_a_profile_waits_for_the_gpu_at_both_ends(monkeypatch):
    waits = []
    monkeypatch.setattr(torch.cuda, "synchronize", waits.append)
    watch = Stopwatch(torch.device("cuda"), waiting=True)
    with watch.running():
        assert len(waits) == 1
    assert len(waits) == 2
