"""Do the explorers show what the networks gave, from one drawing function, and do they answer in a real browser?"""

import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from accessible import axe
from playwright.sync_api import expect

from mdw.pose import heatmap
from mdw.report.explorers import explore, explorer
from mdw.report.site import markup, page
from mdw.util.errors import MdwError
from mdw.util.files import write_json, write_text

FRAME = pd.DataFrame(
    [
        ("MDW-HRNet-18", "published", "detector", 1.1, 0.207, 67.8, None),
        ("Lite-HRNet-18", "published", "detector", 1.1, 0.205, 64.8, None),
        ("HRNet-W32", "published", "detector", 28.5, 7.1, 74.4, None),
        ("MDW-HRNet-18", "measured", "seed 0", 1.155, 0.193, None, 40.8),
        ("Dite-HRNet-18", "measured", "", 1.12, None, None, 38.0),
    ],
    columns=["label", "origin", "about", "parameters, M", "multiply-adds, G", "AP, COCO val", "PCK@0.2, LSPET"],
)


def test_packing_keeps_the_peak_and_a_step_of_the_range():
    arrays = [np.random.default_rng(0).normal(size=(5, 7)), np.full(3, 2.5), np.array([0, 1 - 1e-7, 1.0], np.float32)]
    packed = explorer.pack(arrays)
    json.dumps(packed)
    for array, back in zip(arrays, explorer.unpack(packed), strict=True):
        assert np.abs(back - array.ravel()).max() <= np.ptp(array) / 255 + 1e-5
        assert back.argmax() == array.argmax() and (back == back.max()).sum() == (array == array.max()).sum()


def test_points_are_drawn_where_both_values_are_there_and_nowhere_else():
    shown = explore.fig5(FRAME, y="AP, COCO val").spec["data"]
    assert shown["axes"] == list(FRAME.columns[3:]) and (shown["x"], shown["y"]) == ("parameters, M", "AP, COCO val")
    for point, row in zip(shown["points"], FRAME.to_dict("records"), strict=True):
        assert point["values"] == {axis: row[axis] for axis in shown["axes"] if pd.notna(row[axis])}
    with pytest.raises(MdwError, match="no axis latency; the columns of numbers are parameters, M"):
        explore.fig5(FRAME, x="latency")
    with pytest.raises(MdwError, match="needs the columns label, origin"):
        explore.fig5(FRAME.assign(origin="guessed"))


def test_latency_is_a_column_for_each_machine_on_measured_points_only(tmp_path):
    assert explore.with_latency(FRAME, tmp_path) is FRAME
    rows = [
        {"model": model, "mode": mode, "size": size, "batch": 32, "device": "cpu", "latency_ms": ms, "bounds": {}}
        | {"environment": {"hardware": machine, "started": "2026-01-01T00:00:00+00:00"}}
        for model, mode, size, ms, machine in (
            ("mdw_hrnet_18", "reference", "256x192", 150.0, "one core"),
            ("mdw_hrnet_18", "tuned", "256x192", 30.0, "one core"),
            ("mdw_hrnet_18", "tuned", "128x96", 9.0, "one core"),
            ("mobilenetv2", "tuned", "256x192", 12.0, "two cores"),
        )
    ]
    write_json(tmp_path / "bench" / "cpu.json", rows)
    points = explore.with_latency(FRAME.rename(columns={"multiply-adds, G": "multiply-adds executed, M"}), tmp_path)
    reference, one, two = (
        points[f"one image, ms ({name})"] for name in ("reference, one core", "tuned, one core", "tuned, two cores")
    )
    assert reference.dropna().to_dict() == {3: 150.0} and one.dropna().to_dict() == {3: 30.0}  # not the article's point
    assert two.dropna().to_dict() == {5: 12.0}
    assert points.loc[5, ["label", "origin", "about"]].tolist() == ["MobileNetV2", "measured", "not trained here"]
    assert 9 < points.loc[5, "parameters, M"] < 10 and points.loc[5, "multiply-adds executed, M"] > 1000
    assert set(explore.fig5(points).spec["data"]["axes"]) >= {reference.name, one.name, two.name}


@pytest.fixture(scope="module")
def people():
    from mdw.report.pages import poses, qualitative

    return qualitative.find(poses.weights("runs"))


def test_people_are_those_that_mdw_predict_finds_and_maps_decode_to_them(people):
    import mdw

    assert [person.oks for person in people] == sorted((person.oks for person in people), reverse=True) and len(people) > 10
    entries = {entry["name"]: entry for entry in explore.poses({"all": people}).spec["data"]["people"]}
    assert len(entries) == len(people)
    for person in (people[0], people[-1]):
        (found,) = mdw.predict(person.photo, boxes=[person.box])
        np.testing.assert_allclose(person.keypoints, found["keypoints"], atol=1e-3)
        entry = entries[person.name]
        maps = np.stack(explorer.unpack(entry["maps"])).reshape(person.maps.shape)
        cells, score = heatmap.peaks(maps[None])
        assert (cells == heatmap.peaks(person.maps[None])[0]).all()  # the quarter step is all that a page's steps may lose
        np.testing.assert_allclose(score[0], person.keypoints[:, 2], atol=2e-6)
        stride = np.array(person.size) / maps.shape[:0:-1]
        assert (np.abs(np.array(entry["points"])[:, :2] - cells[0] * stride) <= 0.25 * stride + 0.02).all()


def test_oks_and_the_kinds_of_mistakes(people):
    from mdw.pose.joints import COCO17
    from mdw.report.pages import on_photos

    truth = np.random.default_rng(1).uniform(0, 300, (17, 2))
    flag, other = np.ones(17, bool), truth + 500
    xy = truth[COCO17.swap].copy()  # everything exchanged but the nose, which is right,
    xy[9], xy[10] = other[9], (-900, -900)  # a wrist on another person and one nowhere
    kinds = on_photos._kinds(xy, truth, flag, [(other, flag)], COCO17)
    assert (kinds[0], kinds[5], kinds[9], kinds[10]) == ("right", "left and right exchanged", "another person's", "elsewhere")
    assert on_photos._kinds(xy, truth, flag & (np.arange(17) < 5), [], COCO17) == (None,) * 17  # no torso
    for person in people:
        distance = np.linalg.norm(person.keypoints[:, :2] - person.truth, axis=1)[person.labelled]
        assert 0 <= person.oks <= 1 and (person.oks > 0.5) <= (np.median(distance) < 0.2 * max(person.box[2:]))


def test_the_best_the_middle_and_the_worst(people):
    from mdw.report.pages import qualitative

    groups = qualitative.chosen(people, 3)
    assert groups["best"] == people[:3] and groups["worst"] == people[-3:]
    assert people[len(people) // 2] in groups["middle"]
    assert qualitative.chosen(people[:4], 3) == {"best": people[:1], "middle": people[1:2], "worst": people[3:4]}
    assert qualitative.chosen(people[:1]) == {"best": people[:1]} and qualitative.chosen([]) == {}
    joints = qualitative.mistakes(people)
    assert (joints["n"] == joints[list(qualitative.KINDS)].sum(axis=1)).all()


def test_without_weights_nothing_is_shown():
    from mdw.report.pages import qualitative

    assert qualitative.find(None) == [] and len(qualitative.table([])) == 0
    for said in (explore.poses({}).text, qualitative.images([]).text, qualitative.in_words([]), qualitative.failures([])):
        assert "not run" in said


@pytest.fixture(scope="module")
def figures(people):
    from mdw.report.pages import qualitative

    return [explore.poses(qualitative.chosen(people, 1)), explore.gates(2), explore.fig5(FRAME, y="AP, COCO val")]


def test_gates_are_those_that_ran(figures):
    from mdw.report.pages import gates

    seen, *_ = gates.shipped()
    data = figures[1].spec["data"]
    arrays = explorer.unpack(data["people"][1]["maps"])
    assert len(data["units"]) == 16 and [len(unit["branches"]) for unit in data["units"]] == [2] * 4 + [3] * 8 + [4] * 4
    unit, branch = data["units"][-1], data["units"][-1]["branches"][3]
    kept = arrays[branch["first"]].reshape(branch["gates"])
    ran = np.concatenate([seen.gates[f"stage2.1.layers.1.convs.3.convs.{k}.attention"][1].numpy() for k in range(3)], 1)
    assert "stage2.1.layers.1" in unit["name"] and np.abs(kept - ran).max() <= np.ptp(ran) / 255 + 1e-6
    assert branch["parts"] == [54, 53, 53] and arrays[branch["first"] + 2].size == np.prod(branch["spatial"])


def test_jupyter_and_the_page_run_the_same_source(figures):
    pytest.importorskip("anywidget")
    for figure in figures:
        bundle, kind = figure._repr_mimebundle_(), figure.spec["explorer"]
        assert "application/vnd.jupyter.widget-view+json" in bundle and markup.MIME in bundle
        shown = explorer.widget(figure.spec)
        assert shown._esm == explorer.source(kind) and shown.data["photos"] == figure.spec["photos"]
        text = explorer.static(figure.spec, bundle, 1)
        assert shown._esm in text and shown._css in text
        assert json.loads(re.search(r'<script type="application/json">(.*?)</script>', text, re.S)[1]) == json.loads(
            json.dumps(figure.spec["data"])
        )


def test_a_published_page_needs_no_widget(figures, monkeypatch, tmp_path):
    monkeypatch.setenv("MDW_REPORT", str(tmp_path))
    assert not any("widget" in mime for mime in figures[0]._repr_mimebundle_())


# in a browser


@pytest.fixture(scope="module")
def site(figures, tmp_path_factory) -> Path:
    """A page with all three."""
    root = tmp_path_factory.mktemp("explorers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MDW_REPORT", str(root))
        bundles = [figure._repr_mimebundle_() for figure in figures]
    outputs = [nbformat.v4.new_output("display_data", data=bundle) for bundle in bundles]
    cells = [nbformat.v4.new_markdown_cell("# Explorers\n\nThree of them."), nbformat.v4.new_code_cell("", outputs=outputs)]
    record = dict.fromkeys(("preset", "commit", "error", "traceback", "cell", "hardware")) | {
        "notebook": "explorers", "title": "Explorers", "status": "finished", "parameters": {}, "versions": {}, "python": "3",
        "files": [], "started": "2026-01-01T00:00:00+00:00", "seconds": 1.0,
    }  # fmt: skip
    text, _ = page.render(nbformat.v4.new_notebook(cells=cells), record)
    assert len(re.sub(r'src="data:image/[^"]*"', "", text)) < 500_000
    write_text(root / "index.html", text)
    return root


def opened(visit, *options):
    page = visit("index.html", *options)
    page.locator(".x-explorer").nth(2).wait_for()  # no string that the page would evaluate: its policy refuses them
    return page


def pixels(page, place: int = 0) -> str:
    return page.locator("canvas").nth(place).evaluate("canvas => canvas.toDataURL()")


@pytest.mark.browser
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_explorers_are_accessible_and_fit(visit, width, scheme):
    page = opened(visit, width, scheme)
    assert axe(page) == []
    for unit in ("1", "8", "16"):
        page.get_by_label("Unit").fill(unit)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator(".explorer > img, .explorer > .drawing").count() == 0  # the drawing has taken the still's place
    page.emulate_media(media="print")
    assert page.locator("canvas").first.is_visible()


@pytest.mark.browser
def test_poses_answer_to_slider_list_and_photo(visit, people):
    page = opened(visit)
    poses, scores = page.locator(".explorer").nth(0), people[0].keypoints[:, 2]
    slider, said = poses.get_by_label("Score threshold"), poses.locator("output.x-said")
    for value in (0.0, 0.35, 1.0):
        slider.fill(str(value))
        kept = int(((scores > 0) & (scores.round(4) >= value)).sum())
        assert said.inner_text() == f"{kept} of 14 joints score {value:.2f} or more."
        assert poses.locator("label.x-off").count() == 14 - kept
    before = pixels(page)
    slider.press("Home")
    assert said.inner_text().startswith(f"{(scores > 0).sum()} of 14") and pixels(page) != before
    before = pixels(page)
    poses.get_by_label("all joints").press("ArrowDown")
    assert poses.get_by_label("none").is_checked() and pixels(page) != before
    before = pixels(page)
    poses.get_by_label("Annotated joints").press("Space")
    assert pixels(page) != before
    canvas = poses.locator("canvas")
    box = canvas.bounding_box()
    x, y = people[0].in_crop(people[0].keypoints[12:13, :2])[0] * box["width"] / people[0].size[0]
    canvas.click(position={"x": x, "y": y})
    assert poses.get_by_role("radio", name="neck").is_checked() and "the heatmap of neck" in canvas.get_attribute("aria-label")
    poses.get_by_label("Person", exact=True).select_option(label=people[-1].name)
    expect(page.locator(".x-about").first).to_have_text(people[-1].in_words)
    assert people[-1].name in canvas.get_attribute("aria-label")


@pytest.mark.browser
def test_gates_answer_to_photo_unit_and_pointer(visit, figures):
    page = opened(visit)
    shown, data = page.locator(".explorer").nth(1), figures[1].spec["data"]
    unit = shown.get_by_label("Unit")
    unit.press("Home")
    assert (
        shown.locator(".x-branch").count() == 2
        and "Unit 1 (stage0.0.layers.0), stage 2" in shown.locator("output").last.inner_text()
    )
    unit.press("End")
    assert shown.locator(".x-branch").count() == 4
    arrays = explorer.unpack(data["people"][0]["maps"])
    first = data["units"][-1]["branches"][0]
    kernels, channels = first["gates"]
    values = arrays[first["first"]].reshape(kernels, channels)
    cells = shown.locator(".x-branch").first.locator("tbody tr").nth(2).locator("td").all_inner_texts()
    assert cells == [f"{value:.4f}" for value in (values[2].mean(), values[2].std(), values[2].min(), values[2].max())]
    strip = shown.locator("canvas.x-strip").first
    box = strip.bounding_box()
    strip.hover(position={"x": box["width"] * 4.5 / channels, "y": box["height"] * 1.5 / kernels})
    assert shown.locator(".x-read").first.inner_text() == f"Kernel 2, channel 5: {values[1, 4]:.4f}"
    strip.press("ArrowRight")  # from the gate that was read last
    strip.press("ArrowDown")
    assert strip.get_attribute("aria-valuetext") == f"Kernel 3, channel 6: {values[2, 5]:.4f}"
    before = strip.evaluate("canvas => canvas.toDataURL()")
    shown.get_by_label("Photo").select_option(index=1)
    expect(shown.get_by_label("Photo")).not_to_have_value("0")
    for _ in range(100):  # the photo is decoded first
        if strip.evaluate("canvas => canvas.toDataURL()") != before:
            return
        page.wait_for_timeout(50)
    pytest.fail("the gates did not follow the photo")


@pytest.mark.browser
def test_points_answer_to_axes_pointer_and_keys(visit):
    page = opened(visit)
    plot = page.locator(".explorer").nth(2)
    said, marks = plot.locator("output.x-said"), plot.locator("[role=button]")
    labels = lambda: [mark.get_attribute("aria-label").partition(",")[0] for mark in marks.all()]  # noqa: E731
    assert sorted(labels()) == ["HRNet-W32", "Lite-HRNet-18", "MDW-HRNet-18"]  # those with parameters and AP
    assert plot.locator(".x-plot .x-measured").count() == 0
    assert "Dite-HRNet-18 (measured)" in plot.locator(".x-about").inner_text()
    marks.nth(0).hover()
    assert "1.1 parameters, M" in said.inner_text()
    page.mouse.move(0, 0)
    assert said.inner_text().startswith("Point at a mark")
    plot.get_by_label("Up").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('role')") == "button"  # one stop for all marks
    page.keyboard.press("End")
    assert said.inner_text() == "HRNet-W32, published (detector): 28.5 parameters, M, 74.4 AP, COCO val."
    page.keyboard.press("Enter")
    assert marks.nth(2).get_attribute("aria-pressed") == "true"
    page.keyboard.press("Tab")
    assert said.inner_text().startswith("HRNet-W32")  # kept
    plot.get_by_label("Up").select_option("PCK@0.2, LSPET")
    assert sorted(labels()) == ["Dite-HRNet-18", "MDW-HRNet-18"] and plot.locator(".x-plot .x-published").count() == 0
    plot.get_by_label("Across").select_option("AP, COCO val")
    assert marks.count() == 0 and said.inner_text() == "No network has both."


@pytest.mark.browser
def test_without_scripts_a_still_picture_and_a_sentence(browser, site):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((site / "index.html").as_uri())
    for figure in page.locator(".explorer").all():
        assert figure.locator("> img, > .drawing svg").first.is_visible()
        assert figure.get_by_text(explorer.STILL).is_visible() and figure.locator("select").count() == 0
    context.close()


@pytest.mark.browser
def test_the_widgets_module_draws_what_the_page_draws(browser, visit, figures):
    """anywidget calls render({model, el}) of the module; asked here without JupyterLab."""
    shown = explorer.widget(figures[0].spec)
    page = browser.new_page()
    drawn = page.evaluate(
        """async ([text, data]) => {
          const module = await import(URL.createObjectURL(new Blob([text], {type: "text/javascript"})));
          await module.default.render({model: {get: name => ({data})[name]}, el: document.body});
          return document.querySelector("canvas").toDataURL();
        }""",
        [shown._esm, shown.data],
    )
    assert page.get_by_text("ATTRIBUTION.md").is_visible()
    page.close()
    assert drawn == pixels(opened(visit))
