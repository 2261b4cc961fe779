"""Small pieces of HTML: Markdown with native MathML, numbered tables, figures. Nothing here loads anything from anywhere."""

import html
import re
import xml.etree.ElementTree as ET
from urllib.parse import quote

import mistune
from latex2mathml.converter import convert_to_element

from mdw.report.site import safe

MIME = "application/vnd.mdw+json"  # what our own outputs carry beside their plain text; see outputs.py and plots.py
SHORT, LONG = 16, 60  # characters of a cell that stay on one line; above which it is prose and needs room
escape = html.escape


def math(latex: str, display: str = "inline") -> str:
    """LaTeX to MathML, `display` "inline" or "block"; what cannot be converted is shown as it was written."""
    try:
        root = convert_to_element(latex.strip(), display=display)
        for element in root.iter():  # the converter writes characters as "&#x02264;" and leaves what it was given as it is
            element.text = html.unescape(element.text) if element.text else element.text
        return safe.mathml(ET.tostring(root, encoding="unicode"))
    except Exception:  # the converter raises a dozen unrelated types; the reader still gets the formula
        return f"<code>{escape(latex.strip())}</code>"


class _Renderer(mistune.HTMLRenderer):
    """Headings get ids and are collected for the list of contents; links between notebooks become links between pages."""

    def __init__(self, taken: set[str]) -> None:
        super().__init__(escape=True)
        self.headings: list[tuple[int, str, str]] = []  # (level, id, inner HTML)
        self.taken = taken

    def heading(self, text: str, level: int, **attrs: object) -> str:
        name = slug(re.sub(r"<annotation.*?</annotation>|<[^>]+>", "", text), self.taken)
        self.headings.append((level, name, text))
        return f'<h{level} id="{name}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        if match := re.fullmatch(r"(?:\./)?([\w-]+)\.ipynb(#.*)?", url):
            url = f"../{match[1]}/index.html{match[2] or ''}"
        return super().link(text, url, title)

    def image(self, text: str, url: str, title: str | None = None) -> str:
        return image(url, text)

    def table(self, text: str) -> str:
        return f'<div class="scroll"><table>{text}</table></div>\n'

    def inline_math(self, text: str) -> str:
        return math(text)

    def block_math(self, text: str) -> str:
        return equation(text) + "\n"


def markdown(text: str, taken: set[str]) -> tuple[str, list[tuple[int, str, str]]]:
    """Markdown to (HTML, headings). Raw HTML is escaped; ids are made unique within `taken`, which grows."""
    renderer = _Renderer(taken)
    return str(_parser(renderer)(text)), renderer.headings


def slug(text: str, taken: set[str]) -> str:
    """An id for `text` that is not yet `taken`."""
    base = re.sub(r"[^a-z0-9]+", "-", html.unescape(text).lower()).strip("-") or "section"
    name, count = base, 2
    while name in taken:
        name, count = f"{base}-{count}", count + 1
    taken.add(name)
    return name


def table(spec: dict, number: int | None = None, key: str = "table", sortable: bool = True) -> str:
    """A table of ours as HTML.

    spec: {"caption", "note", "columns": [{"group", "name", "numeric"}], "rows": [[{"text", "sort"}]], "files"}; the first
    column heads its row. Captions and cells may hold inline Markdown with maths. `key` starts the ids of its parts.
    sortable: the heads are buttons, which the page's script answers.
    """
    columns, groups = spec["columns"], [column["group"] for column in spec["columns"]]
    head = []
    if any(groups):
        cells, start = [], 0
        while start < len(columns):
            width = next((i for i in range(start, len(columns)) if groups[i] != groups[start]), len(columns)) - start
            tag = (
                f'<th scope="colgroup" colspan="{width}">{escape(groups[start])}</th>'
                if groups[start]
                else (f'<td colspan="{width}"></td>')
            )
            cells.append(tag)
            start += width
        head.append(f'<tr class="groups">{"".join(cells)}</tr>')
    sortable = sortable and len(spec["rows"]) > 1
    names = []
    for column in columns:
        label = inline(column["name"])
        if sortable:
            label = f'<button type="button">{label}</button>'
        attributes = (' aria-sort="none"' if sortable else "") + (' class="n"' if column["numeric"] else "")
        names.append(f'<th scope="col"{attributes}>{label}</th>')
    head.append(f"<tr>{''.join(names)}</tr>")
    body = []
    for row in spec["rows"]:
        cells = []
        for index, (cell, column) in enumerate(zip(row, columns, strict=True)):
            classes = " ".join(
                name
                for name, on in (
                    ("n", column["numeric"]),
                    ("none", cell.get("missing")),
                    ("k", len(cell["text"]) <= SHORT),
                    ("t", len(cell["text"]) > LONG),
                )
                if on
            )
            attributes = (f' class="{classes}"' if classes else "") + (
                f' data-sort="{escape(str(cell["sort"]))}"' if cell.get("sort") is not None else ""
            )
            tag = 'th scope="row"' if index == 0 else "td"
            cells.append(f"<{tag}{attributes}>{inline(cell['text'])}</{tag.split()[0]}>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    label = f'<span class="label">Table {number}.</span> ' if number else ""
    note = f'<p class="note">{inline(spec["note"])}</p>' if spec.get("note") else ""
    prose = any(len(cell["text"]) > LONG for row in spec["rows"] for cell in row[1:])
    wide = " wide" if len(columns) > 6 or (prose and len(columns) > 3) else ""
    return (
        f'<figure class="table{wide}"><figcaption id="{key}">{label}{inline(spec["caption"])}</figcaption>'
        f'<div class="scroll" role="region" tabindex="0" aria-labelledby="{key}">'
        f'<table aria-labelledby="{key}"><thead>{"".join(head)}</thead><tbody>{"".join(body)}</tbody></table></div>'
        f"{note}{downloads(spec.get('files', []))}</figure>"
    )


def equation(latex: str) -> str:
    """A displayed equation; one that is wider than a phone scrolls by itself, by touch or by keyboard."""
    return f'<div class="equation" role="group" tabindex="0" aria-label="Equation">{math(latex, "block")}</div>'


def image(uri: str, alt: str) -> str:
    """An image that the page holds itself, as a data URI; of any other its alternative text alone: a page loads nothing."""
    whole = safe.IMAGE.fullmatch(uri)
    return f'<img src="{uri}" alt="{escape(alt)}" loading="lazy">' if whole else escape(alt)


def drawing(svg: str, number: int) -> str:
    """An inline SVG that keeps its letters readable on a phone, where it scrolls."""
    svg = safe.svg(re.sub(r"^.*?(?=<svg)", "", svg, flags=re.S))
    return f'<div class="scroll drawing" role="region" tabindex="0" aria-label="Drawing of figure {number}">{svg}</div>'


def figure(inner: str, caption: str, number: int | None, files: list[str]) -> str:
    """A figure around an image or an inline SVG."""
    label = f'<span class="label">Figure {number}.</span> ' if number else ""
    return f"<figure>{inner}<figcaption>{label}{inline(caption)}{downloads(files)}</figcaption></figure>"


def downloads(files: list[str]) -> str:
    """Links to the files of a figure or table, named by their kind and, for who hears the page, by the file."""
    if not files:
        return ""
    links = [
        f'<a href="{quote(file)}" download aria-label="Download {escape(file)}">{file.rpartition(".")[2].upper()}</a>'
        for file in files
    ]
    return f'<span class="files">{" ".join(links)}</span>'


def pandas_table(text: str, number: int, key: str) -> str | None:
    """The HTML that pandas writes for a frame, as a table of ours; None where `text` holds anything else."""
    match = re.search(r"<table.*</table>", text, re.S)
    if not match:
        return None
    try:
        root = ET.fromstring(match[0].replace("&nbsp;", "&#160;"))
    except ET.ParseError:
        return None
    texts = [["".join(cell.itertext()).strip() for cell in row] for row in root.findall("./tbody/tr")]
    names = ["".join(cell.itertext()).strip() for cell in next(iter(root.findall("./thead/tr")), ())]
    if not names or any(len(row) != len(names) for row in texts):
        return None
    rows = [[{"text": safe.literal(value), "sort": _number(value)} for value in row] for row in texts]
    numeric = [bool(rows) and all(_number(row[i]) is not None for row in texts) for i in range(len(names))]
    columns = [{"group": "", "name": safe.literal(name), "numeric": numeric[i]} for i, name in enumerate(names)]
    columns[0]["name"] = columns[0]["name"] or "row"
    return table({"caption": "", "note": "", "columns": columns, "rows": rows}, number, key)


def _number(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def inline(text: str) -> str:
    """One line of Markdown without blocks: "+ CDC" is no list and "# 1" no heading."""
    renderer = _Renderer(set())
    parse = _parser(renderer)
    state = parse.block.state_cls()
    return renderer.render_tokens(parse.inline(text, state.env), state)


def _parser(renderer: _Renderer) -> mistune.Markdown:
    return mistune.create_markdown(renderer=renderer, plugins=["math", "table", "footnotes", "strikethrough"])
