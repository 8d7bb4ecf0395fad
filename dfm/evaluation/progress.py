"""How far an evaluation is: pictures, pictures a second and time left, on standard error."""

import contextlib
import sys
from collections.abc import Callable, Iterator


class Progress:
    """Bars of one job after the other; silent where asked, and where there is nothing to wait for."""

    def __init__(self, quiet: bool):
        self._quiet = quiet

    @contextlib.contextmanager
    def bar(self, label: str, total: int) -> Iterator[Callable[[int], None]]:
        """A function to be called with the number of pictures done since the last call."""
        if self._quiet or total == 0:
            yield lambda done: None
            return
        from tqdm import tqdm

        with tqdm(total=total, desc=label, unit="picture", file=sys.stderr, dynamic_ncols=True, leave=False) as bar:
            yield lambda done: None if bar.update(done) else None
