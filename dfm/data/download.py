"""Original files of a data set: found where the user put them, or fetched with short timeouts."""

import hashlib
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dfm.errors import UserError

CONNECT_SECONDS, READ_SECONDS = 5, 30
CHUNK_BYTES = 1 << 16


def fetch(urls: dict[str, Any], folder: Path, progress: Callable[..., Any]) -> None:
    """Sees to it that the folder holds the files of these addresses under their own names.

    Args:
        urls: address -> size, checksum (SHA-256) and filename that are expected there.
        folder: a file that is there already is left as it is; tensorflow-datasets compares its checksum later.
        progress: makes a dfm.progress.Progress of this many bytes and this label.
    """
    missing = {url: expected for url, expected in urls.items() if not (folder / expected.filename).exists()}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for url in list(missing)[:1]:
            _reach(url)
        for url, expected in missing.items():
            _fetch_one(url, expected, folder / expected.filename, progress)
    except _NotFetched as error:
        names = ", ".join(expected.filename for expected in missing.values())
        raise UserError(f"{error}; without a network, put {names} into {folder} and run this again") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error})") from None


def check_connection(name: str, urls: dict[str, Any], downloads: Path) -> None:
    """UserError within seconds where a file is still to be fetched and its server cannot be reached at all.

    tensorflow-datasets on its own tries again for minutes.
    """
    from tensorflow_datasets.core.download.resource import get_dl_fname

    here = {path.name for path in downloads.rglob("*")}
    for url, expected in urls.items():
        names = {expected.filename, url.rpartition("/")[2], get_dl_fname(url, expected.checksum)}
        if names & here:
            continue
        try:
            _reach(url)
        except _NotFetched as error:
            manual = downloads / "manual"
            raise UserError(f"{name}: {error}; without a network, put its original files into {manual}") from None
        return


class _NotFetched(Exception):
    """Carries the words that say what could not be fetched, and why."""


def _reach(url: str) -> None:
    """Any answer of the server will do, a refusal as well; none within seconds raises _NotFetched."""
    import requests

    outcome: list[str | None] = []

    def ask() -> None:
        try:
            requests.head(url, timeout=CONNECT_SECONDS).close()
            outcome.append(None)
        except requests.RequestException as error:
            outcome.append(_reason(error))

    # on a thread: the timeout counts for one of a server's addresses, some have a dozen, and looking them up has none
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(2 * CONNECT_SECONDS)
    reason = outcome[0] if outcome else "no answer in time"
    if reason is not None:
        raise _NotFetched(f"cannot download {url} ({reason})")


def _fetch_one(url: str, expected: Any, path: Path, progress: Callable[..., Any]) -> None:
    import requests

    temporary = path.parent / f".dfm-{secrets.token_hex(8)}.tmp"
    digest, size = hashlib.sha256(), 0
    try:
        with (
            requests.get(url, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as answer,
            progress(int(expected.size), path.name) as bar,
            open(temporary, "wb") as file,
        ):
            answer.raise_for_status()
            for chunk in answer.iter_content(CHUNK_BYTES):
                file.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                bar.advance(len(chunk))
        if (digest.hexdigest(), size) != (expected.checksum, int(expected.size)):
            raise _NotFetched(f"{url} sent {size:,} bytes that are not the expected file (its checksum differs)")
        os.replace(temporary, path)
    except requests.RequestException as error:
        raise _NotFetched(f"cannot download {url} ({_reason(error)})") from None
    finally:
        temporary.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    """The part of requests' nested messages that tells a user something."""
    import requests

    if isinstance(error, requests.HTTPError) and error.response is not None:
        return f"the server says {error.response.status_code}"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    return "no network, or the server is down" if isinstance(error, requests.ConnectionError) else type(error).__name__
