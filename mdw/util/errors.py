"""The exceptions that stand for a user's mistake or wish, not for a fault of the program."""


class MdwError(ValueError):
    """A mistake that the user can correct. The message is one sentence: which file, field or flag is wrong, and what to do.

    The command line prints it without a traceback and exits with status 1. Control characters, which may come from a file or a
    server, are shown escaped.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


def printable(text: str) -> str:
    """Returns `text` with control characters escaped, so that a terminal shows them and does not obey them."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


class Stopped(MdwError):
    """A training was told to stop and has saved its state. A caller that runs several trainings stops, too."""


class OutOfTime(Stopped):
    """A training stopped as planned, because its time limit was reached."""


class Nobody(MdwError):
    """No person was found in the input."""
