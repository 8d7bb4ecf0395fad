"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake that one clear line explains; command lines print it and exit with code 2."""


def one_line(error: BaseException) -> str:
    """What another library's error says, on one line; its type where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__
