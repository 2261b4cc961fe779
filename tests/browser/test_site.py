"""The pages in a real browser, from file://: no request, no error, no accessibility fault, and controls that work."""

from pathlib import Path

import pytest
from accessible import axe
from report_helpers import NOTEBOOKS, table5_runs

from mdw.report.site import publish

pytestmark = pytest.mark.browser
PAGES = ("index.html", "80_everything/index.html", "81_fails/index.html", "06_table5_modules/index.html")


@pytest.fixture(scope="module")
def site(browser, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("site")
    table5_runs(root / "runs")
    options = {"runs_root": root / "runs", "out": root / "reports"}
    records = publish.publish(["80", "81"], "smoke", notebooks=NOTEBOOKS, **options)
    records += publish.publish(["06"], "smoke", {"seeds": [0, 1]}, **options)
    assert [record["status"] for record in records] == ["finished", "failed", "finished"]
    return root / "reports"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", PAGES)
def test_pages_are_accessible_and_fit(visit, name, width, scheme):
    page = visit(name, width, scheme)
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width  # wide tables scroll in their own boxes
    assert page.evaluate("getComputedStyle(document.body).fontFamily").endswith(" serif")


def column(page, table: int, place: int) -> list[str]:
    return page.evaluate(
        "([t, c]) => [...document.querySelectorAll('.body table')[t].tBodies[0].rows].map(row => row.cells[c].textContent)",
        [table, place],
    )


def test_tables_sort_by_click_and_by_key(visit):
    page = visit("80_everything/index.html")
    table = page.locator(".body figure.table table").first
    header = table.locator("th", has_text="PCK")
    assert column(page, 1, 3) == ["10.25", "not run", "9.50"]
    header.locator("button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert column(page, 1, 3) == ["9.50", "10.25", "not run"]  # as numbers, and what is absent stays last
    header.locator("button").press("Enter")
    assert header.get_attribute("aria-sort") == "descending"
    assert column(page, 1, 3) == ["10.25", "9.50", "not run"]
    table.locator("th", has_text="network").locator("button").press("Space")
    assert header.get_attribute("aria-sort") == "none"
    assert column(page, 1, 0) == ["+ b", "a", "c"]


def test_the_theme_switch(visit):
    page = visit("80_everything/index.html")
    ground = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")  # noqa: E731
    ink = lambda: page.evaluate("getComputedStyle(document.querySelector('figure svg text')).fill")  # noqa: E731
    light, drawn, button = ground(), ink(), page.get_by_role("button", name="Dark theme")
    assert button.get_attribute("aria-pressed") == "false"
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "true" and ground() != light
    assert ink() != drawn  # figures follow
    for _ in range(20):  # on a busy machine Chromium may hand what is stored to the reloaded page's process a moment later
        page.reload()
        if ground() != light:
            break
        page.wait_for_timeout(100)
    assert ground() != light and button.get_attribute("aria-pressed") == "true"  # it is remembered
    button.click()
    assert ground() == light


def test_the_first_key_leads_past_the_header(visit):
    page = visit("80_everything/index.html")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the text"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_from_the_index_to_a_report_and_back(visit):
    page = visit("index.html")
    page.locator(".reports").get_by_role("link", name="Everything a page can hold").click()
    assert page.url.endswith("80_everything/index.html")
    page.get_by_role("link", name="mdw", exact=True).click()
    assert page.url.endswith("reports/index.html")
    for link in page.locator("main a").all():  # runs and pages that are there
        target = page.evaluate("a => a.href", link.element_handle())
        assert Path(target.removeprefix("file://")).exists(), target


def test_every_report_lists_the_others_and_leads_to_its_neighbours(visit, site):
    page = visit("index.html", 390)
    folders = sorted(path.parent.name for path in site.glob("*/index.html"))
    page.locator(".menu summary").press("Enter")
    assert axe(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{folders[0]}/index.html")
    for folder in folders[1:]:
        page.locator(".turn a[rel=next]").click()
        page.wait_for_url(f"**/{folder}/index.html")
    assert page.locator(".turn a[rel=next]").count() == 0
    summary = page.locator(".menu summary")
    summary.click()
    links = page.locator(".menu a")
    assert [page.evaluate("a => a.href", link).split("/")[-2] for link in links.element_handles()] == folders
    assert page.locator(".menu a[aria-current=page]").get_attribute("href") == f"../{folders[-1]}/index.html"
    links.first.focus()
    page.keyboard.press("Escape")
    assert links.first.is_hidden() and page.evaluate("document.activeElement.textContent") == "Reports"
    page.locator(".turn a[rel=prev]").click()
    page.wait_for_url(f"**/{folders[-2]}/index.html")


def test_the_search_finds_places_and_is_worked_by_keys(visit):
    page = visit("80_everything/index.html")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "q" and page.input_value("#q") == ""
    page.keyboard.type("never mix")
    page.keyboard.press("Enter")
    page.wait_for_url("**/index.html#q=never%20mix")
    said = page.get_by_role("status")
    assert said.text_content() == "1 place in 1 report" and page.input_value("#q") == "never mix"
    assert page.locator("#found mark").all_text_contents() == ["never", "mix"]
    assert axe(page) == []
    page.fill("#q", "zebra")
    assert said.text_content() == "Nothing is found for “zebra”." and page.locator("#found li").count() == 0
    page.fill("#q", "article")
    assert int(said.text_content().split()[0]) > 1 and "in 2 reports" in said.text_content()
    page.fill("#q", "claims")  # a heading before running text
    assert page.locator("#found a").first.text_content() == "What the article claims"
    page.focus("#q")
    page.keyboard.press("Escape")
    assert page.input_value("#q") == "" and said.text_content() == "" and page.locator("#found").bounding_box()["height"] == 0
    page.keyboard.type("never m")
    page.keyboard.press("ArrowDown")
    assert "never mix" in page.evaluate("document.activeElement.textContent")
    page.keyboard.press("Enter")
    page.wait_for_url("**/80_everything/index.html#table-1")
    assert "Two groups that never mix." in page.locator("#table-1").text_content()


def test_what_is_no_word_is_searched_as_it_stands(visit):
    page = visit("index.html")
    for typed in ("</script>", '<img src=x onerror="alert(1)">', "(.*", "\\"):
        page.fill("#q", typed)
        assert page.locator("#found img").count() == 0
    page.fill("#q", "<script>alert")  # the notebook of everything has it in its text
    assert page.get_by_role("status").text_content() == "1 place in 1 report"
    assert page.locator("#found mark").text_content() == "<script>alert"


def test_every_file_can_be_had(browser, site):
    """From a folder of files Chromium saves what it cannot show, a CSV, and shows the others; a server's pages save all."""
    page = browser.new_page()
    saved: list = []
    page.on("download", lambda download: saved.append(download))
    taken = set()
    for name in PAGES:
        page.goto((site / name).as_uri())
        files = [((site / name).parent / link.get_attribute("href")).resolve() for link in page.locator("a[download]").all()]
        for place, file in enumerate(files):
            saved.clear()
            page.locator("a[download]").nth(place).click()
            for _ in range(200):
                if saved or page.url == file.as_uri():
                    break
                page.wait_for_timeout(50)
            if saved:
                assert Path(saved[0].path()).read_bytes() == file.read_bytes()
            else:
                assert page.url == file.as_uri() and file.stat().st_size
                page.goto((site / name).as_uri())
            taken.add(file)
    everything = {path.resolve() for kind in ("*.csv", "*.svg", "*.ipynb", "run.json") for path in site.glob(f"*/{kind}")}
    assert taken == everything and {path.suffix for path in taken} == {".csv", ".svg", ".ipynb", ".json"}
    page.close()


def test_the_index_leads_with_the_figure_that_a_report_names(visit):
    page = visit("index.html")
    lead = page.locator("figure.lead")
    assert lead.locator("svg").count() == 1 and "A rising line." in lead.text_content()
    assert lead.get_by_role("link", name="Everything a page can hold").get_attribute("href") == "80_everything/index.html"


def test_wide_pages_use_their_margins(visit):
    page = visit("80_everything/index.html", 1440)
    box = lambda query: page.locator(query).first.bounding_box()  # noqa: E731
    text = box(".body > p")
    assert box(".contents")["x"] + box(".contents")["width"] < text["x"]
    assert box(".body > figure:not(.table) figcaption")["x"] > text["x"] + text["width"]
    page.evaluate("scrollTo({top: document.body.scrollHeight / 2, behavior: 'instant'})")
    assert box(".contents")["y"] >= 0  # it goes along
    page = visit("06_table5_modules/index.html", 1440)
    letters = page.evaluate(
        "() => { const p = document.querySelector('.body p'), range = document.createRange(); range.selectNodeContents(p);"
        " return p.textContent.length / new Set([...range.getClientRects()].map(rect => Math.round(rect.top / 8))).size }"
    )
    assert 45 < letters < 85  # a line of a paper


def test_print_shows_whole_tables(visit):
    page = visit("06_table5_modules/index.html", 390)
    page.emulate_media(media="print")
    assert page.locator("#theme").is_hidden()
    assert page.locator("#search").is_hidden() and page.locator(".menu").is_hidden()
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == "visible"
