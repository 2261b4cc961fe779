"""What the index takes from a page beside its record: the words a reader may look for, and the figure that stands for it."""

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from mdw.util.errors import MdwError
from mdw.util.files import read_text

EXCERPT = "excerpt.json"  # beside a page: its words, and the figure that stands for it
SKIPPED = {"svg", "math", "script", "style", "details"}
LONGEST = 4000  # characters of one section; what is longer is a listing that nobody looks up by its last words


class Place(TypedDict):
    """A place of a page that can be found; see `sections`."""

    id: str
    heading: str
    text: str


class Figure(TypedDict):
    """The figure that stands for a page; see `lead`."""

    name: str
    svg: str
    caption: str
    files: list[str]
    nominated: bool


class Excerpt(TypedDict):
    """What the file beside a page holds."""

    sections: list[Place]
    figure: Figure | None


def read(path: Path) -> Excerpt:
    """The excerpt beside a page, an empty one where there is no file. Raises MdwError, naming the file, where it is damaged."""
    if not path.exists():
        return {"sections": [], "figure": None}
    try:
        return msgspec.json.decode(read_text(path).encode("utf-8", "replace"), type=Excerpt)
    except (msgspec.DecodeError, RecursionError) as error:
        raise MdwError(f"{path} is damaged ({error}); publish the report again") from None


class _Words(HTMLParser):
    """Collects the text of a page's body under its headings; a table is a place of its own, named by its caption."""

    def __init__(self, title: str) -> None:
        super().__init__()
        self.sections: list[dict[str, Any]] = [{"id": "", "heading": title, "words": []}]
        self.open = [self.sections[0]]  # the section, and above it the table, that text belongs to
        self.skipped: list[str] = []  # the element that is passed over, once for each of its kind that is open
        self.heading: list[str] | None = None

    def handle_starttag(self, tag: str, attrs: list) -> None:
        attributes = dict(attrs)
        if tag in self.skipped or (not self.skipped and (tag in SKIPPED or "download" in attributes)):
            self.skipped.append(tag)
        elif tag in ("h2", "h3"):
            self.open = [self._section(attributes.get("id", ""))]
        elif tag == "figcaption" and "id" in attributes:
            self.open = [self.open[0], self._section(attributes["id"])]

    def handle_endtag(self, tag: str) -> None:
        if tag in self.skipped:
            self.skipped.pop()
        elif tag in ("h2", "h3", "figcaption") and self.heading is not None:
            self.open[-1]["heading"], self.heading = " ".join(" ".join(self.heading).split()), None
        elif tag == "figure":
            del self.open[1:]

    def handle_data(self, data: str) -> None:
        if not self.skipped:
            (self.open[-1]["words"] if self.heading is None else self.heading).append(data)

    def _section(self, name: str) -> dict:
        self.sections.append({"id": name, "heading": "", "words": []})
        self.heading = []
        return self.sections[-1]


def sections(title: str, body: str) -> list[dict]:
    """The HTML of a page's body -> its places in order: {"id" (of the heading or caption), "heading", "text"}; the first is the
    page itself, id "". No markup, drawings or formulas are left in them."""
    words = _Words(title)
    words.feed(body)
    words.close()
    return [
        {"id": one["id"], "heading": one["heading"], "text": re.sub(r"\s+", " ", " ".join(one["words"])).strip()[:LONGEST]}
        for one in words.sections
    ]


def lead(figures: list[dict], nominated: str) -> dict | None:
    """The figure that stands for a page: the one its headline names, else the first; None where it has none.

    figures: {"name", "svg", "caption", "files"} in order. The result says under "nominated" whether it was named.
    """
    named = next((one for one in figures if nominated and one["name"] == nominated), None)
    chosen = named or next(iter(figures), None)
    return None if chosen is None else chosen | {"nominated": named is not None}
