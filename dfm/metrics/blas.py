"""One thread for NumPy's linear algebra, where threads cost more than they bring."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def single_threaded() -> Iterator[None]:
    """Inside, BLAS uses one thread, as far as threadpoolctl is installed (scikit-learn brings it).

    OpenBLAS' threads wait for each other in busy loops: an eigendecomposition of 2,048 columns takes 1.2 s on one
    thread and 0.7 s on two idle cores, but 10 to 20 s on two cores that do something else beside it, such as the net.
    """
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:
        yield
        return
    with threadpool_limits(1, user_api="blas"):
        yield
