"""Do reports say how they ended, what they were made of, and never a number that was not measured?"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from report_helpers import DIES, EVERYTHING, FAILS, KERNEL, NOTEBOOKS, SLEEPS, table5_runs, write_run

from mdw.experiments.studies import FULL, ON_PEOPLE, SIMPLE, STUDIES, Question, ahead
from mdw.report import article, outputs, plots, tables
from mdw.report import runs as frames
from mdw.report.claims import judge, outcome
from mdw.report.claims import words as claims
from mdw.report.site import excerpt, markup, page, provenance, publish, safe
from mdw.report.site import notebook as execution
from mdw.report.site import parameters as params
from mdw.report.site.index import build_index
from mdw.util.errors import MdwError


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """All the purpose-made notebooks published at once; four seconds are too few for the one that sleeps."""
    out = tmp_path_factory.mktemp("site")
    table5_runs(out / "runs")
    places = {"runs_root": out / "runs", "out": out / "reports", "notebooks": NOTEBOOKS}
    records = publish.publish(["80", "81", "83", "84"], "smoke", jobs=2, **places)
    assert [record["notebook"][:2] for record in records] == ["80", "81", "83", "84"]  # whichever was done first
    publish.publish(["82"], "smoke", timeout=4, **places)
    return out / "reports"


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


# parameters


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"step": 5}, r"no parameter `step`; it takes preset, steps, rate, flip, seeds"),
        ({"steps": "5"}, r"`steps` must be a whole number, such as 3, not '5'"),
        ({"steps": 5.0}, r"`steps` must be a whole number"),
        ({"steps": True}, r"`steps` must be a whole number"),
        ({"flip": "false"}, r"`flip` must be True or False"),
        ({"flip": 0}, r"`flip` must be True or False"),
        ({"rate": "fast"}, r"`rate` must be a number"),
        ({"rate": float("nan")}, r"`rate` must be a number"),
        ({"preset": 7}, r"`preset` must be a string"),
        ({"seeds": 3}, r"`seeds` must be a list of int values"),
        ({"seeds": [1, "2"]}, r"`seeds` must be a list of int values"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(tmp_path, given, says):
    with pytest.raises(MdwError, match=says) as caught:
        execution.run_notebook(EVERYTHING, given, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_values_that_fit_are_taken():
    allowed = params.declared(params.load(EVERYTHING))
    assert allowed["steps"].help == "how many points are drawn"
    values = params.check({"rate": 2, "seeds": (4, 5), "flip": False}, allowed)
    assert values == {"preset": "smoke", "steps": 3, "rate": 2.0, "flip": False, "seeds": [4, 5]}
    assert isinstance(values["rate"], float)


@pytest.mark.parametrize("source", ["steps = 3\ndouble = 2 * steps", "import os", "a, b = 1, 2", "steps ="])
def test_a_parameters_cell_holds_literals_only(source):
    """A value derived there would keep its default when the other is set."""
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    with pytest.raises(MdwError, match="parameters cell"):
        params.declared(nbformat.v4.new_notebook(cells=[cell]))


def test_a_notebook_without_that_cell_takes_nothing():
    assert params.declared(nbformat.v4.new_notebook()) == {}


def test_publishing_refuses_a_name_or_parameter_nobody_knows(tmp_path):
    with pytest.raises(MdwError, match="`85` is none of 80_everything"):
        publish.publish(["85"], out=tmp_path / "out", notebooks=NOTEBOOKS)
    with pytest.raises(MdwError, match="no report named here has the parameter `stepps`"):
        publish.publish(["80"], parameters={"stepps": 1}, out=tmp_path / "out", notebooks=NOTEBOOKS)
    assert not (tmp_path / "out").exists()
    given = publish.check_parameters(["80", "81", "84"], "smoke", {"seeds": [7]}, notebooks=NOTEBOOKS)
    assert given == {EVERYTHING: {"preset": "smoke", "seeds": [7]}, FAILS: {}, KERNEL: {}}


# endings


@pytest.mark.parametrize(
    ("source", "status", "cell", "says"),
    [
        (EVERYTHING, "finished", None, None),
        (FAILS, "failed", 3, "ValueError: a <plain> reason"),
        (SLEEPS, "timeout", 3, "stopped after 4 s"),
        (DIES, "killed", 2, "died without an exception"),
    ],
)
def test_the_record_says_how_it_ended(site, source, status, cell, says):
    record = execution.read_record(site / source.stem)
    assert (record["status"], record["cell"]) == (status, cell)
    assert record["error"] is None if says is None else says in record["error"]
    assert record["seconds"] > 0 and re.match(r"\d{4}-\d\d-\d\dT", record["started"]) and len(record["sha256"]) == 64
    executed = nbformat.read(site / source.stem / source.name, as_version=4)
    states = [c.metadata.papermill.status for c in executed.cells if c.cell_type == "code"]
    if status != "finished":  # what never ran must not be called completed
        assert status in states and states[-1] == "pending"
        assert "never" not in str([c.get("outputs") for c in executed.cells])


def test_pages_and_index_show_every_ending(site):
    index = text_of(site / "index.html")
    words = {"80_everything": "finished", "81_fails": "failed", "82_sleeps": "timed out", "83_dies": "killed"}
    for name, word in words.items():
        listed = index[index.index('<ol class="reports">') :]
        entry = listed[listed.index(f'href="{name}/index.html"') :]
        assert word in entry[: entry.index("</li>")]
        assert ("not complete" in text_of(site / name / "index.html")) == (word != "finished")
    assert "ValueError: a &lt;plain&gt; reason" in text_of(site / "81_fails" / "index.html")
    assert "last words" in text_of(site / "83_dies" / "index.html")


WRITTEN = {"parameters": {}, "sha256": "0", "python": "3", "versions": {}}  # what every record of a page has besides


def test_a_record_whose_process_is_gone_is_interrupted(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    base = {
        "status": "running",
        "notebook": "x",
        "title": "X",
        "preset": None,
        "started": "2024-01-01T00:00:00+00:00",
        "seconds": None,
        "commit": None,
        "error": None,
        **WRITTEN,
        "host": execution.platform.node(),
    }
    (tmp_path / "a").mkdir()
    path = tmp_path / "a" / "run.json"
    path.write_text(json.dumps(base | {"pid": gone.pid, "pid_started": "1"}))
    assert execution.read_record(tmp_path / "a")["status"] == "interrupted"
    path.write_text(json.dumps(base | {"pid": os.getpid(), "pid_started": "1"}))  # the number was given to another process
    assert execution.read_record(tmp_path / "a")["status"] == "interrupted"
    path.write_text(json.dumps(base | {"pid": os.getpid(), "pid_started": execution._process_started(os.getpid())}))
    assert execution.read_record(tmp_path / "a")["status"] == "running"
    with pytest.raises(MdwError, match="is publishing into"):
        execution.run_notebook(KERNEL, {}, tmp_path / "a")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_publisher_that_is_killed_leaves_no_finished_report(tmp_path, how):
    # in the background of a shell the tests, and what they start, are told to ignore SIGINT
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += f"from mdw.report.site.notebook import run_notebook; run_notebook({str(SLEEPS)!r}, {{}}, {str(tmp_path / 'out')!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    so_far = lambda: "".join(map(text_of, (tmp_path / "out").glob(".*.ipynb")))  # noqa: E731
    while '"before\\n"' not in so_far() and process.poll() is None:  # then it is in the cell that sleeps
        time.sleep(0.1)
    assert execution.read_record(tmp_path / "out")["status"] == "running"
    process.send_signal(how)
    process.wait()  # that cell ends in any case, if late
    assert execution.read_record(tmp_path / "out")["status"] == "interrupted"
    build_index(tmp_path, tmp_path / "runs")
    assert "interrupted" in text_of(tmp_path / "index.html") and ">finished<" not in text_of(tmp_path / "index.html")


def test_the_kernel_is_this_python_whatever_is_installed(tmp_path, monkeypatch):
    other = tmp_path / "kernels" / "python3"
    other.mkdir(parents=True)
    (other / "kernel.json").write_text(json.dumps({"argv": ["/bin/false"], "display_name": "other", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    (tmp_path / "out").mkdir()
    for name in ("old.svg", "old.csv", "index.html"):  # what an earlier run left must not pass for this one's
        (tmp_path / "out" / name).write_text("old")
    record = execution.run_notebook(KERNEL, {}, tmp_path / "out")
    assert record["status"] == "finished"
    assert not any((tmp_path / "out" / name).exists() for name in ("old.svg", "old.csv", "index.html"))
    printed = nbformat.read(tmp_path / "out" / KERNEL.name, as_version=4).cells[-1].outputs[0].text
    assert printed == f"{sys.executable}\nhistory False\n"  # and it keeps no history


def test_two_processes_publish_at_the_same_time(tmp_path):
    code = (
        "import sys; from mdw.report.site.publish import publish; "
        "publish(sys.argv[1:2], 'smoke', out='out', notebooks=sys.argv[2])"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, name, NOTEBOOKS], cwd=tmp_path) for name in ("80", "84")]
    assert [process.wait() for process in processes] == [0, 0]
    assert {execution.read_record(tmp_path / "out" / name)["status"] for name in (EVERYTHING.stem, KERNEL.stem)} == {"finished"}
    assert not [p for p in tmp_path.rglob(".*") if p.is_file()]  # no temporary file is left


# pages


class Tags(HTMLParser):
    def __init__(self, text: str):
        super().__init__()
        self.found: list[tuple[str, dict]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("name", ["index.html", "80_everything/index.html", "81_fails/index.html"])
def test_a_page_loads_nothing(site, name):
    text = text_of(site / name)
    assert len(text) < 500_000
    tags = Tags(text)
    for tag, attributes in tags.found:
        for key in ("src", "srcset", "poster", "data", "xlink:href", "action"):
            assert re.match(r"data:|#", attributes.get(key, "#")), (tag, attributes)
        if tag == "link":
            assert attributes["href"] == "data:,"
    assert "@import" not in text and not re.search(r"url\((?!#)", text)
    assert "default-src 'none'" in text
    ids = [attributes["id"] for _, attributes in tags.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in tags.found:  # every link inside the page leads somewhere
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids


def test_the_page_of_everything(site):
    text = text_of(site / "80_everything" / "index.html")
    assert text.count("<math") >= 2 and "<munderover>" in text or "<msubsup>" in text
    assert "<script>alert" not in text and "&lt;script&gt;" in text
    assert 'href="../81_fails/index.html"' in text
    assert "printed &lt;b&gt;plainly&lt;/b&gt;" in text and "to the other stream" in text
    assert "import pandas" not in text  # code stays in the notebook
    assert "example.org" not in text  # HTML that is no table is shown as its plain text
    for fact in (
        "Repeat with",
        "mdw report 80_everything --preset smoke",
        "Seeds",
        "made up",
        "how many points are drawn",
        "Computed: 3 points.",
    ):
        assert fact in text
    assert re.search(r"Table 1\..*Table 2\.", text, re.S) and re.search(r"Figure 1\..*Figure 3\.", text, re.S)


def test_words_for_what_is_absent(site):
    text = text_of(site / "80_everything" / "index.html")
    table = text[text.index("Two groups") :]
    rows = re.findall(r"<tr>(.*?)</tr>", table[: table.index("</tbody>")], re.S)[1:]
    cells = [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?>(.*?)</t[hd]>", row)] for row in rows]
    assert cells == [
        ["+ b", "67.8", "2", "10.25", "0.5"],
        ["a", "not stated", "0", "not run", "–"],
        ["c", "64", "1", "9.50", "–"],
    ]


def test_figures_lie_beside_the_page(site):
    folder = site / "80_everything"
    assert pd.read_csv(folder / "line.csv").to_dict("list") == {"step": [0, 1, 2], "value": [0.0, 0.5, 1.0]}
    assert pd.read_csv(folder / "groups.csv").columns.tolist() == [
        "network",
        "article AP",
        "measured n",
        "measured PCK",
        "measured std",
    ]
    points = pd.read_csv(folder / "line.csv")
    fig, ax = plots.new(height=2)
    ax.plot(points["step"], points["value"], "o-")
    assert plots.svg(fig, "line", "A line through 3 points.")[0] == text_of(folder / "line.svg")  # byte for byte
    assert "date" not in text_of(folder / "line.svg").lower()


def test_a_page_that_cannot_be_made_stops_no_other(tmp_path, monkeypatch):
    real = page.render
    monkeypatch.setattr(
        page, "render", lambda document, record: 1 / 0 if record["notebook"] == FAILS.stem else real(document, record)
    )
    records = publish.publish(["81", "84"], "smoke", runs_root=tmp_path, out=tmp_path / "out", notebooks=NOTEBOOKS)
    assert [record["status"] for record in records] == ["failed", "finished"]
    assert execution.read_record(tmp_path / "out" / FAILS.stem)["error"].startswith("Its page could not be made")


def test_markdown_and_maths():
    assert markup.inline("+ CDC") == "+ CDC"
    assert "<math" in markup.inline("$x^2$") and "\\" not in re.sub("<.*?>", "", markup.inline("$\\alpha$"))
    assert markup.inline(safe.literal("a_b*c*_d_ $x$")) == "a_b*c*_d_ $x$"
    body, headings = markup.markdown("## One\n\n## One", set())
    assert [name for _, name, _ in headings] == ["one", "one-2"]
    assert provenance.command({"notebook": "x", "parameters": {"preset": "demo", "runs": "my runs", "seeds": [0, 1]}}) == (
        "mdw report x --preset demo --runs 'my runs' -p 'seeds=[0, 1]'"
    )


# tables


def test_a_study_reads_what_is_there(tmp_path):
    table5_runs(tmp_path)
    frame = frames.study("table5", ON_PEOPLE, [0, 1], tmp_path)
    assert len(frame) == 2 * len(STUDIES["table5"])
    assert frame["status"].value_counts().to_dict() == {"finished": 6, "not run": 8}
    result = tables.summary(frame).set_index("label")
    assert result.loc["Simple", "mean"] == pytest.approx(10.1) and result.loc["Simple", "n"] == 2
    assert result.loc["Simple", "std"] == pytest.approx(0.2 / np.sqrt(2))
    how = result.loc["Simple", ["seeds", "boxes", "flip test", "hardware"]].tolist()
    assert how == ["0, 1", "ground truth", "yes", "one core"]
    assert result.loc["+ GCM", "n"] == 0 and pd.isna(result.loc["+ GCM", "mean"])
    assert frames.curves(frame).groupby("label", sort=False)["value"].max()["CDC + GCM (full)"] == pytest.approx(30.2)


def test_article_and_measured_figures_never_mix():
    ours = pd.DataFrame({"label": ["a", "b"], "AP": [1.0, None]})
    theirs = pd.DataFrame({"label": ["b", "c"], "AP": [9.0, 8.0]})
    both = tables.beside(theirs, ours)
    assert both["", "network"].tolist() == ["a", "b", "c"]
    assert both[outputs.MEASURED, "AP"].dropna().to_dict() == {0: 1.0}
    assert both[outputs.ARTICLE, "AP"].dropna().to_dict() == {1: 9.0, 2: 8.0}
    texts = [[cell["text"] for cell in row] for row in outputs.show(both, "x").spec["rows"]]
    assert texts == [["a", "not stated", "1"], ["b", "9", "not run"], ["c", "8", "not run"]]


def frame_of(**values) -> pd.DataFrame:
    rows = [{"label": name, "seed": i, "value": v, "metric": "AP"} for name, vs in values.items() for i, v in enumerate(vs)]
    return pd.DataFrame(rows)


def test_claims_are_called_what_they_are():
    frame = frame_of(base=[1, 2, 3], far=[11, 12, 13], near=[1.5, 2.5, 3.5], none=[None])
    orderings = [("far gains", "far", "base"), ("near gains", "near", "base"), ("base gains", "base", "far")]
    asked = [
        Question(str(place), text, ahead(*pair))
        for place, (text, *pair) in enumerate([*orderings, ("none gains", "none", "base")])
    ]
    tested = judge.answer(frame, asked)
    assert tested["outcome"].tolist() == ["holds", "undecided", "contradicted", "not run"]
    found, missed = claims.found(tested, "AP").text, claims.not_reproduced(tested, "AP").text
    assert "far gains: +10.0 AP (adjusted interval " in found and "base gains" not in found
    assert "undecided, which is no evidence for or against them (1 of 4):\n\n- near gains: +0.5 AP (adjusted interval" in found
    assert "detectable 2.7)" in found  # 3.367, of the noncentral t with 6 degrees of freedom, times sqrt(2 / 3)
    assert "base gains: the opposite was measured, −10.0 AP (adjusted interval" in missed
    assert "far gains" not in missed and "near gains" not in missed and "1 undecided and 1 not run" in missed
    told = claims.finding(tested, "AP", "LSPET")
    assert told.startswith("On LSPET, by AP, it is contradicted that base gains (−10.0, −") and "; far gains (+10.0, +" in told
    assert ". Undecided: near gains (+0.5, −" in told and told.endswith("). 1 of 4 comparisons have not been run.")
    assert claims.finding(tested[3:], "AP", "LSPET") == "No run answers this yet: not run."
    assert outcome.tally(tested["outcome"]) == "1 is contradicted, 1 holds, 1 is undecided and 1 has not been run"
    one = judge.answer(frame_of(base=[1], far=[11]), asked[:1])
    assert one["outcome"].tolist() == ["undecided"] and "noise over seeds unknown" in claims.found(one, "AP").text


def test_published_figures():
    frame = article.published("T2", ["MDW-HRNet-18", "Lite-HRNet-18"], primary=True)
    at = frame[(frame["input_size"] == "256x192")].groupby("model")["AP"].first()
    assert at.to_dict() == {"MDW-HRNet-18": 67.8, "Lite-HRNet-18": 64.8}
    assert article.article_rows("T5")["COCO AP"].tolist()[-1] == 67.8 and article.article_rows("T5")["COCO AP"].count() == 1
    assert article.window("MDW-HRNet-18", "256x192", "params") == "1.09–1.13"
    assert article.window("MDW-HRNet-30", "384x288", "cost") == "688"
    text = article.PUBLISHED.read_text()
    assert not re.search(r"/work|find_string|measured here|corpus", text)


def test_the_index_links_to_the_runs(site):
    text = text_of(site / "index.html")
    links = re.findall(r'href="([^"]+/result\.json)"', text)
    assert len(links) == 6 and all((site / link).resolve().is_file() for link in links)


def test_the_run_to_show(tmp_path):
    row = FULL
    write_run(tmp_path, SIMPLE, 2, 9.0, recipe="lspet_small")  # would be taken for its name, but is another network
    drawn, real = write_run(tmp_path, row, 0, 0.9), write_run(tmp_path, row, 1, 4.0, recipe="lspet_small")
    assert frames.best_run(tmp_path, row.model) is None  # neither kept its weights
    assert frames.best_run(tmp_path, row.model, with_weights=False).path == real
    (drawn / "weights.safetensors").touch()
    assert frames.best_run(tmp_path, row.model).path == drawn
    assert frames.runs_frame([frames.Run(real)])["value"].tolist() == [4.0]  # PCK is in percent already
    assert frames.runs_frame([frames.Run(drawn)])["value"].tolist() == [90.0]


def test_a_figure_needs_a_name_and_a_text():
    fig, _ = plots.new()
    with pytest.raises(MdwError, match="lower-case"):
        plots.save(fig, pd.DataFrame(), "../up", "c", "a")
    with pytest.raises(MdwError, match="alternative text"):
        plots.save(fig, pd.DataFrame(), "up", "c", " ")


def test_reports_do_not_wait_for_torch():
    names = "TablePage, PeoplePage, Fig5Page, budgets, verdicts, judge, plots, speed, study, tables"
    code = f"import sys; from mdw.report import {names}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


# the index


def page_of(out: Path, name: str, title: str, **about) -> Path:
    """The files of a report as far as the index reads them, without executing anything."""
    excerpt = {"sections": [{"id": "", "heading": title, "text": "words"}], "figure": None} | about.pop("excerpt", {})
    record = {"notebook": name, "title": title, "status": "finished", "preset": "demo", "started": "2024-01-01T00:00:00+00:00"}
    record |= {"seconds": 1.0, "commit": None, "error": None} | WRITTEN | about
    for file, value in ((execution.RECORD, record), ("excerpt.json", excerpt)):
        (out / name).mkdir(parents=True, exist_ok=True)
        (out / name / file).write_text(json.dumps(value))
    (out / name / "index.html").write_text("<!--menu--><!--/menu--><!--turn--><!--/turn-->")
    return out / name


def figure_of(name: str, nominated: bool) -> dict:
    drawing = {"name": name, "svg": f"<svg><title>{name}</title></svg>", "caption": f"Caption of {name}.", "files": []}
    return {"figure": drawing | {"nominated": nominated}}


def index_of(out: Path) -> str:
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", text_of(build_index(out, out / "runs")).partition("<main")[2]))


def test_the_index_says_what_holds_from_the_claims_own_tables(tmp_path):
    page_of(tmp_path, "06_x", "X")
    assert "The report on the article's claims is not published" in index_of(tmp_path)
    folder = page_of(tmp_path, "13_claims", "Claims", headline="Of 2 claims one holds.")
    table = "id,part,claim,verdict,elsewhere\n1,claim,A < B & C,holds,\n2,claim,second,not run,contradicted\n"
    (folder / "claims.csv").write_text(table + "3,consistency,third,holds,\n4,hypothesis,fourth,holds,\n")
    text = index_of(tmp_path)
    stated, other, itself = (
        text.partition("Training runs")[0].split("The same claims on")[0],
        *text.split("The article with"),
    )
    assert "Of 2 claims one holds." in stated and re.search(r"1 holds A &lt; B &amp; C 1 not run second", stated), stated
    assert re.search(r"shorter training 1 contradicted second", other), other
    assert re.search(r"cites 1 holds third", itself) and "fourth" not in text
    (folder / "claims.csv").write_text(table.replace("holds", "contradicted"))
    assert re.search(r"as stated 1 contradicted A &lt; B &amp; C 1 not run second", index_of(tmp_path))


def test_the_figure_that_leads_the_index(tmp_path):
    page_of(tmp_path, "02_cost", "Cost", excerpt=figure_of("cost", False))
    assert "Nothing has been measured yet" in index_of(tmp_path)  # only reports on accuracy lead unasked
    page_of(tmp_path, "11_lspet", "People", excerpt=figure_of("people", False))
    assert "Caption of people." in index_of(tmp_path)
    fig5 = page_of(tmp_path, "09_fig5", "Accuracy over cost", excerpt=figure_of("fig5", False))
    assert "Caption of fig5. From Accuracy over cost" in index_of(tmp_path)
    (fig5 / "fig5.csv").write_text("label,origin\na,published\n")
    assert "Nothing in it is measured yet" in index_of(tmp_path)
    (fig5 / "fig5.csv").write_text("label,origin\na,published\na,measured\n")
    assert "Nothing in it is measured yet" not in index_of(tmp_path)
    page_of(tmp_path, "02_cost", "Cost", excerpt=figure_of("cost", True))
    assert "Caption of cost." in index_of(tmp_path)  # a report that names its figure comes first


def test_the_words_of_a_page_without_its_marks():
    body = (
        '<h2 id="one">One <code>x</code></h2><p>first &amp; <b>second</b></p><figure class="table"><figcaption id="table-1">'
        'Caption</figcaption><table><tr><td>7</td></tr></table><a href="t.csv" download>CSV</a></figure><p>after</p>'
        "<svg><a>drawn</a><text>no</text></svg><script>no</script><math><mi>no</mi></math><p>end</p>"
    )
    assert excerpt.sections("Title", body) == [
        {"id": "", "heading": "Title", "text": ""},
        {"id": "one", "heading": "One x", "text": "first & second after end"},
        {"id": "table-1", "heading": "Caption", "text": "7"},
    ]
