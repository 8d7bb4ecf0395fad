"""What made the files of an output folder: so that the same command, given again, does only what is still to do."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dfm.codec.command.sources import Shard
from dfm.picture_files import Picture

NAME = ".dfm-encoded"


class Journal:
    """Lines {output, picture_sha256, settings, file_sha256} in `.dfm-encoded.jsonl`, or one such file a shard, as
    processes on several hosts cannot append to one file safely. Any of them speaks for a file: the hash says whether
    the line is of what is there now. A line that cannot be read is as good as none.

    Args:
        folder: of the outputs.
        settings: of this encode; JSON.
        shard: of this process.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any], shard: Shard | None = None):
        self._folder = Path(folder)
        self._settings = json.loads(json.dumps(settings))
        part = "" if shard is None else f"-{shard[0]}-of-{shard[1]}"
        self._path = self._folder / f"{NAME}{part}.jsonl"
        self._made: dict[str, list[dict]] = {}
        for path in sorted(self._folder.glob(f"{NAME}*.jsonl")):
            for line in path.read_bytes().splitlines():
                try:
                    entry = json.loads(line)
                    self._made.setdefault(entry["output"], []).append(entry)
                except (ValueError, KeyError, TypeError):  # cut off, or of something else
                    continue

    def holds(self, name: str, picture: Picture) -> bool:
        """Whether the output of this name is there, of this picture and with these settings."""
        path, entries = self._folder / name, self._made.get(name)
        if not entries or not path.is_file():
            return False
        return self._entry(name, picture, path.read_bytes()) in entries

    def add(self, name: str, picture: Picture, data: bytes) -> None:
        """After the output was written. OSError where the journal cannot be."""
        with open(self._path, "ab+") as file:
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read() != b"\n":  # an earlier process was ended in the middle of its line
                    file.write(b"\n")
            file.write(json.dumps(self._entry(name, picture, data)).encode() + b"\n")

    def _entry(self, name: str, picture: Picture, data: bytes) -> dict[str, Any]:
        return {
            "output": name,
            "picture_sha256": fingerprint(picture),
            "settings": self._settings,
            "file_sha256": hashlib.sha256(data).hexdigest(),
        }


def fingerprint(picture: Picture) -> str:
    """SHA-256 of shape and pixels."""
    shape = ",".join(map(str, picture.shape))
    return hashlib.sha256(shape.encode() + b":" + np.ascontiguousarray(picture).tobytes()).hexdigest()
