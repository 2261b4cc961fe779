"""What others wrote never runs in a page: records, names of files and folders, options, outputs of notebooks, in Chromium."""

import csv
import re
from pathlib import Path

import pytest
from report_helpers import NOTEBOOKS, write_run, write_study

from mdw.experiments import studies
from mdw.experiments.studies import STUDIES
from mdw.report import outputs
from mdw.report.site import markup, page, publish, safe
from mdw.util.files import read_json, write_json

SCRIPT = "<script>window.ran=1</script>"
TEXTS = (  # each in another syntax
    f"$\\text{{{SCRIPT}}}$",
    f"$\\mbox{{{SCRIPT}}}$ $\\href{{javascript:window.ran=1}}{{x}}$",
    f"{SCRIPT} **bold** [x](javascript:window.ran=1)",
    '"><img src=x onerror="window.ran=1">`',
)


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory) -> Path:
    """Every text that a run's files or folder may hold is hostile, and so are a report's folder, record and outputs."""
    root = tmp_path_factory.mktemp("hostile")
    runs, out = root / "runs", root / "reports"
    write_study(runs, "table5", studies.ON_PEOPLE, {"Simple": (10.0, 10.2), "CDC + GCM (full)": (30.0, 30.2)})
    for path in sorted(runs.iterdir()):
        write_json(path / "env.json", {"hardware": TEXTS[0], "commit": TEXTS[1], "data": {TEXTS[2]: {"ids": TEXTS[3]}}})
    for number, text in enumerate(TEXTS):
        path = write_run(runs, STUDIES["table5"][0], number + 5, 20.0, studies.ON_PEOPLE, hardware=text, commit=text)
        spec = read_json(path / "recipe.json")
        spec |= {"model": text, "options": {text: text, "list": [text]}}
        spec["recipe"] |= {"name": text, "data": text, "init": text, "input_size": [96, 128]}
        write_json(path / "recipe.json", spec)
        write_json(path / "result.json", read_json(path / "result.json") | {"boxes": "ground truth"})
        path.rename(runs / f"{text.replace('/', '')}-{text.replace('/', '')}")
    broken = runs / f"broken {TEXTS[0].replace('/', '')}"
    broken.mkdir()
    (broken / "recipe.json").write_text("[]")
    (hostile,) = publish.publish(["86"], "smoke", {"name": TEXTS[0]}, runs, out, notebooks=NOTEBOOKS)
    assert hostile["status"] == "failed" and "ValueError" in hostile["error"]
    table, people = publish.publish(["06", "11"], "smoke", {"seeds": [0, 1]}, runs, out)
    assert table["status"] == people["status"] == "finished", (table["error"], people["error"])
    other = out / "javascript:window.ran=1"
    other.mkdir()
    write_json(other / "run.json", table | {"title": TEXTS[0], "headline": TEXTS[1], "summary": TEXTS[2], "error": TEXTS[3]})
    figure = {"name": "x", "svg": f"<svg>{SCRIPT}</svg>", "caption": TEXTS[0], "files": [TEXTS[3]], "nominated": True}
    place = {"id": TEXTS[3], "heading": f"</script>{SCRIPT}", "text": "zebra \u2028 " + TEXTS[2]}
    write_json(other / "excerpt.json", {"sections": [place], "figure": figure})
    (other / "index.html").write_text((out / "06_table5_modules/index.html").read_text(encoding="utf-8"), encoding="utf-8")
    publish.publish(["86"], "smoke", {"name": TEXTS[0]}, runs, out, notebooks=NOTEBOOKS, force=True)  # the index anew
    return out


def looked_at(browser, path: Path):
    """The page, opened and worked a little: nothing has run, been asked for or been refused by the policy."""
    said, asked, opened = [], [], browser.new_page()
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(path.as_uri())
    opened.wait_for_timeout(300)
    for link in opened.locator("a").all():
        assert re.match(r"(?:file|https?):", opened.evaluate("a => a.href", link.element_handle())), link
    assert opened.evaluate("window.ran") is None
    assert opened.locator("foreignObject, iframe, object, [onload], [onerror], [onclick], [style]").count() == 0
    assert said == [] and [url for url in asked if not url.startswith(("data:", "file:"))] == []
    return opened


@pytest.mark.browser
@pytest.mark.parametrize("name", ["index.html", "86_hostile/index.html", "06_table5_modules/index.html", "11_lspet/index.html"])
def test_nothing_runs(browser, site, name):
    looked_at(browser, site / name).close()


@pytest.mark.browser
def test_texts_of_records_stand_as_they_are(browser, site):
    opened = looked_at(browser, site / "index.html")
    shown = opened.evaluate("document.body.textContent")
    for text in TEXTS:
        assert text in shown, text  # neither maths nor Markdown nor markup
    assert opened.locator("#runs ~ * math, #runs ~ * a[href^='javascript'], #runs ~ * b").count() == 0
    assert "recipe.json is []" in shown and "broken $" in shown
    opened.fill("#q", "zebra")
    opened.wait_for_timeout(200)
    assert opened.locator("#found li").count() == 1 and opened.evaluate("window.ran") is None
    opened.locator("#found a").first.click()
    opened.wait_for_load_state()
    assert opened.url.startswith("file:") and opened.evaluate("window.ran") is None
    opened.close()


@pytest.mark.browser
def test_the_policy_alone_stops_what_stands_in_a_page(browser, site, tmp_path):
    """Were a script to get in by a way that nobody has thought of, it would not run: it has no hash."""
    text = (site / "86_hostile/index.html").read_text(encoding="utf-8")
    more = f'{SCRIPT}<img src=x onerror="window.ran=2"><a id="j" href="javascript:window.ran=3">j</a><base href="https://example.org/">'
    more += '<style>h1 { color: rgb(1, 2, 3) }</style><p id="p" style="color: rgb(1, 2, 3)">p</p>'
    (tmp_path / "x.html").write_text(text.replace("</main>", f"{more}</main>"), encoding="utf-8")
    opened = browser.new_page()
    opened.goto((tmp_path / "x.html").as_uri())
    opened.locator("#j").click()
    opened.wait_for_timeout(300)
    assert opened.evaluate("window.ran") is None
    assert (
        opened.evaluate(
            "[getComputedStyle(document.querySelector('h1')).color, getComputedStyle(p).color].includes('rgb(1, 2, 3)')"
        )
        is False
    )
    assert opened.evaluate("document.baseURI").startswith("file:")
    opened.locator("#theme").click()  # ours run
    assert opened.evaluate("document.documentElement.dataset.theme") in ("dark", "light")
    opened.close()


def test_the_policy_names_our_scripts_and_nothing_else(site):
    for path in site.glob("*/index.html"):
        text = path.read_text(encoding="utf-8")
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
        rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
        assert "unsafe" not in policy and rules["default-src"] == "'none'" and rules["img-src"] == "data:"
        assert all(re.fullmatch(r"'sha256-[\w+/]+='", source) for source in rules["script-src"].split())
    assert 'src="' not in re.sub(r'src="data:image/', "", text)


def test_a_script_that_is_not_ours_gets_no_hash():
    ours = "<!doctype html><head><!--policy--></head><body><script>a()</script></body>"
    both = ours.replace("</body>", "<script>b()</script><style>x</style></body>")
    assert ours != both and safe.sealed(both, ["a()"]).split("<script")[0] == safe.sealed(ours, ["a()"]).split("<script")[0]


@pytest.mark.parametrize("text", [*TEXTS, "_a_", "a\n\n# b", "~~x~~", "![x](y)", "&lt;b&gt;", "\\", "`$x$`", "<http://x>"])
def test_a_literal_is_shown_as_it_was_written(text):
    shown = markup.inline(safe.literal(text))
    words = " ".join(text.split())
    assert shown == page.markup.escape(words).replace("&#x27;", "'")


def test_names_are_no_marks():
    for text in ("mdw_hrnet_18", "+ CDC", "COCO val", "Intel(R) Xeon(R) CPU @ 2.60GHz, 2 cores", "0123456789+", "one core"):
        assert safe.literal(text) == text
    assert safe.literal({"a_b": [1, None, "*"]}) == {"a_b": [1, None, "\\*"]}
    assert markup.inline(f"{safe.literal({'a': ['$x$', '*b*']})}") == "{'a': ['$x$', '*b*']}"


@pytest.mark.parametrize(
    ("latex", "kept"),
    [
        (r"\text{<script>x</script>}", "&lt;script&gt;x&lt;/script&gt;"),
        (r"\href{javascript:x}{y}", "<mi>y</mi>"),
        (r"\text{<a href=x>}", "&lt;a&nbsp;href=x&gt;"),
        (r"\text{a & b < c}", "a&nbsp;&amp;&nbsp;b&nbsp;&lt;&nbsp;c"),
        (r"a \le b", "≤"),
        (r"\sum_{i=1}^{n} A_i", "<msubsup>"),
    ],
)
def test_formulas_hold_maths_alone(latex, kept):
    made = markup.math(latex)
    assert kept in made and not re.search(r"<(?!/?m)|javascript|<[^>]*href", made.replace(kept, ""))


def test_drawings_keep_what_draws():
    drawn = safe.svg(
        '<svg viewBox="0 0 9 9" onload="x()" style="min-width: 9px; position: fixed"><defs>'
        '<clipPath id="c"><rect/></clipPath></defs><use xlink:href="#c" style="fill: none"/><use href="x.svg#c"/>'
        '<path clip-path="url(#c)" fill="url(http://x)" d="M0"/><image href="data:image/svg+xml;base64,AAAA"/>'
        '<image href="data:image/png;base64,AAAA"/><set onbegin="x()"/></svg>'
    )
    assert drawn == (
        '<svg viewBox="0 0 9 9" style="min-width:9px"><defs><clipPath id="c"><rect></rect></clipPath></defs>'
        '<use xlink:href="#c" style="fill:none"></use><use></use><path clip-path="url(#c)" d="M0"></path>'
        '<image></image><image href="data:image/png;base64,AAAA"></image></svg>'
    )


def test_a_spreadsheet_computes_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("MDW_REPORT", str(tmp_path))
    import pandas as pd

    cells = ["=1+1", "+ CDC", "-1+2", "@SUM(1)", "\t=1", "-3", "+1e5", "-0.5", "a=b", ""]
    outputs.show(pd.DataFrame({"=head": cells, "n": [*range(-3, 7)]}), "caption", name="cells")
    head, *rows = csv.reader((tmp_path / "cells.csv").read_text(encoding="utf-8").splitlines())
    assert head == ["'=head", "n"] and [row[1] for row in rows] == [str(n) for n in range(-3, 7)]
    assert [row[0] for row in rows] == ["'=1+1", "'+ CDC", "'-1+2", "'@SUM(1)", "'\t=1", "-3", "+1e5", "-0.5", "a=b", ""]
