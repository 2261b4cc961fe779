"""The one exception that stands for a user's mistake."""


class MdwError(ValueError):
    """Something the user can mend. The message is one sentence that names the file, field or flag and the remedy.

    The command line prints it without a traceback and exits with status 1. Control characters, which may come from a file or a
    server, are shown escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """`text` with control characters escaped, so that a terminal shows them and does not obey."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Stopped(MdwError):
    """A training that was asked to stop and has saved where it stood; whoever carries out several stops with it."""


class OutOfTime(Stopped):
    """Stopped because the time it was given is over, as planned."""


class Nobody(MdwError):
    """There is no person in what was looked at."""
