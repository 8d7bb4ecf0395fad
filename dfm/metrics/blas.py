"""One thread for NumPy's linear algebra, where threads cost more than they bring."""

import contextlib
from collections.abc import Iterator

LARGE = 1_000_000_000  # multiply-adds of one product, about 20 ms of one core


@contextlib.contextmanager
def single_threaded(unless_above: int | None = None) -> Iterator[None]:
    """Inside, BLAS uses one thread, as far as threadpoolctl is installed (scikit-learn brings it).

    OpenBLAS' threads wait for each other in busy loops: an eigendecomposition of 2,048 columns takes 1.2 s on one
    thread and 0.7 s on two idle cores, but 10 to 20 s on two cores that do something else beside it, such as the net.

    Args:
        unless_above: multiply-adds of one matrix product inside; large ones keep their threads. None: one thread.
    """
    limits: contextlib.AbstractContextManager = contextlib.nullcontext()
    if unless_above is None or unless_above < LARGE:
        with contextlib.suppress(ImportError):
            from threadpoolctl import threadpool_limits

            limits = threadpool_limits(1, user_api="blas")
    with limits:
        yield
