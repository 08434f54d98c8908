import threading
import time

import pytest
from zsad.bench.errors import Stopped
from zsad.bench.progress import Progress
from zsad.bench.running.background import Background


def test_work_is_done_in_its_order_in_another_thread():
    done, threads = [], set()

    def work(number):
        threads.add(threading.current_thread())
        time.sleep(0.001)
        done.append(number)

    with Background(2, Progress()) as background:
        for number in range(8):
            background.submit(lambda number=number: work(number))
    assert done == list(range(8))
    assert threading.current_thread() not in threads
    assert len(threads) == 1
    assert not threads.pop().is_alive()


def test_work_that_may_not_wait_is_done_when_it_is_handed_in():
    done = []
    with Background(0, Progress()) as background:
        background.submit(lambda: done.append(threading.current_thread()))
        assert done == [threading.current_thread()]
    with pytest.raises(ValueError, match="no"), Background(0, Progress()) as background:
        background.submit(lambda: int("no"))


def test_no_more_works_wait_than_may():
    begun, may_end = threading.Semaphore(0), threading.Event()

    def work():
        begun.release()
        may_end.wait()

    handed_in = 0

    def hand_in(background):
        nonlocal handed_in
        for _ in range(6):
            background.submit(work)
            handed_in += 1

    with Background(2, Progress()) as background:
        other = threading.Thread(target=hand_in, args=(background,))
        other.start()
        begun.acquire()
        time.sleep(0.05)
        assert handed_in == 3  # one at work and two that wait
        may_end.set()
        other.join()
    assert handed_in == 6
    assert background.seconds_waited > 0


def test_an_error_of_work_is_raised_where_work_is_handed_in_and_ends_the_rest():
    done = []

    def fail():
        raise ValueError("no")

    def hand_in():
        with Background(1, Progress()) as background:
            background.submit(fail)
            for number in range(100):
                background.submit(lambda number=number: done.append(number))

    with pytest.raises(ValueError, match="no"):
        hand_in()
    assert not done


def test_an_error_of_the_last_work_is_raised_too():
    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), Background(1, Progress()) as background:
        background.submit(fail)


def test_an_error_beside_the_thread_drops_the_work_that_waits():
    done, begun = [], threading.Event()

    def work(number):
        begun.set()
        time.sleep(0.05)
        done.append(number)

    def leave():
        with Background(8, Progress()) as background:
            for number in range(8):
                background.submit(lambda number=number: work(number))
            begun.wait()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert done == [0]


def test_who_waits_for_the_thread_is_stopped_when_a_stop_is_asked_for():
    progress, may_end = Progress(), threading.Event()

    def hand_in():
        with Background(1, progress) as background:
            try:
                for _ in range(3):
                    background.submit(may_end.wait)
            finally:
                may_end.set()

    threading.Timer(0.05, progress.stop.set).start()
    with pytest.raises(Stopped):
        hand_in()
