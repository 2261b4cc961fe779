"""The index of all reports, and the ways between them, made from what lies in the folder of pages whenever one is published."""

import csv
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import pandas as pd

from mdw.experiments import studies
from mdw.report import names, outputs, runs, words
from mdw.report.claims import words as claims
from mdw.report.claims.outcome import NOT_RUN, VERDICTS
from mdw.report.pages.people import NETWORKS, UNIT, PeoplePage, lead
from mdw.report.pages.study import length
from mdw.report.site import excerpt, markup, page, provenance, safe
from mdw.report.site.notebook import RECORD, read_record
from mdw.util.errors import MdwError
from mdw.util.files import read_text, write_text
from mdw.util.words import count

LEADS = ("09_", "11_")  # whose figure leads the index where several could: accuracy over cost, then the network on real people
CLAIMS = "claims.csv"  # in the report on every claim: part, claim, verdict as stated and elsewhere
KINDS = (  # part, column, what the index calls it
    ("claim", "verdict", "The article's claims, as stated"),
    ("claim", "elsewhere", "The same claims on other data, smaller inputs or shorter training"),
    ("consistency", "verdict", "The article with itself and with what it cites"),
)
TRAINED, COUNTED = ("figure", "gain", "order"), ("ratio", "cost")  # what tests a claim: runs, or counts of built networks
TITLE = "MDW-HRNet, rebuilt and measured"
T = TypeVar("T")
ABOUT = "What the article on the pose network MDW-HRNet claims, table by table, beside what this rebuild measures."


def build_index(out: str | Path = "reports", runs_root: str | Path = "runs") -> Path:
    """Write `out/index.html`, and into every page of `out` the list of all reports and its neighbours; returns its path.

    The index answers first whether the article's network is better, by the study on real people, then shows the headline
    figure, what became of every claim, every report with its headline and how it ended, and the finished training runs of
    `runs_root`; it can search the words of all pages. It is built from the records and what
    lies beside them; a report whose process died is shown as interrupted.
    """
    out = Path(out)
    found, damaged = _whole(_entry, sorted(folder for folder in out.glob("*") if os.path.lexists(folder / RECORD)))
    reports = list(found.values())
    pages = [report for report in reports if report["page"]]
    links: Any = page.environment().get_template("links.html.j2").module
    _, unlinked = _whole(lambda folder: _link(folder, pages, links), [report["path"] for report in pages])
    text = (
        page.environment()
        .get_template("index.html.j2")
        .render(
            title=TITLE,
            description=ABOUT,
            root="",
            reports=reports,
            menu=links.menu(pages, None, "") if pages else "",
            answer=_answer(out / "13_claims" / CLAIMS, runs_root, any(report["folder"] == "11_lspet" for report in pages)),
            verdicts=_verdicts(out / "13_claims", next((r["headline"] for r in reports if r["folder"] == "13_claims"), "")),
            figure=_figure(pages),
            runs=_runs(runs_root, out),
            damaged=list(dict.fromkeys((*damaged, *unlinked, *runs.damaged(runs_root).values()))),
            words=_words(pages),
        )
    )
    return write_text(out / "index.html", page.sealed(text))


def _whole(read: Callable[[Path], T], folders: Iterable[Path]) -> tuple[dict[Path, T], list[str]]:
    """What `read` gives of each folder of a page, and a sentence on each that is damaged."""
    found: dict[Path, T] = {}
    damaged = []
    for folder in folders:
        try:
            found[folder] = read(folder)
        except MdwError as error:
            damaged.append(str(error))
    return found, damaged


def _entry(folder: Path) -> dict:
    """What the site knows of one report."""
    record = read_record(folder) or {}
    return {
        "record": record,
        "folder": folder.name,
        "number": provenance.number(folder.name),
        "title": record["title"],
        "page": (folder / "index.html").exists(),
        "summary": markup.inline(record.get("summary", "")),
        "headline": markup.inline(record.get("headline", "")),
        "excerpt": excerpt.read(folder / excerpt.EXCERPT),
        "path": folder,
    }


def _link(folder: Path, pages: list[dict], links) -> None:
    """Put the list of reports and the neighbours into a page, between the marks that its template leaves for them."""
    place = next(place for place, report in enumerate(pages) if report["path"] == folder)
    before, after = pages[place - 1] if place else None, pages[place + 1] if place + 1 < len(pages) else None
    told = {"menu": links.menu(pages, folder.name, "../"), "turn": links.turn(before, after, "../")}
    old = new = read_text(folder / "index.html")
    for name, text in told.items():
        start, mark, rest = new.partition(f"<!--{name}-->")
        _, end, rest = rest.partition(f"<!--/{name}-->")
        new = f"{start}{mark}{text}{end}{rest}" if end else new
    if new != old:
        write_text(folder / "index.html", new)


def _verdicts(folder: Path, headline: str) -> str:
    """What became of the article's claims, by the table of the report on them: for each kind a strip and lists by verdict."""
    path = folder / CLAIMS
    if not path.exists():
        return "<p>The report on the article's claims is not published; each report below says in a line what came out.</p>"
    frame = _table(path, "part", "claim", "verdict", "elsewhere")
    link = f'<a href="{folder.name}/index.html">Every claim with its source and what tests it</a>'
    parts = [f"<p>{headline} {link}.</p>"]
    for part, column, title in KINDS:
        found = frame[(frame["part"] == part) & (frame[column] != "")]
        if len(found):
            parts.append(f"<h3>{title}</h3>{_strip(found['claim'], found[column])}")
    return "".join(parts)


def _strip(claims: pd.Series, verdicts: pd.Series) -> str:
    """Claims counted by verdict, drawn as a strip, and listed under each."""
    order = {verdict: place for place, verdict in enumerate(VERDICTS)}
    strip, lists = [], []
    for verdict in sorted(set(verdicts), key=lambda verdict: order.get(verdict, len(order))):
        chosen, kind = claims[verdicts == verdict], re.sub(r"\W+", "-", verdict)
        items = "".join(f"<li>{markup.inline(claim)}</li>" for claim in chosen)
        name = f'<i class="swatch {kind}"></i><strong>{len(chosen)}</strong> {markup.escape(verdict)}'
        strip.append(f'<i class="{kind}" style="flex-grow:{len(chosen)}"></i>')
        lists.append(f"<details><summary>{name}</summary><ul>{items}</ul></details>")
    return f'<div class="strip" aria-hidden="true">{"".join(strip)}</div><div class="verdicts">{"".join(lists)}</div>'


def _figure(pages: list[dict]) -> str:
    """The headline figure as markup: one that a page's headline names before any other, in the order of `LEADS`."""
    order = {name: place for place, name in enumerate(LEADS)}
    known = [(report, report["excerpt"]["figure"]) for report in pages if report["excerpt"]["figure"]]
    fits = [(report, figure) for report, figure in known if figure["nominated"] or report["folder"][:3] in order]
    if not fits:
        return '<p class="unmeasured">Nothing has been measured yet that could be drawn beside the article\'s figures.</p>'
    report, figure = min(fits, key=lambda pair: (not pair[1]["nominated"], order.get(pair[0]["folder"][:3], len(order))))
    where = f"[{safe.literal(report['title'])}]({quote(report['folder'])}/index.html)"
    caption = f"{figure['caption']} From {where}."
    if not _measured(report["path"] / f"{figure['name']}.csv"):
        caption += " **Nothing in it is measured yet**: its points are published ones."
    files = [f"{report['folder']}/{file}" for file in figure["files"]]
    return markup.figure(markup.drawing(figure["svg"], 1), caption, None, files).replace("<figure>", '<figure class="lead">', 1)


def _measured(path: Path) -> bool:
    """Whether a figure's data have a measured row; data that do not tell published from measured are all measured."""
    if not path.exists():
        return True
    frame = _table(path)
    return "origin" not in frame or frame["origin"].eq("measured").any()


def _table(path: Path, *columns: str) -> pd.DataFrame:
    """A table that a report left, all as text, with `columns`; empty where it is absent or damaged."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, csv.Error):  # pandas' own errors are ValueErrors
        frame = pd.DataFrame()
    return frame if set(columns) <= set(frame) else pd.DataFrame(columns=columns, dtype=str)


def _words(pages: list[dict]) -> str:
    """The words of all pages for search.js, as JSON that may stand in a script element."""
    reports = [[report["title"], f"{report['folder']}/index.html"] for report in pages]
    places = [
        [number, place["id"], place["heading"], place["text"]]
        for number, report in enumerate(pages)
        for place in report["excerpt"]["sections"]
    ]
    text = json.dumps({"reports": reports, "places": places}, ensure_ascii=False, separators=(",", ":"))
    return re.sub(r"[<\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", text)


def _answer(path: Path, root: str | Path, explained: bool) -> str:
    """Is the network better, on what, how sure, and what could not be tested: a sentence and a list as markup.

    path: the table of the report on the claims. explained: the report on real people is there, so a link can lead to it.
    """
    people = PeoplePage(studies.ON_PEOPLE, studies.SEEDS, root)
    found = {
        name: claims.finding(claims.of(people.tested, *ids), UNIT, "LSPET")
        for name, ids in (("networks", NETWORKS), ("modules", ("Q1", "Q2")))
    }
    frame = _table(path, "part", "test", "verdict")
    frame = frame[frame["part"].eq("claim")]
    accuracy, cost = (list(frame.loc[frame["test"].isin(kinds), "verdict"]) for kinds in (TRAINED, COUNTED))
    told = {
        "accuracy": accuracy,
        "cost": cost,
        "waiting": accuracy.count(NOT_RUN),
        "length": length(people.everything),
        "explained": explained,
        "lead": lead(people.tested),
    }
    body, _ = markup.markdown(words.text("index.answer", **found, **told), set())
    return body.replace("../", "").replace("<p>", '<p class="answer">', 1)


def _runs(root: str | Path, out: Path) -> str:
    """The finished runs as markup, a table for each data set and recipe, collapsed; a sentence where there is none."""
    groups: dict[tuple, list[runs.Run]] = {}
    for run in runs.find(root):
        if run.status == "finished":
            recipe = run.spec["recipe"]
            groups.setdefault((recipe["data"], recipe["name"], recipe.get("init", "mixed")), []).append(run)
    parts = []
    for number, ((data, recipe, start), found) in enumerate(groups.items(), start=1):
        title = f"{names.data_of(data)}, recipe {recipe}, {start} start: {count(len(found), 'run')}"
        table = markup.table(_group(found, out).spec, None, f"finished-runs-{number}")
        parts.append(f"<details><summary>{markup.inline(title)}</summary>{table}</details>")
    return "".join(parts) or "<p>No training run has finished yet.</p>"


def _group(found: list[runs.Run], out: Path) -> outputs.Output:
    """Runs of one recipe as a table, with links to their records from a page in `out`."""
    frame = runs.runs_frame(found, [names.name_of(run.spec["model"]) for run in found])
    metric, epochs = runs.metric_of(frame), names.and_list([str(epochs) for epochs in dict.fromkeys(frame["epochs"])])
    shown = {
        "network": frame["label"],
        "options": [", ".join(f"{name}={value}" for name, value in run.spec["options"].items()) or None for run in found],
        "learning rate": frame["lr"],
        "seed": frame["seed"],
        metric: frame["value"],
        "minutes": frame["minutes"],
        "commit": [None if pd.isna(text) else f"`{text}`" for text in frame["commit"]],
        "record": [f"[{safe.literal(run.path.name.rpartition('-')[2])}]({_way(run.path, out)}/result.json)" for run in found],
    }
    formats = {"learning rate": "{:g}", metric: "{:.1f}", "minutes": "{:.0f}"}
    machines = names.and_list(list(dict.fromkeys(frame["hardware"].dropna())), "an unknown machine")
    caption = f"{metric} in percent on the validation split after {epochs} epochs; on {machines}."
    return outputs.show(pd.DataFrame(shown), caption, formats=formats)


def _way(path: Path, out: str | Path) -> str:
    return quote(Path(os.path.relpath(path.resolve(), Path(out).resolve())).as_posix())
