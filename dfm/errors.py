"""The one exception that means "the user can mend this"."""


class UserError(Exception):
    """A mistake that one clear line explains; command lines print it and exit with code 2."""
