"""How long JAX compiles inside a call, so that seconds can be stated cold and warm."""

from collections.abc import Iterator
from contextlib import contextmanager

COMPILATION = "/jax/core/compile/backend_compile_duration"


class Seconds:
    """Seconds spent on compiling so far; `count` programs."""

    def __init__(self) -> None:
        self.total, self.count = 0.0, 0


@contextmanager
def compilation_seconds() -> Iterator[Seconds]:
    """Counts what is compiled inside the context; what is taken from a cache takes its little time too."""
    import jax.monitoring

    seconds = Seconds()

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event == COMPILATION:
            seconds.total += duration_secs
            seconds.count += 1

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seconds
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
