"""What the command lines share: options that would be ignored, streams that are closed, homes that are not known."""

import importlib
import io
import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from dfm import command_line
from dfm.command_line import Parser, run_command, say
from dfm.errors import UserError
from dfm.files import home_folder

REPOSITORY = Path(__file__).parents[1]


def parser() -> Parser:
    meanings = {
        "steps": ("--what=invert", lambda args: args.what == "invert"),
        "label": ("conditional models", lambda args: False),
    }
    parser = Parser(prog="x", meanings=meanings)
    parser.add_argument("--what", default="samples")
    group = parser.add_argument_group("more")
    group.add_argument("-s", "--steps", type=int, default=3)
    group.add_argument("--class", dest="label", type=int)
    return parser


@pytest.mark.parametrize("typed", [["--steps=7"], ["--steps", "3"], ["-s7"], ["--st=3"], ["--what=morph", "--steps=3"]])
def test_an_option_without_effect_is_refused_even_with_its_default(typed):
    with pytest.raises(UserError, match="^--steps is for --what=invert$"):
        parser().parse_args(typed)


def test_an_option_without_effect_is_named_as_it_is_typed():
    with pytest.raises(UserError, match="^--class is for conditional models$"):
        parser().parse_args(["--class=3"])


def test_options_with_an_effect_and_defaults_pass():
    assert parser().parse_args([]).steps == 3
    assert parser().parse_args(["--what=invert", "--steps=9"]).steps == 9


def test_given_are_the_options_that_were_typed():
    commands = Parser(prog="x")
    sub = commands.add_subparsers(parser_class=Parser).add_parser("go")
    sub.add_argument("input", nargs="?", default="here")
    sub.add_argument("-q", "--quality", default=75, type=int)
    sub.add_argument("--quiet", action="store_true")
    commands.parse_args(["go", "there", "-q75"])
    assert sub.given == {"quality": "--quality"}
    commands.parse_args(["go"])
    assert sub.given == {}


def test_a_table_that_names_no_option_is_a_mistake_of_the_program():
    with pytest.raises(AttributeError):
        Parser(meanings={"stpes": ("nothing", lambda args: True)}).parse_args([])


def python(code: str, redirection: str = "", **options) -> subprocess.CompletedProcess:
    """The code in a process of its own, with shell redirections."""
    program = f'exec {sys.executable} -c "$CODE" {redirection}'
    environment = {**os.environ, "CODE": code, "PYTHONPATH": str(REPOSITORY), **options.pop("env", {})}
    return subprocess.run(["bash", "-c", program], capture_output=True, timeout=60, env=environment, **options)


PRINTS = (
    "import sys; from dfm.command_line import run_command; sys.exit(run_command('x', lambda _: print('report'), ()))"
)
FAILS = (
    "import sys; from dfm.command_line import run_command, Parser\n"
    "sys.exit(run_command('x', lambda _: Parser(prog='x').parse_args(['--no']), ()))"
)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_traceback(closed):
    done = python(PRINTS, closed)
    assert (done.returncode, done.stderr) == (0, b"")
    done = python(FAILS, closed)
    assert done.returncode == 2 and b"Traceback" not in done.stderr


def test_files_do_not_get_the_number_of_a_closed_stream(tmp_path):
    code = (
        "import os; from dfm.command_line import run_command\n"
        f"def work(_):\n    with open({str(tmp_path / 'file')!r}, 'w') as file:\n        os.write(2, b'native noise')\n"
        "run_command('x', work, ())"
    )
    assert python(code, "2>&-").returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a device of Linux alone")
def test_full_standard_output_is_one_line():
    done = python(PRINTS, "> /dev/full")
    assert done.returncode == 2
    assert done.stderr == b"x: an output: cannot be written (No space left on device)\n"


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_reader_that_has_gone(stream):
    code = (
        "import sys, time; from dfm.command_line import run_command, say\n"
        "def work(_):\n    time.sleep(0.3)\n    say('note'); print('report')\n"
        "sys.exit(run_command('x', work, ()))"
    )
    descriptor = {"stdout": 1, "stderr": 2}[stream]
    reading, writing = os.pipe()
    os.close(reading)
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writing}
    done = subprocess.run([sys.executable, "-c", code], env=environment, timeout=60, **streams)
    os.close(writing)
    assert done.returncode == (141 if descriptor == 1 else 0)
    assert b"Traceback" not in (done.stderr or b"") and b"Exception" not in (done.stderr or b"")
    assert done.stdout in (None, b"report\n")


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_names_of_any_bytes_are_printed(encoding):
    name = "gr\u00fcn-\udcff.png"
    code = "from dfm.command_line import run_command, say\nrun_command('x', lambda _: print(name) or say(name), ())"
    done = python(f"name = {ascii(name)}\n{code}", env={"PYTHONIOENCODING": encoding})
    expected = b"gr\xc3\xbcn-\xff.png\n" if encoding == "utf-8" else b"gr\\xfcn-\xff.png\n"
    assert done.stdout == done.stderr == expected


@pytest.fixture
def homeless(monkeypatch):
    """No HOME, and a user whom the system does not know."""

    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("DFM_DATA_DIR", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


def test_commands_need_no_home(homeless):
    assert run_command("x", lambda _: None, ()) == 0


def test_what_needs_a_home_says_so(homeless):
    from dfm.data.datasets import default_data_dir

    for function in (home_folder, default_data_dir):
        with pytest.raises(UserError, match="no home folder is known"):
            function()


@pytest.mark.parametrize("command", ["compress --version", "convert --help", "sample --help", "evaluate --help"])
def test_help_and_version_need_no_home(homeless, capsys, command):
    name, option = command.split()
    with pytest.raises(SystemExit) as end:
        importlib.import_module(f"dfm.{name}").main([option])
    assert end.value.code == 0 and capsys.readouterr().out


def test_say_goes_on_where_nobody_reads(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    say("note")
    say("another")
    sys.stderr.close()  # what took its place


def test_compiled_programs_are_kept_up_to_a_size(monkeypatch, tmp_path):
    """The oldest go first."""
    cache = tmp_path / "dfm" / "jax"
    cache.mkdir(parents=True)
    for age, name in enumerate(("newest", "middle", "oldest")):
        (cache / name).write_bytes(bytes(1000))
        os.utime(cache / name, (1e9 - age, 1e9 - age))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")  # left alone
    monkeypatch.setattr(command_line, "MAX_CACHE_BYTES", 2500)
    command_line.run_command("dfm", lambda arguments: 0, [])
    assert sorted(path.name for path in cache.iterdir()) == ["middle", "newest"]


def test_a_home_folder_that_no_shell_has_seen_is_found(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    parser = Parser()
    parser.add_argument("--output")
    parser.add_argument("inputs", nargs="*")
    found = parser.parse_args(["--output=~/pictures", "~/a.png", "b~.png"])
    assert (found.output, found.inputs) == ("/home/someone/pictures", ["/home/someone/a.png", "b~.png"])


def test_say_says_one_line(capsys):
    say("two\nlines\x1b[2J.png: is empty")
    assert capsys.readouterr().err == "two\\nlines\\x1b[2J.png: is empty\n"
