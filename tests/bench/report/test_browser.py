"""The report in a real browser: it draws, sorts and filters, and requests nothing."""

import base64
import json
import os
import shutil
from pathlib import Path

import pytest
from zsad.bench.report.page import render_report

pytestmark = [pytest.mark.browser, pytest.mark.slow]
webdriver = pytest.importorskip(
    "selenium.webdriver", reason="needs selenium: pip install zsad[dev]"
)

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
DRIVER = shutil.which("chromedriver") or ""
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
DESKTOP = {"width": 1360, "height": 900, "deviceScaleFactor": 1, "mobile": False}


@pytest.fixture(scope="module")
def page(tmp_path_factory, make_run):
    folder = tmp_path_factory.mktemp("run") / "An invented run, not a result"
    make_run(folder, images=8, keep=1, failing=("CoOp", "btad"))
    page = folder / "report.html"
    page.write_text(render_report(folder), encoding="utf-8")
    return page.as_uri()


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    if not CHROMIUM or not DRIVER:
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    driver.set_page_load_timeout(60)
    yield driver
    driver.quit()


@pytest.fixture
def browser(driver, page):
    """The page, freshly opened on a desktop, with empty logs."""
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", DESKTOP)
    theme(driver, "light")
    for log in ("browser", "performance"):
        driver.get_log(log)
    driver.get(page)
    driver.execute_script("try { localStorage.clear(); } catch (error) {}")
    return driver


def theme(driver, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def texts(driver, selector):
    script = """return Array.from(document.querySelectorAll(arguments[0]))
        .filter(node => node.getClientRects().length).map(node => node.textContent.trim())"""
    return driver.execute_script(script, selector)


def click_head(driver, section, number):
    heads = driver.find_elements("css selector", f"#{section} thead th")
    driver.execute_script("arguments[0].click()", heads[number].find_element("tag name", "button"))
    return heads[number].get_attribute("aria-sort")


def choose(driver, name, value):
    driver.execute_script(
        """const select = document.querySelector(`select[data-filter="${arguments[0]}"]`);
        select.value = arguments[1]; select.dispatchEvent(new Event("change"));""",
        name,
        value,
    )


def test_console_is_silent_and_nothing_is_requested(browser, page):
    from urllib.parse import urlsplit

    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    browser.execute_script("window.scrollTo(0, document.body.scrollHeight)")
    assert browser.get_log("browser") == []
    requested = []
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            requested.append(message["params"]["request"]["url"])
    assert page in [url.split("#")[0] for url in requested]
    assert {urlsplit(url).scheme for url in requested} <= {"file", "data"}
    assert {url for url in requested if url.startswith("file:")} == {page}
    resources = browser.execute_script(
        "return performance.getEntriesByType('resource').map(entry => entry.name)"
    )
    assert [name for name in resources if not name.startswith("data:")] == []


def test_content_policy_stops_what_would_be_injected(browser):
    ran = browser.execute_async_script(
        """const done = arguments[0]; const script = document.createElement("script");
        script.textContent = "window.injected = true"; document.body.append(script);
        const image = new Image(); image.onload = () => done("loaded");
        image.onerror = () => done(Boolean(window.injected)); image.src = "https://example.invalid/a.png";
        """
    )
    assert ran is False
    assert any(
        "Content Security Policy" in entry["message"] for entry in browser.get_log("browser")
    )


def test_every_picture_shows(browser):
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    sizes = browser.execute_async_script(
        """const done = arguments[0];
        const images = Array.from(document.images);
        images.forEach(image => { image.loading = "eager"; });
        Promise.all(images.map(image => image.decode().catch(() => 0)))
            .then(() => done(images.map(image => image.naturalWidth)));"""
    )
    assert len(sizes) > 50
    assert min(sizes) > 0


def test_sorting_goes_down_up_and_back(browser):
    rows = "#cells tbody tr"
    before = texts(browser, f"{rows} th")
    column = f"{rows} td:nth-child(4)"

    def numbers():
        return [float(t) for t in texts(browser, column) if t != "–"]

    assert click_head(browser, "cells", 3) == "descending"
    assert numbers() == sorted(numbers(), reverse=True)
    dashes = [text == "–" for text in texts(browser, column)]
    assert any(dashes) and dashes == sorted(dashes)
    assert click_head(browser, "cells", 3) == "ascending"
    assert numbers() == sorted(numbers())
    dashes = [text == "–" for text in texts(browser, column)]
    assert dashes == sorted(dashes)
    assert click_head(browser, "cells", 3) is None
    assert texts(browser, f"{rows} th") == before


def test_sorting_by_name_is_alphabetical_first(browser):
    assert click_head(browser, "cells", 2) == "ascending"
    names = texts(browser, "#cells tbody tr td:nth-child(3)")
    assert names == sorted(names, key=str.lower)
    assert len(set(names)) == 9


def test_sorting_a_matrix_stays_within_domains_and_keeps_means_below(browser):
    heads = texts(browser, "#image thead th")
    click_head(browser, "image", heads.index("FAPrompt"))
    rows = browser.execute_script(
        """return Array.from(document.querySelectorAll("#image tbody:not(.heading) tr"))
        .map(row => [row.dataset.domain, row.classList.contains("summary"),
                     Number(row.cells[arguments[0]].dataset.sort)])""",
        heads.index("FAPrompt"),
    )
    industrial = [row for row in rows if row[0] == "industrial"]
    assert rows[: len(industrial)] == industrial
    assert industrial[-1][1]
    values = [row[2] for row in industrial[:-1]]
    assert len(values) > 2 and values == sorted(values, reverse=True)


def test_filters_narrow_everything_and_clear_again(browser):
    everything = len(texts(browser, "#cells tbody tr"))
    choose(browser, "dataset", "VisA")
    assert set(texts(browser, "#cells tbody td:nth-child(2)")) == {"VisA"}
    assert texts(browser, "#image tbody:not(.heading) th") == ["VisA"]
    assert texts(browser, "#curves summary")[0].startswith("VisA")
    choose(browser, "method", "FAPrompt")
    shown = texts(browser, "#cells tbody tr")
    assert len(shown) == 2  # its categories
    assert texts(browser, "[data-count]") == ["2"]
    assert texts(browser, "#image thead th") == ["Dataset", "FAPrompt"]
    assert set(texts(browser, "#published tbody td:nth-child(2)")) == {"FAPrompt"}
    browser.find_element("id", "clear").click()
    assert len(texts(browser, "#cells tbody tr")) == everything
    choose(browser, "domain", "medical")
    assert set(texts(browser, "#cells tbody td:nth-child(2)")) == {"BrainMRI", "ISIC"}


def test_sorting_and_filtering_go_together(browser):
    choose(browser, "method", "WinCLIP")
    click_head(browser, "cells", 3)
    assert set(texts(browser, "#cells tbody td:nth-child(3)")) == {"WinCLIP"}


def background(driver):
    return driver.execute_script("return getComputedStyle(document.body).backgroundColor")


def test_dark_mode_follows_the_system_and_the_toggle(browser):
    light = background(browser)
    theme(browser, "dark")
    dark = background(browser)
    assert dark != light
    toggle = browser.find_element("id", "theme")
    assert toggle.text == "Light"
    toggle.click()
    assert background(browser) == light
    toggle.click()
    assert background(browser) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser, scheme):
    """At least 4.5 to 1 for text (WCAG 2.2, 1.4.3), except for what is switched off."""
    theme(browser, scheme)
    ratios = browser.execute_script(
        """const parse = text => text.match(/[\\d.]+/g).slice(0, 3).map(Number);
        const light = rgb => rgb.map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
            .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
        const behind = node => {
            for (; node; node = node.parentElement) {
                const colour = getComputedStyle(node).backgroundColor;
                if (!colour.endsWith(", 0)")) { return parse(colour); }
            }
            return [255, 255, 255];
        };
        const wanted = "h1, h2, h3, h4, .lead, .about, .small, nav a, td span, td, th, dt, dd, "
            + ".up, .down, .name, .num, .legend li, .strip figcaption, .strip .file";
        return Array.from(document.querySelectorAll(wanted))
            .filter(node => node.getClientRects().length && node.textContent.trim())
            .map(node => {
                const a = light(parse(getComputedStyle(node).color)), b = light(behind(node));
                const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                return [ratio, node.className, node.tagName];
            })"""
    )
    assert len(ratios) > 500
    poor = {(tag, name) for ratio, name, tag in ratios if ratio < 4.5}
    assert not poor


@pytest.mark.parametrize("width", [320, 360, 768])
def test_narrow_page_does_not_scroll_sideways(browser, page, width):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**PHONE, "width": width})
    browser.get(page)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    inner, scroll = browser.execute_script(
        "return [document.documentElement.clientWidth, document.documentElement.scrollWidth]"
    )
    assert inner == width
    assert scroll <= width


def test_heads_stay_in_sight_while_a_table_scrolls(browser):
    top = browser.execute_script(
        """const box = document.querySelector("#cells .scroll"); box.scrollTop = 400;
        return [box.scrollTop, box.getBoundingClientRect().top,
                box.querySelector("thead th").getBoundingClientRect().top]"""
    )
    assert top[0] == 400
    assert abs(top[1] - top[2]) <= 2


def test_page_reads_without_script(driver, page):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get(page)
        text = driver.find_element("tag name", "body").text
        controls = driver.find_elements("css selector", ".filters, #theme, .sort")
        assert not any(control.is_displayed() for control in controls)
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert all(word in text for word in ("FAPrompt", "MVTecAD", "Image-level", "Provenance"))
    assert text.count("±") == 0 and text.count(".") > 500


def test_print_shows_no_controls(browser):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        for control in (".bar", "#theme"):
            assert not browser.find_element("css selector", control).is_displayed()
        assert browser.find_element("css selector", "#image table").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_picture_of_the_page_can_be_taken(browser, tmp_path):
    """With ZSAD_SCREENSHOT the picture goes there."""
    shot = browser.execute_cdp_cmd(
        "Page.captureScreenshot",
        {
            "clip": {"x": 0, "y": 0, "width": 1360, "height": 1750, "scale": 1},
            "captureBeyondViewport": True,
        },
    )
    out = Path(os.environ.get("ZSAD_SCREENSHOT") or tmp_path / "report.png")
    out.write_bytes(base64.b64decode(shot["data"]))
    assert 20_000 < out.stat().st_size < 500_000
