"""The one exception that means "the user can mend this", and words for its line."""


class UserError(Exception):
    """A mistake that one clear line explains; command lines print it and exit with code 2."""


def one_line(error: BaseException) -> str:
    """What another library's error says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def counted(count: int, noun: str) -> str:
    """`1 channel`, `3 channels`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
