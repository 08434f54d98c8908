"""The site in a real browser: it fits, sorts and loads its own files; axe finds no fault."""

import json

import pytest

pytestmark = [pytest.mark.browser, pytest.mark.slow]
PAGES = (
    "index.html",
    "methods/faprompt.html",
    "datasets/visa.html",
    "comparisons/index.html",
    "records/index.html",
)


def show(driver, site, page, width=1280, scheme="light"):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for log in ("browser", "performance"):
        driver.get_log(log)
    driver.get((site / page).as_uri())
    driver.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("width", [1400, 1280, 390])
def test_a_page_fits_its_window(driver, site, page, width):
    show(driver, site, page, width)
    wide = driver.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width
    assert not [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]


def test_a_page_loads_its_own_files_alone(driver, site):
    show(driver, site, "methods/faprompt.html")
    sent = [json.loads(line["message"])["message"] for line in driver.get_log("performance")]
    places = {m["params"]["request"]["url"] for m in sent if m["method"].endswith("WillBeSent")}
    root = site.resolve().as_uri()
    assert places >= {f"{root}/style.css", f"{root}/script.js"}
    assert not [place for place in places if not place.startswith((root, "data:", "about:"))]


def test_a_leaderboard_is_sorted_by_any_column(driver, site):
    show(driver, site, "index.html")
    column = """return Array.from(document.querySelector('.board table').tBodies[0].rows)
        .map(row => row.cells[arguments[0]].dataset.sort).filter(Boolean).map(Number)"""
    heads = driver.find_elements("css selector", ".board table")[0].find_elements("tag name", "th")
    number = next(i for i, head in enumerate(heads) if "ELPV" in head.text)
    driver.execute_script("arguments[0].click()", heads[number].find_element("tag name", "button"))
    values = driver.execute_script(column, number)
    assert len(values) == 3
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(driver, site, page, scheme):
    axe = pytest.importorskip("axe_selenium_python")
    show(driver, site, page, scheme=scheme)
    checker = axe.Axe(driver)
    checker.inject()
    found = [v for v in checker.run()["violations"] if v["impact"] in ("serious", "critical")]
    assert not found, axe.Axe.report(checker, found)


def test_a_page_is_readable_without_scripts(driver, site):
    driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        driver.get((site / "index.html").as_uri())
        shown = driver.find_elements("css selector", ".board table")
        assert shown[0].text.count("FAPrompt") == 1
    finally:
        driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
