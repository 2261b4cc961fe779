"""An executed notebook and its record -> one self-contained HTML page, set like a paper: no code, no library, no request."""

import base64
import functools
import re
from pathlib import Path

import jinja2
import nbformat

from mdw.report.explorers import explorer
from mdw.report.site import excerpt, markup, provenance, safe
from mdw.report.site import parameters as params

TEMPLATES = Path(__file__).parent / "templates"
OWN = {  # what every page and the index bring along
    name: (TEMPLATES / file).read_text(encoding="utf-8")
    for name, file in (("style", "style.css"), ("theme", "theme.js"), ("script", "page.js"), ("search", "search.js"))
}
IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}


@functools.cache
def environment() -> jinja2.Environment:
    """The templates; every value is escaped unless a template says it is markup already."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.globals |= OWN | {"endings": provenance.ENDINGS}
    found.filters |= {"when": provenance.when, "duration": provenance.duration, "value": provenance.show_value}
    return found


class _Body:
    """Turns the cells of one notebook into HTML, numbering figures and tables as it goes."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.headings: list[tuple[int, str, str]] = []
        self.ids: set[str] = {"main", "provenance", "contents", "theme"}
        self.count = {"figure": 0, "table": 0}
        self.facts: dict = {}
        self.headline = ""
        self.figures: list[dict] = []
        self.nominated = ""  # the figure that the headline names
        self.shows_error = False  # the traceback stands where it was raised
        self.summary = ""  # the first paragraph, as Markdown

    def number(self, kind: str) -> int:
        self.count[kind] += 1
        return self.count[kind]

    def markdown(self, text: str) -> None:
        body, headings = markup.markdown(text, self.ids)
        self.parts.append(body)
        self.headings += headings

    def cell(self, cell: nbformat.NotebookNode) -> None:
        tags = cell.metadata.get("tags", [])
        if any(tag.startswith("papermill-error") for tag in tags):
            return  # papermill's red link; the page has its own notice
        if cell.cell_type == "markdown":
            source = cell.source
            if not self.summary:
                source = re.sub(r"\A\s*# .*\n?", "", source)  # the title stands in the page's header
                first, _, source = source.strip().partition("\n\n")
                self.summary = " ".join(first.split())
            self.markdown(source)
        elif cell.cell_type == "code":
            for output in cell.outputs:
                self.output(output)

    def output(self, output: nbformat.NotebookNode) -> None:
        if output.output_type == "stream":
            text = markup.escape(_plain(output.text).strip())
            if text and output.name == "stderr":
                self.parts.append(f"<details><summary>Messages while this ran</summary><pre>{text}</pre></details>")
            elif text:
                self.parts.append(f"<pre>{text}</pre>")
        elif output.output_type == "error":
            self.shows_error = True
            trace = _plain("\n".join(output.traceback) or f"{output.ename}: {output.evalue}")
            trace = markup.escape(re.sub(r"\A-+\n", "", trace))
            self.parts.append(f'<pre class="error">{trace}</pre>')
        else:
            self.display(output.data)

    def display(self, data: dict) -> None:
        """One displayed object, in the richest form that is safe to show."""
        if markup.MIME in data:
            self.own(data[markup.MIME], data)
        elif "text/markdown" in data:
            self.markdown(_joined(data["text/markdown"]))
        elif "image/svg+xml" in data:
            number = self.number("figure")
            self.parts.append(markup.figure(markup.drawing(_joined(data["image/svg+xml"]), number), "", number, []))
        elif image := next((mime for mime in IMAGES if mime in data), None):
            self.parts.append(
                markup.figure(_image(data[image], image, data.get("text/plain", "figure")), "", self.number("figure"), [])
            )
        elif "text/html" in data and (
            table := markup.pandas_table(
                _joined(data["text/html"]), self.count["table"] + 1, f"table-{self.count['table'] + 1}"
            )
        ):
            self.number("table")
            self.parts.append(table)
        elif "text/latex" in data:
            self.parts.append(markup.equation(_joined(data["text/latex"]).strip("$ ")))
        elif "text/plain" in data:
            self.parts.append(f"<pre>{markup.escape(_joined(data['text/plain']))}</pre>")

    def own(self, spec: dict, data: dict) -> None:
        """An output of outputs.py or plots.py."""
        match spec["kind"]:
            case "table":
                number = self.number("table")
                self.parts.append(markup.table(spec, number, f"table-{number}"))
            case "figure":
                number = self.number("figure")
                svg = _joined(data["image/svg+xml"])
                self.figures.append({"svg": svg} | {key: spec[key] for key in ("name", "caption", "files")})
                self.parts.append(markup.figure(markup.drawing(svg, number), spec["caption"], number, spec["files"]))
            case "photo":
                mime = next(mime for mime in IMAGES if mime in data)
                image = _image(data[mime], mime, spec["alt"])
                self.parts.append(markup.figure(image, spec["caption"], self.number("figure"), []))
            case "explorer":
                self.parts.append(explorer.static(spec, data, self.number("figure")))
            case "prose" if not self.summary:  # a notebook whose first paragraph is computed
                self.summary = " ".join(spec["text"].split())
            case "prose":
                self.markdown(spec["text"])
            case "facts":
                self.facts |= dict(spec["facts"])
                self.markdown(spec.get("note", ""))
            case "headline":
                self.headline, self.nominated = spec["text"], spec.get("figure", "")


def render(notebook: nbformat.NotebookNode, record: dict, help: dict[str, str] | None = None) -> tuple[str, dict]:
    """-> (the page, what the index takes from it: {"summary", "headline", "facts", "excerpt": {"sections", "figure"}}).

    notebook: executed, format 4. record: as `notebook.run_notebook` returns it. help: what each parameter means.
    """
    body = _Body()
    for cell in notebook.cells:
        body.cell(cell)
    known = params_help(notebook) | (help or {})
    html = "\n".join(body.parts)
    about = {"summary": body.summary, "headline": body.headline, "facts": body.facts}
    places = excerpt.sections(record["title"], f"{markup.inline(body.summary)}\n{html}")
    about["excerpt"] = {"sections": places, "figure": excerpt.lead(body.figures, body.nominated)}
    contents = [(name, re.sub(r"<a .*?>|</a>", "", text)) for level, name, text in body.headings if level == 2]
    page = (
        environment()
        .get_template("page.html.j2")
        .render(
            record=record,
            shows_error=body.shows_error,
            body=html,
            summary=markup.inline(body.summary),
            facts=provenance.facts(body.facts, record),
            contents=contents,
            help=known,
            command=provenance.command(record),
            trainings=provenance.trainings(record),
            made_of=provenance.runs_read(record),
            headline=markup.inline(body.headline),
            number=provenance.number(record["notebook"]),
            title=record["title"],
            description=re.sub(r"[*`$]", "", body.summary or record["title"]),
            root="../",
            menu="",
        )
    )
    return sealed(page), about


def sealed(page: str) -> str:
    """A whole page under the policy that only the scripts and style sheets of this package count; see `safe.sealed`."""
    return safe.sealed(page, [*OWN.values(), explorer.style(), *map(explorer.script, explorer.KINDS)])


def params_help(notebook: nbformat.NotebookNode) -> dict[str, str]:
    """The comment of each parameter in the notebook's own cell."""
    return {parameter.name: parameter.help for parameter in params.declared(notebook).values()}


def _image(data: str | list, mime: str, alt: str) -> str:
    encoded = "".join(_joined(data).split())
    base64.b64decode(encoded, validate=True)  # what is no image must fail here, not in the reader's browser
    return markup.image(f"data:{mime};base64,{encoded}", _joined(alt))


def _joined(text: str | list) -> str:
    return text if isinstance(text, str) else "".join(text)


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
