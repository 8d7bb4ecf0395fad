"""Files appear complete or not at all, and none is replaced that should stay."""

import importlib
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dfm.errors import UserError
from dfm.files import ExistsError, check_writable, refuse_same_file, write_atomically, write_elsewhere


def message_of(function, *arguments) -> str:
    with pytest.raises(UserError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message and message.strip()
    return message


def test_check_writable_leaves_nothing_behind(tmp_path):
    check_writable(tmp_path / "new.dfm")
    assert not os.listdir(tmp_path)
    (tmp_path / "old.dfm").write_bytes(b"old")
    check_writable(tmp_path / "old.dfm")
    assert (tmp_path / "old.dfm").read_bytes() == b"old"


def test_check_writable_refuses(tmp_path):
    assert "folder" in message_of(check_writable, tmp_path)
    assert "does not exist" in message_of(check_writable, tmp_path / "missing" / "a.dfm")
    assert "cannot be written" in message_of(check_writable, tmp_path / ("a" * 300))
    (tmp_path / "file").touch()
    assert "does not exist" in message_of(check_writable, tmp_path / "file" / "a.dfm")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_check_writable_sees_permissions(tmp_path):
    (tmp_path / "protected.dfm").touch(mode=0o444)
    assert "write-protected" in message_of(check_writable, tmp_path / "protected.dfm")
    tmp_path.chmod(0o555)
    assert "Permission denied" in message_of(check_writable, tmp_path / "a.dfm")


def test_read_only_folder_by_a_failing_create(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "open", refuse)
    assert "Read-only file system" in message_of(check_writable, tmp_path / "a.dfm")
    assert "Read-only file system" in message_of(write_atomically, tmp_path / "a.dfm", b"data")


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.dfm"
    write_atomically(path, b"old")

    def disk_full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    assert "No space left" in message_of(write_atomically, path, b"new")
    assert path.read_bytes() == b"old" and os.listdir(tmp_path) == ["a.dfm"]


def test_written_files_honour_the_umask_and_links(tmp_path):
    previous = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a.dfm", b"one")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "a.dfm").stat().st_mode) == 0o640
    (tmp_path / "link.dfm").symlink_to(tmp_path / "a.dfm")
    write_atomically(tmp_path / "link.dfm", b"two")
    assert (tmp_path / "link.dfm").is_symlink() and (tmp_path / "a.dfm").read_bytes() == b"two"


def test_devices_are_written_to_and_not_replaced():
    check_writable(os.devnull)
    write_atomically(os.devnull, b"data")
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_no_overwrite_is_seen_before_the_work(tmp_path):
    (tmp_path / "old.dfm").write_bytes(b"old")
    with pytest.raises(ExistsError, match="exists already"):
        check_writable(tmp_path / "old.dfm", overwrite=False)
    check_writable(tmp_path / "new.dfm", overwrite=False)
    check_writable(os.devnull, overwrite=False)  # is written to, so nothing is lost


@pytest.mark.parametrize("hard_links", [True, False])
def test_no_overwrite_holds_when_the_file_appears_late(tmp_path, monkeypatch, hard_links):
    def refuse(*arguments):
        raise OSError(95, "Operation not supported")

    if not hard_links:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "late.dfm").write_bytes(b"theirs")
    with pytest.raises(ExistsError, match="exists already"):
        write_atomically(tmp_path / "late.dfm", b"ours", overwrite=False)
    write_atomically(tmp_path / "new.dfm", b"ours", overwrite=False)
    assert (tmp_path / "late.dfm").read_bytes() == b"theirs" and (tmp_path / "new.dfm").read_bytes() == b"ours"
    assert sorted(os.listdir(tmp_path)) == ["late.dfm", "new.dfm"]


def test_what_cannot_be_written_there_is_kept_beside_it(tmp_path):
    for name in ("a.dfm", "a.1.dfm"):
        (tmp_path / name).write_bytes(b"theirs")
    assert write_elsewhere(tmp_path / "a.dfm", b"ours") == tmp_path / "a.2.dfm"
    assert (tmp_path / "a.2.dfm").read_bytes() == b"ours" and (tmp_path / "a.1.dfm").read_bytes() == b"theirs"


def test_or_in_the_temporary_folder_where_the_folder_is_gone(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path))
    assert write_elsewhere(tmp_path / "gone" / "a.dfm", b"ours") == tmp_path / "a.1.dfm"
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "gone"))
    assert write_elsewhere(tmp_path / "gone" / "a.dfm", b"ours") is None


@pytest.mark.parametrize("how", ["itself", "spelling", "link", "hard link", "folder's link"])
def test_an_output_that_is_an_input_is_refused(tmp_path, how):
    photo, output = tmp_path / "photo.png", tmp_path / "other.png"
    photo.write_bytes(b"the only copy")
    if how == "itself":
        output = photo
    elif how == "spelling":
        output = tmp_path / ".." / tmp_path.name / "photo.png"
    elif how == "link":
        output.symlink_to(photo)
    elif how == "hard link":
        output.hardlink_to(photo)
    else:
        (tmp_path / "linked").symlink_to(tmp_path)
        output = tmp_path / "linked" / "photo.png"
    assert f"the input {photo}, which would be lost" in message_of(refuse_same_file, output, [tmp_path / "x", photo])


def test_an_output_that_is_no_input_passes(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"one")
    (tmp_path / "other.png").write_bytes(b"two")
    for output in ("other.png", "new.png"):
        refuse_same_file(tmp_path / output, [tmp_path / "photo.png", "-"])
    refuse_same_file("/dev/null", ["/dev/null"])


def test_a_folder_that_holds_the_input_is_refused(tmp_path):
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "model.safetensors").write_bytes(b"weights")
    for source in ("vae", "vae/model.safetensors"):
        assert "would be lost" in message_of(refuse_same_file, tmp_path / "vae", [tmp_path / source])
    refuse_same_file(tmp_path / "vae", [tmp_path / "other"])


@pytest.mark.skipif(not os.path.exists("/dev/fd/1"), reason="the system has no names for open files")
@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/dev/fd/3"])
def test_pipes_by_name(tmp_path, name):
    code = (
        "from dfm.files import check_writable, write_atomically\n"
        f"check_writable({name!r}, overwrite=False); write_atomically({name!r}, b'data', overwrite=False)"
    )
    environment = {**os.environ, "CODE": code, "PYTHONPATH": str(Path(__file__).parents[1])}
    program = f'{sys.executable} -c "$CODE" 3>&1 | cat'
    done = subprocess.run(["bash", "-c", program], capture_output=True, env=environment, timeout=60)
    assert (done.stdout, done.stderr) == (b"data", b"")


def test_closed_standard_output_is_refused_before_the_work(monkeypatch):
    monkeypatch.setattr(sys, "__stdout__", None)
    for function, arguments in ((check_writable, ("-",)), (write_atomically, ("-", b"data"))):
        assert message_of(function, *arguments) == "standard output is closed"


@pytest.mark.parametrize(
    "command",
    [
        "dfm.convert FOLDER FOLDER --to=safetensors",
        "dfm.convert FOLDER/weights.npz FOLDER --to=safetensors",
        "dfm.metrics.convert_inception FOLDER/weights.npz FOLDER/link.npz",
        "dfm.evaluate --make_stats=FOLDER/weights.npz --output=FOLDER/link.npz",
        "dfm.evaluate --samples=FOLDER/link.npz --reference=digits --output=FOLDER/weights.npz",
        "dfm.evaluate --make_stats=FOLDER --output=FOLDER/weights.npz",
        "dfm.evaluate --make_stats=folder:FOLDER --output=FOLDER/link.npz",
        "dfm.evaluate --make_stats=cifar10:test --inception_weights=FOLDER/weights.npz --output=FOLDER/link.npz",
        "dfm.evaluate --vae=FOLDER/weights.npz --reference=digits:test --output=FOLDER/link.npz",
        "dfm.evaluate --samples=digits:test --reference=folder:FOLDER --output=FOLDER/weights.npz",
        "dfm.evaluate --vae=FOLDER --reference=digits:test --output=FOLDER/weights.npz",
        "dfm.sample --vae=FOLDER --encode=FOLDER/weights.npz --output=FOLDER/link.npz",
        "dfm.sample --vae=FOLDER --encode=photo.png --output=FOLDER/link.npz",
    ],
)
def test_no_command_writes_over_its_input(tmp_path, capsys, command):
    (tmp_path / "weights.npz").write_bytes(b"the only copy")
    (tmp_path / "link.npz").symlink_to(tmp_path / "weights.npz")
    module, *arguments = command.replace("FOLDER", str(tmp_path)).split()
    assert importlib.import_module(module).main(arguments) == 2
    assert "would be lost" in capsys.readouterr().err
    assert (tmp_path / "weights.npz").read_bytes() == b"the only copy"
