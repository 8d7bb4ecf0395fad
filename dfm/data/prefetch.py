"""Reading ahead on a thread: work for the next steps is done while the device is busy with this one."""

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from typing import Any


def read_ahead(function: Callable[[Any], Any], items: Iterable[Any], ahead: int) -> Generator[Any, None, None]:
    """Yields function(item) for each item in turn, computed up to `ahead` items early by one thread.

    An exception of the function is raised here, at the place of its item. The thread ends when the iterator is
    exhausted, closed or forgotten.
    """
    results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()
    room = threading.Semaphore(ahead)
    stopped = threading.Event()

    def work() -> None:
        try:
            for item in items:
                room.acquire()
                if stopped.is_set():
                    return
                results.put((True, function(item)))
            results.put((False, None))
        except BaseException as error:  # everything: a thread's exception would only be printed
            results.put((False, error))

    # daemon: an iterator that nobody closed must not keep the program from ending
    thread = threading.Thread(target=work, name="dfm-read-ahead", daemon=True)
    thread.start()
    try:
        while True:
            is_result, value = results.get()
            if is_result:
                room.release()
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        stopped.set()
        room.release()
        thread.join()
