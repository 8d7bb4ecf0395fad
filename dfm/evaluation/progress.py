"""How far an evaluation is, on standard error."""

import contextlib
from collections.abc import Callable, Iterator

from dfm import progress


class Progress:
    """Bars of one job after the other; silent where asked, and where there is nothing to wait for."""

    def __init__(self, quiet: bool):
        self._quiet = quiet

    @contextlib.contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """A function to be called with the number of pictures done since the last call."""
        quiet = self._quiet or total == 0
        with progress.Progress(total, label, "picture", quiet=quiet, keep=False) as bar:
            yield bar.advance
