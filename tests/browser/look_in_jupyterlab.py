"""Run a notebook in JupyterLab in Chromium and work its explorer: `python tests/browser/look_in_jupyterlab.py NOTEBOOK OUT`.

It leaves screenshots in OUT, to be looked at after a change. It takes minutes, so it is no test. Run it from the top folder.
"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path


def look(notebook: str, out: Path, seconds: float = 600) -> str:
    """-> what the explorer says of itself; raises where none is drawn within `seconds`. Writes `out`/light.png, dark.png."""
    from playwright.sync_api import sync_playwright

    out.mkdir(parents=True, exist_ok=True)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with tempfile.TemporaryDirectory() as scratch:
        places = ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
        flags = ["--no-browser", "--allow-root", f"--port={address.rpartition(':')[2]}", "--IdentityProvider.token="]
        copy = Path(notebook).with_name(f".look-{Path(notebook).name}")  # JupyterLab saves by itself
        shutil.copy(notebook, copy)
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *flags, "--ContentsManager.allow_hidden=True"],
            env=os.environ | dict.fromkeys(places, scratch),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            end = time.monotonic() + seconds
            while not _answers(address) and time.monotonic() < end:
                time.sleep(1)
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
                page = browser.new_page(viewport={"width": 1400, "height": 1000})
                page.goto(f"{address}/lab/tree/{copy}")
                page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=120_000)
                page.get_by_text("| Idle").first.wait_for(timeout=120_000)  # before it has a kernel it would ask for one
                page.get_by_text("Run", exact=True).first.click()
                page.get_by_text("Run All Cells", exact=True).first.click()
                shown = _scrolled_to(page, ".x-explorer", end)
                if (slider := shown.locator("input[type=range]")).count():
                    slider.first.press("Home")
                else:
                    shown.locator("select").first.select_option(index=1)
                page.screenshot(path=out / "light.png")
                page.get_by_text("Settings", exact=True).first.click()
                page.get_by_text("Theme", exact=True).first.hover()
                page.get_by_text("JupyterLab Dark", exact=True).first.click()
                page.wait_for_timeout(2000)
                page.screenshot(path=out / "dark.png")
                said = shown.locator("output.x-said").inner_text()
                browser.close()
            return said
        finally:
            server.terminate()
            server.wait(30)
            copy.unlink()


def _answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(f"{address}/api", timeout=5).status == 200
    except OSError:
        return False


def _scrolled_to(page, selector: str, end: float):
    """The first element of `selector`; JupyterLab keeps only cells near the window, so it is looked for by scrolling."""
    panel = page.locator(".jp-WindowedPanel-outer").first
    while time.monotonic() < end:
        for y in range(0, panel.evaluate("panel => panel.scrollHeight"), 600):
            panel.evaluate("(panel, y) => panel.scrollTop = y", y)
            page.wait_for_timeout(150)
            if page.locator(selector).count():
                page.locator(selector).first.scroll_into_view_if_needed()
                page.wait_for_timeout(1500)
                return page.locator(selector).first
        page.wait_for_timeout(3000)
    raise SystemExit(f"{selector} did not appear; see {page.url}")


if __name__ == "__main__":
    print(look(sys.argv[1], Path(sys.argv[2])))
