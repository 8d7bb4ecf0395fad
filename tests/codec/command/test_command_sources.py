"""Which files a command reads and writes."""

import pytest

from dfm.codec.command.sources import Job, find_jobs
from dfm.errors import UserError


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty current folder with `in` and `out`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    return tmp_path


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def find(*inputs, output="out", shard=None):
    return find_jobs(inputs, output, (".png", ".jpg"), ".dfm", "pictures", shard)


def outputs(jobs) -> dict[str, str]:
    return {job.source: job.output for job in jobs.jobs}


def test_one_file_to_one_file(work):
    jobs = find("in/a.png", output="b.dfm")
    assert jobs.jobs == [Job("in/a.png", "b.dfm", "b.dfm")] and not jobs.into_folder
    assert outputs(find("-", output="-")) == {"-": "-"}


def test_files_into_a_folder(work):
    touch(work, "in/a.png", "b.weird")
    jobs = find("in/a.png", "b.weird")
    assert outputs(jobs) == {"in/a.png": "out/a.dfm", "b.weird": "out/b.dfm"} and jobs.into_folder
    assert outputs(find("in/a.png")) == {"in/a.png": "out/a.dfm"}


def test_a_folder_with_sub_folders(work):
    touch(
        work / "in", "b.png", "a.JPG", "sub/deep/c.png", "notes.txt", "x.heic", ".hidden.png", ".git/d.png", "old.dfm"
    )
    jobs = find("in")
    expected = {"in/a.JPG": "out/a.dfm", "in/b.png": "out/b.dfm", "in/sub/deep/c.png": "out/sub/deep/c.dfm"}
    assert outputs(jobs) == expected and jobs.left_alone == ["in/notes.txt", "in/x.heic"]


def test_linked_folders_are_followed_once(work):
    touch(work, "elsewhere/a.png")
    (work / "in" / "link").symlink_to(work / "elsewhere")
    (work / "elsewhere" / "back").symlink_to(work / "in")
    assert outputs(find("in")) == {"in/link/a.png": "out/link/a.dfm"}


def test_files_that_differ_in_their_suffix_keep_it(work):
    touch(work / "in", "a.png", "a.jpg", "B.png", "b.jpg", "c.png", "a.png.jpg")
    assert sorted(job.name for job in find("in").jobs) == [
        *("B.png.dfm", "a.jpg.dfm", "a.png.dfm", "a.png.jpg.dfm", "b.jpg.dfm", "c.dfm")
    ]


def test_the_same_file_twice_is_one(work):
    touch(work, "in/a.png")
    assert len(find("in/a.png", "in/a.png", "in").jobs) == 1


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["in"], "new.dfm", "new.dfm: the output of a folder must be a folder"),
        (["in/a.png", "in/b.png"], "new.dfm", "new.dfm: the output of several inputs must be a folder"),
        (["in/a.png", "in/b.png"], "in/a.png", "must be a folder"),
        (["in/a.png", "in/b.png"], "no/new", "no/new: cannot be made"),
        (["empty"], "out", "empty: no pictures in this folder (.png, .jpg)"),
        (["in/a.png", "-"], "out", "standard input has no name"),
        (["-"], "out", "standard input has no name"),
        (["in/a.png", "other/a.png"], "out", "other/a.png and in/a.png would both become a.png"),
    ],
)
def test_refusals(work, inputs, output, message):
    touch(work, "in/a.png", "in/b.png", "other/a.png", "empty/notes.txt")
    with pytest.raises(UserError) as caught:
        find(*inputs, output=output)
    assert message in str(caught.value)


def test_shards_share_a_folder(work):
    names = [f"{number}.png" for number in range(40)]
    touch(work / "in", *names)
    parts = [[job.source for job in find("in", shard=(part, 3)).jobs] for part in (1, 2, 3)]
    assert sorted(sum(parts, [])) == sorted(f"in/{name}" for name in names) and all(parts)
    # a part keeps its pictures whatever comes and goes beside them
    touch(work / "in", "0000.png", "zzz.png")
    (work / "in" / "7.png").unlink()
    again = [[job.source for job in find("in", shard=(part, 3)).jobs] for part in (1, 2, 3)]
    for before, after in zip(parts, again, strict=True):
        assert set(before) ^ set(after) <= {"in/0000.png", "in/zzz.png", "in/7.png"}


@pytest.mark.parametrize("form", ["{:04d}.png", "IMG_{:04d}.jpg", "kodim{:02d}.png", "{:d}.png"])
@pytest.mark.parametrize("first", [0, 1])
def test_numbered_names_are_spread_over_the_shards(work, form, first):
    """Of 24 names in 8 parts of 3 on average; CRC-32 put them into half of the parts."""
    touch(work / "in", *(form.format(number) for number in range(first, first + 24)))
    sizes = [len(find("in", shard=(part, 8)).jobs) for part in range(1, 9)]
    assert sum(sizes) == 24 and sizes.count(0) <= 1 and max(sizes) <= 6


def test_a_shard_may_be_empty(work):
    touch(work / "in", "a.png")
    assert sorted(len(find("in", shard=(part, 2)).jobs) for part in (1, 2)) == [0, 1]


def test_a_missing_folder_is_made_when_there_is_something_to_put_into_it(work):
    with pytest.raises(UserError, match="no pictures"):
        find("in", output="new")
    assert not (work / "new").exists()
    touch(work, "in/a.png")
    assert outputs(find("in", output="new")) == {"in/a.png": "new/a.dfm"}
    assert (work / "new").is_dir()
