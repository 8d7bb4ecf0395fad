"""`python -m dfm.evaluate` as tests call it."""

import json

from dfm import evaluate


def evaluated(capsys, *arguments):
    """The JSON lines of a command that must succeed."""
    code = evaluate.main([*arguments, "--quiet"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return [json.loads(line) for line in captured.out.splitlines()]


def refused(capsys, *arguments):
    """The one line of a command that must fail."""
    code = evaluate.main(list(arguments))
    captured = capsys.readouterr()
    assert (code, captured.out) == (2, "")
    assert captured.err.count("\n") == 1 and captured.err.startswith("dfm.evaluate: ")
    return captured.err
