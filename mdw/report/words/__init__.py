"""The sentences of the pages: macros in this folder's *.md.j2, filled in with computed values; Markdown."""

import functools
import re
from pathlib import Path

import jinja2

from mdw.report import names
from mdw.report.claims import outcome
from mdw.util.words import count

BLOCKS = re.compile(r"^[ \t]*((?:\{%(?:(?!%\}).)*%\})+)[ \t]*\n", re.M)  # a line of block tags alone leaves none


def _source(name: str) -> str:
    return BLOCKS.sub(r"\1", (Path(__file__).parent / name).read_text(encoding="utf-8"))


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(loader=jinja2.FunctionLoader(_source), undefined=jinja2.StrictUndefined)
    made.filters |= {
        "and_list": names.and_list,
        "count": count,
        "signed": lambda value, pattern="{:+.1f}": names.signed(pattern, value),
        "fixed": lambda value, digits=1: names.signed(f"{{:.{digits}f}}", value),
        "tally": outcome.tally,
    }
    made.globals |= {"NOT_RUN": outcome.NOT_RUN}
    return made


def text(macro: str, /, **values: object) -> str:
    """The macro "file.macro" with its values, as Markdown: lines of a paragraph are joined, paragraphs and lists stay."""
    file, _, name = macro.partition(".")
    written = str(getattr(_environment().get_template(f"{file}.md.j2").module, name)(**values))
    lines = "\n".join(" ".join(line.split()) for line in written.strip().splitlines())
    return re.sub(r"(?<!\n)\n(?!\n|- )", " ", re.sub(r"\n{3,}", "\n\n", lines))


def document(file: str, /, **values: object) -> str:
    """A whole file of this folder with its values, as it is written."""
    return _environment().get_template(f"{file}.md.j2").render(**values) + "\n"
