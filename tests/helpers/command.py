"""Commands of `mdw` run in this process."""

from typer.testing import CliRunner

from mdw.cli import app
from mdw.util.errors import MdwError


def run(*arguments):
    """Run a command in this process: (status, output, the sentence it failed with)."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    mistake = result.exception if isinstance(result.exception, MdwError) else None
    if result.exception and mistake is None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output, str(mistake or "")


def mistake(*arguments):
    """The one sentence a command fails with."""
    status, _, sentence = run(*arguments)
    assert status == 1 and sentence and "\n" not in sentence
    return sentence
