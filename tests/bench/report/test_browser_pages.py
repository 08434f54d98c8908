"""The report at three widths: nothing runs off, everybody can use it, downloads are the records."""

import csv
import json
import time

import pytest
from zsad.bench.analysis.matrix import Matrix
from zsad.bench.report.tables import report_tables

pytestmark = [pytest.mark.browser, pytest.mark.slow]

WIDTHS = (1400, 1280, 390)
OUTSIDE = """
const shown = node => node.getClientRects().length > 0;
const box = node => node.getBoundingClientRect();
const moves = node => /auto|scroll/.test(getComputedStyle(node).overflowX);
const wanted = "th, td, .tile, .strip, .card, .dots li, .tile img, figcaption";
const found = [];
for (const node of Array.from(document.querySelectorAll(wanted)).filter(shown)) {
    let within = node.parentElement;
    while (within && !moves(within)) { within = within.parentElement; }
    const edge = within ? box(within) : { left: 0, right: document.documentElement.clientWidth };
    if (box(node).right > edge.right + 1 || box(node).left < edge.left - 1) {
        const style = within && getComputedStyle(within);
        const marked = style && style.backgroundImage.includes("gradient")
            && style.backgroundAttachment.includes("local")
            && within.scrollWidth > within.clientWidth;
        if (!marked) { found.push(node.tagName + " " + node.className + " " + node.textContent); }
    }
}
for (const node of document.querySelectorAll(".scroll, .strips, .tiles, .card, .bar-inner")) {
    if (shown(node) && box(node).right > document.documentElement.clientWidth + 1) {
        found.push(node.className);
    }
}
return found;
"""


def narrow(driver, width):
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true; })")


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["an", "few", "many"])
def test_nothing_lies_outside_its_box_without_a_visible_edge(pages, show_page, name, width):
    browser = show_page(pages[name])
    for metric in ("", "?metric=pixel_pro"):
        browser.execute_script("location.hash = arguments[0]", f"#tables{metric}")
        narrow(browser, width)
        assert browser.execute_script(OUTSIDE) == []
    page = browser.execute_script("return document.documentElement.scrollWidth")
    assert page <= width


def test_what_runs_off_would_be_seen(pages, show_page):
    browser = show_page(pages["ten"])
    narrow(browser, 390)
    browser.execute_script(
        "document.querySelectorAll('.scroll').forEach(b => { b.style.overflow = 'visible'; })"
    )
    assert len(browser.execute_script(OUTSIDE)) > 10


@pytest.mark.parametrize("width", [1400, 1280])
@pytest.mark.parametrize("name", ["an", "ten", "few", "many"])
def test_a_table_of_ten_methods_fits_a_screen(pages, show_page, name, width):
    browser = show_page(pages[name])
    hidden = browser.find_element("css selector", "#tables .within")
    assert not hidden.is_displayed()
    browser.execute_script("document.getElementById('with-intervals').click()")
    assert hidden.is_displayed()
    narrow(browser, width)
    wider = browser.execute_script(
        """return Array.from(document.querySelectorAll("#tables .scroll"))
        .filter(box => box.getClientRects().length).map(box => box.scrollWidth - box.clientWidth)"""
    )
    assert len(wider) == 1 and wider[0] <= 0


def test_the_first_column_stays_while_a_table_scrolls(pages, show_page):
    browser = show_page(pages["an"])
    narrow(browser, 390)
    left = browser.execute_script(
        """const box = document.querySelector("#tables .result:not(.unshown) .scroll");
        box.scrollLeft = 120;
        return [box.scrollLeft, box.getBoundingClientRect().left,
            ...Array.from(box.querySelectorAll("th:first-child"),
                head => head.getBoundingClientRect().left)]"""
    )
    assert left[0] == 120
    assert max(abs(x - left[1]) for x in left[2:]) <= 2


def test_filters_take_two_lines_of_a_phone(pages, show_page):
    browser = show_page(pages["an"])
    narrow(browser, 390)
    tops = browser.execute_script(
        """return Array.from(document.querySelectorAll(".menu"),
        menu => Math.round(menu.getBoundingClientRect().top))"""
    )
    assert len(tops) == 4 and len(set(tops)) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 1280, 390])
def test_axe_finds_nothing_serious(pages, show_page, width, scheme):
    axe = pytest.importorskip("axe_selenium_python")
    browser = show_page(pages["ten"])
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    narrow(browser, width)
    browser.execute_script(
        "document.querySelectorAll('.menu, .fact').forEach(d => { d.open = false; })"
    )
    checker = axe.Axe(browser)
    checker.inject()
    results = checker.run()
    assert len(results["passes"]) > 20
    serious = {
        (found["id"], node["html"][:160])
        for found in results["violations"]
        if found["impact"] in ("serious", "critical")
        for node in found["nodes"][:2]
    }
    assert not serious


# -- downloads ------------------------------------------------------------------------------------


def saved(browser, selector, suffix):
    for old in browser.downloads.iterdir():
        old.unlink()
    button = browser.find_element("css selector", f'{selector} [data-save="{suffix}"]')
    browser.execute_script("arguments[0].click()", button)
    for _ in range(100):
        found = list(browser.downloads.glob(f"*.{suffix}"))
        if found and found[0].stat().st_size:
            return found[0].read_text(encoding="utf-8")
        time.sleep(0.1)
    raise AssertionError("nothing was downloaded")


def expected(folder, keep=lambda dataset, method: True):
    """Domain, dataset, method, category and seed with all metrics, as the records hold them."""
    matrix = Matrix.read(folder)
    return {
        (dataset.domain, dataset.title, method.label, result.category, record.cell.seed): result
        for dataset in matrix.datasets
        for method in matrix.methods
        for record in matrix.finished(method, dataset)
        for result in record.categories
        if keep(dataset, method)
    }


def place(row):
    return (row["domain"], row["dataset"], row["method"], row["category"], int(row["seed"]))


def test_downloaded_records_are_the_records(pages, show_page):
    browser = show_page(pages["few"])
    rows = json.loads(saved(browser, "#cells", "json"))
    records = expected(pages["few"])
    assert {place(row) for row in rows} == records.keys() and len(rows) == len(records)
    beside = {"domain", "dataset", "method", "category", "seed", "n_normal", "n_anomalous"}
    for row in rows:
        result = records[place(row)]
        metrics = {k: v for k, v in row.items() if k not in {*beside, "undefined"}}
        assert {k: v for k, v in metrics.items() if v is not None} == dict(result.metrics)
        assert (row["n_normal"], row["n_anomalous"]) == (result.n_normal, result.n_anomalous)
        for name, value in metrics.items():
            reason = result.undefined.get(name, "not measured")
            assert (f"{name}: {reason}" in row["undefined"]) == (value is None)
    table = list(csv.DictReader(saved(browser, "#cells", "csv").splitlines()))
    for row, same in zip(table, rows, strict=True):
        assert {k: v for k, v in row.items() if k != "undefined"} == {
            k: "" if v is None else str(v) if isinstance(v, str) else row[k]
            for k, v in same.items()
            if k != "undefined"
        }
        for key in ("image_auroc", "pixel_pro"):
            assert (float(row[key]) if row[key] else None) == same[key]


def test_download_holds_what_is_shown_and_no_more(pages, show_page):
    browser = show_page(pages["few"], "#cells?dataset=VisA,BTAD&method=CoOp&metric=image_ap")
    rows = json.loads(saved(browser, "#cells", "json"))
    records = expected(pages["few"], lambda d, m: d.title in ("VisA", "BTAD") and m.label == "CoOp")
    assert {place(row): row["image_ap"] for row in rows} == {
        key: result.metrics["image_ap"] for key, result in records.items()
    }
    assert "image_auroc" not in rows[0]


@pytest.mark.parametrize("name", ["few", "an"])
def test_downloaded_table_holds_values_intervals_and_marks(pages, show_page, name):
    browser = show_page(pages[name])
    selector = '.result[data-metric="image_auroc"]'
    rows = json.loads(saved(browser, selector, "json"))
    (own,) = (
        table
        for table in report_tables(Matrix.read(pages[name]))
        if table.metric.name == "image_auroc"
    )
    shown = {}
    for row in own.rows:
        for entry in row.entries:
            at = entry.standing and entry.standing.interval
            ends = (100 * at.low, 100 * at.high) if at else (None, None)
            mark = {"near": "not distinguishable from the best"}.get(entry.mark, entry.mark)
            number = entry.number
            printed = None if number.value is None else number.printed
            values = (number.value, *ends, printed, mark)
            label = row.row.label if row.dataset else f"mean {row.row.group}"
            shown[label, entry.method.label] = values
    found = {}
    for row in rows:
        label = f"mean {row['domain']}" if row["dataset"].startswith("Mean") else row["dataset"]
        values = (row["percent"], row["low"], row["high"], row["printed"], row["mark"])
        found[label, row["method"]] = values
    assert found == shown


# -- gallery --------------------------------------------------------------------------------------


def test_threshold_cuts_each_map_where_its_sheet_says(pages, show_page):
    browser = show_page(pages["ten"])
    script = """
    const slider = document.getElementById("threshold");
    const done = arguments[1];
    slider.value = arguments[0];
    slider.dispatchEvent(new Event("input"));
    const colours = document.getElementById("gallery").dataset.colours.match(/.{6}/g);
    setTimeout(() => {
        const row = document.querySelector(".image-row[data-label='1']");
        const pixels = node => {
            const canvas = document.createElement("canvas");
            canvas.width = canvas.height = 112;
            const context = canvas.getContext("2d");
            context.drawImage(node, 0, 0, 112, 112);
            return Array.from(context.getImageData(0, 0, 112, 112).data);
        };
        done(Array.from(row.querySelectorAll("canvas.cut"), cut => {
            const map = cut.previousElementSibling, own = pixels(map), over = pixels(cut);
            const level = Number(map.dataset.levels.split(",")[slider.value - 1]);
            let wrong = 0, reported = 0;
            for (let p = 0; p < own.length; p += 4) {
                const hex = [0, 1, 2].map(i => own[p + i].toString(16).padStart(2, "0")).join("");
                const grey = over[p] === over[p + 1] && over[p] === over[p + 2];
                reported += !grey;
                wrong += (colours.indexOf(hex) >= level) === grey;
            }
            return [wrong, reported];
        }));
    }, 1200);
    """
    browser.set_script_timeout(20)
    cuts = browser.execute_async_script(script, 6)
    assert len(cuts) == 10
    assert [wrong for wrong, _ in cuts] == [0] * 10
    assert all(0 < reported < 112 * 112 for _, reported in cuts)
    value = browser.find_element("id", "threshold-value")
    assert value.get_attribute("textContent") == "5 % of normal pixels"
    assert browser.execute_async_script(script, 0) == []


def test_an_image_is_enlarged_and_left_by_keyboard(pages, show_page):
    from selenium.webdriver.common.keys import Keys

    browser = show_page(pages["ten"])
    button = browser.find_element("css selector", ".enlarge")
    browser.execute_script("arguments[0].focus()", button)
    button.send_keys(Keys.ENTER)
    box = browser.find_element("id", "lightbox")
    assert box.get_attribute("open") is not None
    name = browser.find_element("css selector", "#lightbox .file").text
    widths = browser.execute_script(
        "return Array.from(document.querySelectorAll('#lightbox img.map'), i => i.clientWidth)"
    )
    assert len(widths) == 10 and min(widths) > 150
    browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert browser.find_element("css selector", "#lightbox .file").text != name
    browser.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert browser.find_element("css selector", "#lightbox .file").text == name
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert box.get_attribute("open") is None
    assert browser.switch_to.active_element == button


def test_methods_that_are_filtered_out_leave_the_gallery(pages, show_page):
    browser = show_page(pages["ten"], "#gallery?method=CLIP,FAPrompt&dataset=VisA")
    names = browser.execute_script(
        """return Array.from(document.querySelectorAll("#gallery .tile b"))
        .filter(node => node.getClientRects().length).map(node => node.textContent)"""
    )
    assert set(names) == {"CLIP", "FAPrompt"}
