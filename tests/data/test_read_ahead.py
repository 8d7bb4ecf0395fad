"""Reading ahead: order, exceptions, and threads that end."""

import gc
import threading
import time

import pytest

from dfm.data.prefetch import read_ahead


def running() -> int:
    return sum(thread.name == "dfm-read-ahead" for thread in threading.enumerate())


def wait_until(condition) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_results_come_in_order():
    assert list(read_ahead(lambda x: x * x, range(100), ahead=3)) == [x * x for x in range(100)]
    assert running() == 0


def test_it_reads_ahead_and_no_further():
    made = []
    iterator = read_ahead(made.append, range(100), ahead=3)
    next(iterator)
    wait_until(lambda: len(made) == 4)  # one taken, three waiting
    time.sleep(0.02)
    assert len(made) == 4
    iterator.close()


def test_an_exception_arrives_at_the_place_of_its_item():
    def function(item):
        if item == 2:
            raise KeyError("the third")
        return item

    iterator = read_ahead(function, range(5), ahead=4)
    assert [next(iterator), next(iterator)] == [0, 1]
    with pytest.raises(KeyError, match="the third"):
        next(iterator)
    assert running() == 0
    assert list(iterator) == []


def test_an_exception_of_the_items_arrives_too():
    def items():
        yield 0
        raise OSError("no more")

    iterator = read_ahead(lambda x: x, items(), ahead=4)
    assert next(iterator) == 0
    with pytest.raises(OSError, match="no more"):
        next(iterator)


def test_closing_and_forgetting_end_the_thread():
    iterator = read_ahead(lambda x: x, range(10**9), ahead=2)
    next(iterator)
    assert running() == 1
    iterator.close()
    assert running() == 0

    iterator = read_ahead(lambda x: x, range(10**9), ahead=2)
    next(iterator)
    del iterator
    gc.collect()
    assert running() == 0


def test_an_iterator_that_is_never_asked_starts_nothing():
    iterator = read_ahead(lambda x: x, range(10), ahead=2)
    assert running() == 0
    del iterator


def test_an_unfinished_iterator_does_not_keep_the_program_from_ending():
    import subprocess
    import sys

    program = "from dfm.data.prefetch import read_ahead; kept = read_ahead(lambda x: x, range(10**9), 2); next(kept)"
    assert subprocess.run([sys.executable, "-c", program], timeout=30).returncode == 0
