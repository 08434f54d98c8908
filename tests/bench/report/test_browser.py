"""The report in a real browser: it draws, sorts and filters, and requests nothing."""

import base64
import json
import os
from pathlib import Path

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]

PHONE = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}


@pytest.fixture
def page(pages):
    return (pages["an"] / "report.html").as_uri()


@pytest.fixture
def browser(driver, pages, show_page):
    """The page of nine methods, freshly opened."""
    return show_page(pages["an"])


@pytest.fixture
def few(driver, pages, show_page):
    """The page of fewer methods than datasets, freshly opened."""
    return show_page(pages["few"])


def theme(driver, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


def texts(driver, selector):
    script = """return Array.from(document.querySelectorAll(arguments[0]))
        .filter(node => node.getClientRects().length).map(node => node.textContent.trim())"""
    return driver.execute_script(script, selector)


def click_head(driver, selector, number):
    heads = driver.find_elements("css selector", f"{selector} thead th")
    driver.execute_script("arguments[0].click()", heads[number].find_element("tag name", "button"))
    return heads[number].get_attribute("aria-sort")


def choose(driver, name, *values):
    driver.execute_script(
        """document.querySelectorAll(`.menu input[name="${arguments[0]}"]`).forEach(box => {
            const wanted = arguments[1].includes(box.value);
            if (box.checked !== wanted) { box.click(); }
        });""",
        name,
        list(values),
    )


AUROC = '.result[data-metric="image_auroc"]'


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
    column = f"{rows} td:nth-child(5)"

    def numbers():
        return [float(t) for t in texts(browser, column) if t != "–"]

    assert click_head(browser, "#cells", 4) == "descending"
    assert numbers() == sorted(numbers(), reverse=True)
    dashes = [text == "–" for text in texts(browser, column)]
    assert any(dashes) and dashes == sorted(dashes)
    assert click_head(browser, "#cells", 4) == "ascending"
    assert numbers() == sorted(numbers())
    dashes = [text == "–" for text in texts(browser, column)]
    assert dashes == sorted(dashes)
    assert click_head(browser, "#cells", 4) is None
    assert texts(browser, f"{rows} th") == before


def test_sorting_by_name_is_alphabetical_first(browser):
    assert click_head(browser, "#cells", 2) == "ascending"
    names = texts(browser, "#cells tbody tr td:nth-child(3)")
    assert names == sorted(names, key=str.lower)
    assert len(set(names)) == 9


def test_sorting_a_matrix_stays_within_domains_and_keeps_means_below(few):
    heads = texts(few, f"{AUROC} thead th")
    click_head(few, AUROC, heads.index("FAPrompt"))
    rows = few.execute_script(
        """return Array.from(document.querySelectorAll(`${arguments[1]} tbody:not(.heading) tr`))
        .map(row => [row.dataset.domain, row.classList.contains("summary"),
                     Number(row.cells[arguments[0]].dataset.sort)])""",
        heads.index("FAPrompt"),
        AUROC,
    )
    industrial = [row for row in rows if row[0] == "industrial"]
    assert rows[: len(industrial)] == industrial
    assert industrial[-1][1]
    values = [row[2] for row in industrial[:-1]]
    assert len(values) > 2 and values == sorted(values, reverse=True)


def test_methods_as_rows_are_sorted_by_any_dataset(browser):
    heads = texts(browser, f"{AUROC} thead th")
    click_head(browser, AUROC, heads.index("VisA"))
    values = [float(t) for t in texts(browser, f"{AUROC} tbody td:nth-child(3) .n") if "≈" not in t]
    marked = texts(browser, f"{AUROC} tbody td:nth-child(3)")
    assert len(marked) == 9 and values == sorted(values, reverse=True)


def test_filters_narrow_everything_and_clear_again(few):
    everything = len(texts(few, "#cells tbody tr"))
    choose(few, "dataset", "VisA", "BTAD")
    assert set(texts(few, "#cells tbody td:nth-child(2)")) == {"VisA", "BTAD"}
    assert texts(few, f"{AUROC} tbody:not(.heading) th") == ["VisA", "BTAD"]
    assert [t.split()[0] for t in texts(few, "#curves summary")] == ["VisA", "BTAD"]
    assert {t.split(",")[0] for t in texts(few, "#overview h3") if "," in t} >= {"VisA", "BTAD"}
    assert not any("Industrial" in text for text in texts(few, "#overview h3"))
    choose(few, "method", "FAPrompt")
    shown = texts(few, "#cells tbody tr")
    assert len(shown) == 4  # its categories
    assert texts(few, "[data-count]") == ["4"]
    assert texts(few, f"{AUROC} thead th") == ["Dataset", "FAPrompt"]
    assert set(texts(few, "#published tbody td:nth-child(2)")) == {"FAPrompt"}
    assert set(texts(few, "#overview .dots .name")) == {"FAPrompt"}
    few.find_element("id", "clear").click()
    assert len(texts(few, "#cells tbody tr")) == everything
    choose(few, "domain", "medical")
    assert set(texts(few, "#cells tbody td:nth-child(2)")) == {"BrainMRI", "ISIC"}


def test_hardest_categories_and_ranks_follow_the_filters(few):
    rows = "#overview .hard[data-metric='image_auroc'] tbody tr"
    assert len(texts(few, rows)) == 8
    assert any("Average ranks" in text for text in texts(few, "#overview h3"))
    choose(few, "dataset", "MVTecAD")
    shown = texts(few, rows)
    assert len(shown) == 3 and all("MVTecAD" in text for text in shown)
    assert not any("Average ranks" in text for text in texts(few, "#overview h3"))
    choose(few, "dataset", "ISIC")  # has no image-level values
    assert texts(few, "#overview .hard[data-metric='image_auroc']") == []


def test_metrics_are_switched_in_tables_overview_and_cells(few):
    assert texts(few, "#tables h3") == ["Image-level AUROC in percent"]
    buttons = {b.text: b for b in few.find_elements("css selector", "[data-metric-button]")}
    assert buttons["image AUROC"].get_attribute("aria-pressed") == "true"
    few.execute_script("arguments[0].click()", buttons["pixel PRO"])
    assert texts(few, "#tables h3") == ["Pixel-level PRO in percent"]
    assert buttons["pixel PRO"].get_attribute("aria-pressed") == "true"
    assert all("PRO" in text for text in texts(few, "#overview .card h3"))
    heads = ["Category", "Dataset", "Method", "Seed", "pixel PRO", "normal", "anomalous"]
    assert texts(few, "#cells thead th") == heads
    choose(few, "metric", "image_ap", "pixel_pro")
    assert texts(few, "#tables h3") == ["Image-level AP in percent", "Pixel-level PRO in percent"]


def test_filters_live_in_the_address(few, pages, show_page):
    choose(few, "dataset", "VisA", "BTAD")
    choose(few, "metric", "image_ap")
    few.execute_script("document.querySelector('.bar nav a[href=\"#tables\"]').click()")
    address = few.current_url
    assert address.endswith("#tables?dataset=VisA,BTAD&metric=image_ap")
    before = texts(few, "#cells tbody tr"), texts(few, "#tables tbody tr")
    again = show_page(pages["few"], address[address.index("#") :])
    assert (texts(again, "#cells tbody tr"), texts(again, "#tables tbody tr")) == before
    assert [t.split()[-2:] for t in texts(again, ".menu.active summary")] == [
        ["2", "chosen"],
        ["image", "AP"],
    ]
    again.find_element("id", "clear").click()
    assert again.current_url.endswith("#tables")


def test_a_filter_that_leaves_nothing_says_so(few):
    choose(few, "dataset", "ISIC")  # has no image-level values
    assert texts(few, "#nothing") == ["No result matches the filters."]
    choose(few, "dataset")
    assert texts(few, "#nothing") == []


def test_sorting_and_filtering_go_together(browser):
    choose(browser, "method", "WinCLIP")
    click_head(browser, "#cells", 4)
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
            + ".up, .down, .name, .num, .legend li, .tile figcaption span, .file, .verdict, button";
        return Array.from(document.querySelectorAll(wanted))
            .filter(node => node.getClientRects().length && !node.disabled)
            .filter(node => node.textContent.trim())
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
        controls = driver.find_elements(
            "css selector", ".filters, #theme, .sort, .switch, .save, .threshold, .enlarge"
        )
        assert not any(control.is_displayed() for control in controls)
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert all(word in text for word in ("FAPrompt", "MVTecAD", "Image-level", "Provenance"))
    assert text.count("±") == 0 and text.count(".") > 500


def test_print_shows_no_controls(browser):
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        for control in (".bar", "#theme", ".switch", ".threshold", ".enlarge", ".save"):
            assert not browser.find_element("css selector", control).is_displayed()
        for metric in ("image_auroc", "pixel_pro"):
            table = f'.result[data-metric="{metric}"] table'
            assert browser.find_element("css selector", table).is_displayed()
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
