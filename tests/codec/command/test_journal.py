"""What made the files of a folder."""

import json

import numpy as np
import pytest

from dfm.codec.command.journal import Journal, fingerprint

PICTURE = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
SETTINGS = {"quality": 60.0, "widths": (2, 2)}


@pytest.fixture
def folder(tmp_path):
    """a.dfm, made and written down."""
    (tmp_path / "a.dfm").write_bytes(b"file")
    Journal(tmp_path, SETTINGS).add("a.dfm", PICTURE, b"file")
    return tmp_path


def test_what_was_made_is_known(folder):
    assert Journal(folder, SETTINGS).holds("a.dfm", PICTURE)
    (entry,) = [json.loads(line) for line in (folder / ".dfm-encoded.jsonl").read_text().splitlines()]
    assert entry.keys() == {"output", "picture_sha256", "settings", "file_sha256"}


def test_another_picture_other_settings_or_another_file_are_not(folder):
    other = PICTURE.copy()
    other[1, 1, 1] ^= 1
    assert not Journal(folder, SETTINGS).holds("a.dfm", other)
    assert not Journal(folder, SETTINGS | {"quality": 61.0}).holds("a.dfm", PICTURE)
    assert not Journal(folder, SETTINGS).holds("b.dfm", PICTURE)
    (folder / "a.dfm").write_bytes(b"changed")
    assert not Journal(folder, SETTINGS).holds("a.dfm", PICTURE)
    (folder / "a.dfm").unlink()
    assert not Journal(folder, SETTINGS).holds("a.dfm", PICTURE)


def test_any_line_speaks_for_a_file(folder):
    Journal(folder, {"quality": 1.0}).add("a.dfm", PICTURE, b"a file that was replaced again")
    assert Journal(folder, SETTINGS).holds("a.dfm", PICTURE)


def test_shards_write_apart_and_read_together(folder):
    (folder / "b.dfm").write_bytes(b"other")
    Journal(folder, SETTINGS, shard=(2, 8)).add("b.dfm", PICTURE, b"other")
    assert (folder / ".dfm-encoded-2-of-8.jsonl").exists()
    for journal in (Journal(folder, SETTINGS), Journal(folder, SETTINGS, shard=(1, 3))):
        assert journal.holds("a.dfm", PICTURE) and journal.holds("b.dfm", PICTURE)


def test_damaged_lines_are_as_good_as_none(folder):
    with open(folder / ".dfm-encoded.jsonl", "ab") as file:
        file.write(b'[1]\n{"output": 3}\n\xff\xfe\n{"output": "c.dfm", "pic')
    (folder / "b.dfm").write_bytes(b"other")
    Journal(folder, SETTINGS).add("b.dfm", PICTURE, b"other")
    assert Journal(folder, SETTINGS).holds("a.dfm", PICTURE) and Journal(folder, SETTINGS).holds("b.dfm", PICTURE)


def test_shape_is_part_of_a_fingerprint():
    assert fingerprint(PICTURE) != fingerprint(PICTURE.reshape(4, 1, 3))
