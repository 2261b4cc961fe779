"""The one exception that stands for a user's mistake."""


class MdwError(ValueError):
    """Something the user can mend. The message is one sentence that names the file, field or flag and the remedy.

    The command line prints it without a traceback and exits with status 1.
    """


class Stopped(MdwError):
    """A training that was asked to stop and has saved where it stood; whoever carries out several stops with it."""


class OutOfTime(Stopped):
    """Stopped because the time it was given is over, as planned."""


class Nobody(MdwError):
    """There is no person in what was looked at."""
