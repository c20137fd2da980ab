"""The report page in headless Chromium: no error in the console, no request, every figure drawn, readable on a phone, axe finds nothing."""

import importlib.util
import json
import shutil
import time
from pathlib import Path

import pytest
from page_run import make

SPEC = importlib.util.find_spec("axe_playwright_python")  # only for the file of axe-core in it
AXE = Path(SPEC.origin if SPEC is not None and SPEC.origin else ".").parent / "axe.min.js"
BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
MISSING = [name for name in ("selenium", "axe_playwright_python") if importlib.util.find_spec(name) is None]
MISSING += [name for name, found in (("chromium", BROWSER), ("chromedriver", DRIVER)) if found is None]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"no {' and '.join(MISSING)}: see docs/report.md")
OPTIONS = """--headless --no-sandbox --disable-gpu --enable-unsafe-swiftshader --disable-quic --no-first-run
    --disable-background-networking --disable-component-update --disable-sync --hide-scrollbars"""
WIDE, PHONE = (1280, 900), (380, 800)
TAGS = ["wcag2a", "wcag21a", "wcag2aa", "wcag21aa", "best-practice"]  # level A is asked for
PIXELS = 500  # of the 3-D view, at least, that are not white


@pytest.fixture(scope="module")
def page(tiny_model, tmp_path_factory):
    return make(tiny_model, tmp_path_factory.mktemp("seen")).page


@pytest.fixture(scope="module", params=[WIDE, PHONE], ids=["wide", "phone"])
def browser(request, page, tmp_path_factory):
    """The page, open, with everything drawn."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for option in OPTIONS.split():
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        width, height = request.param
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": request.param == PHONE}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        driver.get(page.as_uri())
        end = time.monotonic() + 90
        while driver.execute_script("return document.documentElement.dataset.ready") != "yes":
            assert time.monotonic() < end, driver.get_log("browser")
            time.sleep(0.2)
        yield driver
    finally:
        driver.quit()


def test_no_error_and_no_request(browser, page):
    assert [line for line in browser.get_log("browser") if line["level"] == "SEVERE"] == []
    events = [json.loads(line["message"])["message"] for line in browser.get_log("performance")]
    wanted = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert page.as_uri() in wanted  # the log has what was loaded
    assert not [url for url in wanted - {page.as_uri()} if not url.startswith(("data:", "blob:", "chrome:"))]


def test_every_figure_is_drawn(browser):
    found = browser.execute_script(
        """return [...document.querySelectorAll('.plot')].map(one => {
            const box = one.querySelector('.main-svg').getBoundingClientRect();
            const marks = one.querySelectorAll('.scatterlayer path.js-line, .scatterlayer path.point, .scatterlayer path.js-fill').length;
            return [one.dataset.chart, marks, box.width, box.height];
        })"""
    )
    assert len(found) >= 14
    assert [key for key, marks, width, height in found if not (marks and width > 250 and height > 200)] == []


def overlapping(browser) -> list[str]:
    """Figures whose labels below the horizontal axis cover each other; names may be slanted then, numbers may not."""
    found = browser.execute_script(
        """return [...document.querySelectorAll('.plot')].flatMap(one => {
            const all = [...one.querySelectorAll('.xtick text')], numbers = one.layout.xaxis.type === 'log';
            const level = all.filter(text => numbers || !/rotate\\(-?[1-9]/.test(text.getAttribute('transform')));
            const boxes = level.map(text => text.getBoundingClientRect()).sort((a, b) => a.left - b.left);
            const slanted = numbers && all.some(text => /rotate\\(-?[1-9]/.test(text.getAttribute('transform')));
            return [[one.dataset.chart, boxes.length, slanted || boxes.some((box, i) => i > 0 && box.left < boxes[i - 1].right)]];
        })"""
    )
    assert sum(count for _, count, _ in found) > 50
    return [key for key, _, overlap in found if overlap]


def test_no_ticks_overlap(browser):
    assert overlapping(browser) == []
    zoom = """const done = arguments[0], places = [...document.querySelectorAll('.plot')].filter(one => one.layout.xaxis.type === 'log');
        const before = places.map(one => String(one.layout.xaxis.tickvals));
        Promise.all(places.map(one => Plotly.relayout(one, {'xaxis.range': [-3.2, 2.7]}))).then(() => setTimeout(() =>
            done(places.map((one, i) => before[i] !== String(one.layout.xaxis.tickvals))), 500))"""
    changed = browser.execute_async_script(zoom)
    assert len(changed) >= 3 and all(changed)
    assert overlapping(browser) == []


def test_nothing_is_wider_than_the_screen(browser):
    inner, scroll = browser.execute_script("return [window.innerWidth, document.documentElement.scrollWidth]")
    assert scroll <= inner


def drawn(browser) -> str:
    """The 3-D view as a picture."""
    return browser.execute_script("return document.querySelector('#viewer-stage canvas').toDataURL()")


def coloured(browser) -> int:
    """Pixels of it that are not white."""
    return browser.execute_async_script(
        """const done = arguments[0], picture = new Image();
        picture.onload = () => {
            const canvas = document.createElement('canvas');
            canvas.width = picture.width; canvas.height = picture.height;
            const context = canvas.getContext('2d');
            context.drawImage(picture, 0, 0);
            const values = context.getImageData(0, 0, canvas.width, canvas.height).data;
            let count = 0;
            for (let i = 0; i < values.length; i += 4)
                if (values[i + 3] > 0 && Math.min(values[i], values[i + 1], values[i + 2]) < 240) count++;
            done(count);
        };
        picture.src = document.querySelector('#viewer-stage canvas').toDataURL();"""
    )


def test_the_viewer_shows_what_is_asked_for(browser):
    assert coloured(browser) > PIXELS
    pictures = [drawn(browser)]
    for change in (
        "document.getElementById('viewer-ellipsoids').click()",
        "document.querySelector('[data-turn=left]').click()",
        "const list = document.getElementById('viewer-colour'); list.value = 'error'; list.dispatchEvent(new Event('change'))",
        "[...document.querySelectorAll('[data-show]')].at(-1).click()",
    ):
        browser.execute_script(change)
        pictures.append(drawn(browser))
    assert len(set(pictures)) == len(pictures)
    shown, wanted, note = browser.execute_script(
        """return [document.getElementById('viewer-stage').dataset.shown, [...document.querySelectorAll('[data-show]')].at(-1).dataset.show,
        document.getElementById('viewer-note').textContent]"""
    )
    assert shown == wanted and "no reference for this frame" in note  # the last button is that of the halt


def test_every_control_can_be_reached_and_named(browser):
    unnamed = browser.execute_script(
        """return [...document.querySelectorAll('button, select, input, summary, [tabindex="0"]')].filter(one =>
            !(one.getAttribute('aria-label') || one.textContent.trim() || one.labels?.[0]?.textContent.trim())).map(one => one.outerHTML)"""
    )
    assert unnamed == []
    landmarks = browser.execute_script("return ['header', 'nav', 'main', 'footer', 'h1'].map(tag => document.querySelectorAll(tag).length)")
    assert landmarks == [1, 1, 1, 1, 1]
    levels = browser.execute_script("return [...document.querySelectorAll('h1, h2, h3, h4, h5')].map(one => Number(one.tagName[1]))")
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))


def test_axe_finds_no_violation(browser):
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    found = browser.execute_async_script(
        "const done = arguments[1]; axe.run(document, {runOnly: arguments[0]}).then(done, error => done({failed: String(error)}))", TAGS
    )
    assert found.get("passes"), found
    told = {one["id"]: (one["tags"], [node["html"][:200] for node in one["nodes"]][:3]) for one in found["violations"]}
    assert told == {}
