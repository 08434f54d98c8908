import threading

import pytest
from zsad.bench.threads import in_threads


def test_results_come_in_the_order_of_the_works():
    assert in_threads([lambda i=i: i * i for i in range(20)]) == [i * i for i in range(20)]


def test_a_single_work_is_done_in_this_thread():
    assert in_threads([threading.current_thread]) == [threading.current_thread()]
    assert in_threads([]) == []


def test_an_error_is_raised():
    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_threads([fail, lambda: 1])
