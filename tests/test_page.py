"""The page in a real browser, headless and without a network: it opens from disk, sorts, filters, and does no harm."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparisons import FAILED, GPT, HOSTILE, ROW, SOURCE, XZ, a_results_folder, large, rendered
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from lmstages.core.visible import visible
from lmstages.results.frame import Results

pytestmark = pytest.mark.slow
STILL = {"name": "prefers-reduced-motion", "value": "reduce"}


def opened(browser: Any, results: Results) -> Path:
    """The page of a results folder, from disk."""
    path = results.folder / "report.html"
    path.write_text(rendered(results), "utf-8")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [STILL]})
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(path.as_uri())
    return path


@pytest.fixture(scope="module")
def two_texts(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two texts with every kind of row."""
    return large(tmp_path_factory.mktemp("page"), 2, 8, replace(FAILED, corpus="text1", rank=9))


@pytest.fixture
def page(browser: Any, two_texts: Results) -> Any:
    """The page of two texts, opened again where another test went elsewhere."""
    if not browser.current_url.startswith((two_texts.folder / "report.html").as_uri()):
        opened(browser, two_texts)
    return browser


def requests(browser: Any) -> list[str]:
    """Every address the browser asked for since the last call, inner pages of its own left out."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
    return [url for url in urls if not url.startswith(("chrome:", "devtools:"))]


def script(browser: Any, code: str, *arguments: Any) -> Any:
    return browser.execute_script(code, *arguments)


def rows_left(browser: Any) -> list[list[str]]:
    """Corpus and category of the rows that are shown."""
    code = "return [...document.querySelectorAll('#rows tbody tr')].filter(row => row.checkVisibility())"
    return script(browser, code + ".map(row => [row.dataset.corpus, row.dataset.category])")


def column(browser: Any, key: str) -> list[str]:
    code = (
        "return [...document.querySelectorAll(`#rows td[data-column='${arguments[0]}']`)].map(one => one.dataset.value)"
    )
    return script(browser, code, key)


def heading(browser: Any, words: str) -> Any:
    code = "return [...document.querySelectorAll('#rows thead button')]"
    button = script(browser, f"{code}.find(button => button.textContent.includes(arguments[0]))", words)
    script(browser, "document.querySelector('#table').scrollIntoView()")
    return button


def choose(browser: Any, name: str, value: str) -> None:
    code = "const one = document.querySelector(`#filters [name=${arguments[0]}]`); one.value = arguments[1];"
    script(browser, code + "one.dispatchEvent(new Event('input', {bubbles: true}))", name, value)


def test_the_page_opens_from_disk_and_asks_for_nothing(browser: Any, tmp_path: Path) -> None:
    path = opened(browser, a_results_folder(tmp_path, ROW, GPT, FAILED, XZ, SOURCE, estimation=True))
    assert script(browser, "return document.readyState") == "complete" and "lmstages" in browser.title
    assert requests(browser) == [path.as_uri()] and browser.get_log("browser") == []


def test_the_log_would_see_a_request_and_a_word_of_the_console(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "other.html"
    path.write_text(
        "<!DOCTYPE html><title>x</title><link rel=icon href=data:,><img src=absent.png><script>throw 1</script>"
    )
    browser.get_log("performance"), browser.get_log("browser")
    browser.get(path.as_uri())
    assert any(url.endswith("absent.png") for url in requests(browser)) and browser.get_log("browser")


def test_a_click_on_a_heading_sorts_and_another_turns_it_round(page: Any) -> None:
    for sign in (1, -1):
        heading(page, "Parameters").click()
        values = [float(value) for value in column(page, "parameters") if value]
        assert values == sorted(values)[::sign] and len(values) == 16
        assert column(page, "parameters")[-1] == "", "rows without a number stand last"


def test_words_sort_as_words(page: Any) -> None:
    heading(page, "Corpus").click()
    corpora = [corpus for corpus, _ in rows_left(page)]
    assert corpora == sorted(corpora)


def test_filters_leave_the_rows_they_name(page: Any) -> None:
    everything = rows_left(page)
    choose(page, "corpus", "text1")
    assert {corpus for corpus, _ in rows_left(page)} == {"text1"}
    choose(page, "category", "compressor")
    assert rows_left(page) == [["text1", "compressor"]]
    assert "1 of 21 rows" in script(page, "return document.querySelector('#filters output').textContent")
    choose(page, "category", ""), choose(page, "corpus", ""), choose(page, "model", "model 3")
    assert len(rows_left(page)) == 2
    choose(page, "model", "")
    assert rows_left(page) == everything


def test_the_other_columns_are_a_click_away(page: Any) -> None:
    code = "return document.querySelector('#rows td[data-column=protocol]').checkVisibility()"
    assert not script(page, code)
    page.find_element("id", "wide").click()
    assert script(page, code)
    page.find_element("id", "wide").click()


def test_a_click_on_a_figure_says_where_it_came_from(page: Any) -> None:
    script(page, "document.querySelector('#rows tbody td.bits').click()")
    text = script(page, "return document.querySelector('[popover]:popover-open').innerText")
    assert "scores.safetensors" in text and "python -m lmstages explain" in text and "Σ log p" in text
    clicked = script(page, "return document.querySelector('[popover]:popover-open .clicked').dataset.column")
    assert clicked == "bits_per_byte"
    script(page, "document.querySelector('[popover]:popover-open').hidePopover()")


def test_the_name_of_a_row_opens_the_same_without_a_script(page: Any) -> None:
    script(page, "document.querySelector('#rows tbody button.name').focus()")
    page.switch_to.active_element.send_keys("\n")
    assert script(page, "return document.querySelectorAll('[popover]:popover-open').length") == 1
    script(page, "document.querySelector('[popover]:popover-open').hidePopover()")


def test_a_section_of_a_model_opens_and_holds_curve_passage_and_samples(page: Any) -> None:
    section = page.find_element("id", "model-model5")
    assert not section.find_element("css selector", "pre.passage").is_displayed()
    section.find_element("css selector", "summary").click()
    for part in ("pre.passage", "figure svg", "pre.sample", "p.legend"):
        assert section.find_element("css selector", part).is_displayed()
    assert "Temperature 0.5" in section.text and "Temperature 1.5" in section.text


def test_a_row_leads_to_the_section_of_its_model(page: Any) -> None:
    name = "[...document.querySelectorAll('#rows button.name')].find(one => one.textContent === 'Model 6')"
    script(page, f"{name}.click()")
    page.find_element("css selector", "[popover]:popover-open a").click()
    assert script(
        page, "return new Promise(done => setTimeout(() => done(document.querySelector('#model-model6').open), 200))"
    )


def test_the_passage_is_the_text_coloured_by_more_than_colour(page: Any) -> None:
    code = "return [...document.querySelectorAll('#model-model5 pre.passage')][0].textContent"
    text = script(page, code).replace("↵\n", "\n").lstrip("\n")
    assert text.startswith("The fox who lived by the river asked the crane for bread")
    code = "const of = n => getComputedStyle(document.querySelector('p.legend .n' + n));"
    looks = script(page, code + "return [0,1,2,3,4,5].map(n => [of(n).backgroundColor, of(n).textDecorationStyle])")
    assert len({colour for colour, _ in looks}) == 6
    assert [style for _, style in looks[3:]] == ["dotted", "solid", "double"]


def test_text_on_every_level_can_be_read_in_light_and_in_dark(page: Any) -> None:
    for scheme in ("light", "dark"):
        wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
        code = "const of = n => getComputedStyle(document.querySelector('p.legend .n' + n));"
        pairs = script(page, code + "return [1,2,3,4,5].map(n => [of(n).color, of(n).backgroundColor])")
        assert min(contrast(ink, paper) for ink, paper in pairs) > 4.5, (scheme, pairs)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [STILL]})


def contrast(one: str, two: str) -> float:
    """WCAG 2.2 contrast of two ``rgb(r, g, b)``."""
    light = sorted((luminance(one), luminance(two)))
    return (light[1] + 0.05) / (light[0] + 0.05)


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_a_phone_scrolls_only_within_tables_and_figures(page: Any) -> None:
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    assert script(page, "return document.documentElement.scrollWidth") <= 390
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_table_can_be_taken_as_csv(page: Any) -> None:
    code = "return document.querySelector('a[download=\"table.csv\"]').href"
    assert script(page, code).startswith("data:text/csv;charset=utf-8;base64,")


@pytest.mark.parametrize("sample", HOSTILE)
def test_a_hostile_sample_does_no_harm(browser: Any, tmp_path: Path, sample: str) -> None:
    texts = {"samples": [{"temperature": 1.0, "text": sample}], "passage": [[sample, 3.0]]}
    path = opened(browser, a_results_folder(tmp_path, replace(ROW, title=f"Bigram {sample}"), **texts))
    script(browser, "for (const one of document.querySelectorAll('details')) one.open = true")
    assert script(browser, "return document.querySelector('pre.sample').textContent") == visible(sample)
    assert script(browser, "return document.querySelectorAll('script, img, iframe').length") == 1
    assert script(browser, "return document.querySelector('#rows button.name').textContent") == visible(
        f"Bigram {sample}"
    )
    assert requests(browser) == [path.as_uri()] and browser.get_log("browser") == []


def test_forty_models_are_there_within_a_second(browser: Any, tmp_path: Path) -> None:
    path = opened(browser, large(tmp_path, corpora=1, models=40))
    assert path.stat().st_size < 5_000_000
    script(browser, "document.querySelector('#rows thead button').click()")
    assert browser.current_url == f"{path.as_uri()}#table?sort=model" and len(rows_left(browser)) == 42


def test_infinite_numbers_sort_after_all_others_and_empty_ones_last(browser: Any, tmp_path: Path) -> None:
    infinite = replace(ROW, model="wild", perplexity=float("inf"))
    opened(browser, a_results_folder(tmp_path, infinite, XZ, GPT, replace(ROW, split="valid")))
    for order in (["2.83", "8.0", "Infinity", ""], ["Infinity", "8.0", "2.83", ""]):
        heading(browser, "Perplexity").click()
        assert column(browser, "perplexity") == order


@pytest.mark.parametrize("width", [400, 1280])
def test_nothing_but_tables_and_figures_is_wider_than_the_window(page: Any, width: int) -> None:
    screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    assert script(page, "return document.documentElement.scrollWidth") <= width
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


# Filters, order and columns in the address

CLEAR = "document.querySelector('#clear').click()"


def fragment(browser: Any) -> str:
    return str(script(browser, "return location.hash"))


def shown(browser: Any) -> tuple[int, str | None, bool]:
    """How many rows are left, by which column they are sorted, and whether all columns are there."""
    sort = "document.querySelector('#rows th[aria-sort]')"
    return (
        len(rows_left(browser)),
        script(browser, f"return {sort} && {sort}.dataset.column + ' ' + {sort}.ariaSort"),
        script(browser, "return document.querySelector('#wide').checked"),
    )


def went(browser: Any, code: str) -> None:
    """Runs code that goes elsewhere within the page, and waits for the event that says so."""
    wait = "const done = arguments[0]; addEventListener('popstate', () => setTimeout(done), {once: true});"
    browser.execute_async_script(wait + code)


def test_filters_order_and_columns_stand_in_the_address_and_a_copied_link_restores_them(
    browser: Any, tmp_path: Path
) -> None:
    path = opened(browser, large(tmp_path, 2, 8))
    assert fragment(browser) == ""
    choose(browser, "corpus", "text1"), choose(browser, "category", "static")
    assert fragment(browser) == "#table?corpus=text1&category=static"
    heading(browser, "Bits/byte").click(), heading(browser, "Bits/byte").click()
    script(browser, "document.querySelector('#wide').click()")
    assert fragment(browser) == "#table?corpus=text1&category=static&sort=-bits_per_byte&columns=all"
    before, bits = shown(browser), column(browser, "bits_per_byte")
    assert before == (8, "bits_per_byte descending", True)
    link = browser.current_url
    browser.get("about:blank")
    browser.get(link)
    assert link == f"{path.as_uri()}#table?corpus=text1&category=static&sort=-bits_per_byte&columns=all"
    assert (shown(browser), column(browser, "bits_per_byte")) == (before, bits)
    top = script(browser, "return document.querySelector('#table').getBoundingClientRect().top")
    assert abs(top) < 2 and set(requests(browser)) == {path.as_uri()} and browser.get_log("browser") == []


def test_back_and_forward_restore_the_filters(browser: Any, tmp_path: Path) -> None:
    opened(browser, large(tmp_path, 2, 8))
    for corpus in ("text1", "text0", ""):
        choose(browser, "corpus", corpus)
    assert (fragment(browser), shown(browser)[0]) == ("#table", 20)
    for steps, address, rows in ((-1, "#table?corpus=text0", 10), (-1, "#table?corpus=text1", 10), (-1, "", 20)):
        went(browser, f"history.go({steps})")
        assert (fragment(browser), shown(browser)[0]) == (address, rows)
    went(browser, "history.go(2)")
    assert {corpus for corpus, _ in rows_left(browser)} == {"text0"}


def test_a_word_that_is_typed_is_one_entry_of_the_history(browser: Any, tmp_path: Path) -> None:
    opened(browser, large(tmp_path, 1, 8))
    length = script(browser, "return history.length")
    browser.find_element("css selector", "#filters [name=model]").send_keys("model 3")
    assert fragment(browser) == "#table?model=model+3" and len(rows_left(browser)) == 1
    assert script(browser, "return history.length") == length + 1


def test_an_anchor_still_leads_where_it_led_and_leaves_the_filters(browser: Any, tmp_path: Path) -> None:
    opened(browser, large(tmp_path, 2, 8))
    choose(browser, "corpus", "text1")
    went(browser, "location.hash = '#model-model5'")
    assert script(browser, "return document.querySelector('#model-model5').open") and shown(browser)[0] == 10
    went(browser, "history.back()")
    assert (fragment(browser), shown(browser)[0]) == ("#table?corpus=text1", 10)
    went(browser, "location.hash = '#corpus-2'")
    assert abs(script(browser, "return document.querySelector('#corpus-2').getBoundingClientRect().top")) < 2


def test_clear_takes_every_filter_and_the_order_away(browser: Any, tmp_path: Path) -> None:
    opened(browser, large(tmp_path, 2, 8))
    everything = rows_left(browser)
    assert not script(browser, "return document.querySelector('#clear').checkVisibility()")
    choose(browser, "corpus", "text1"), heading(browser, "Parameters").click()
    assert script(browser, "return document.querySelector('#clear').checkVisibility()")
    script(browser, CLEAR)
    assert (fragment(browser), shown(browser)) == ("#table", (20, None, False)) and rows_left(browser) == everything


@pytest.mark.parametrize("address", ["#table?corpus=nowhere&sort=nothing", "#%", "#table?%", "#table?model=%3Cb%3E"])
def test_an_address_that_means_nothing_does_no_harm(browser: Any, tmp_path: Path, address: str) -> None:
    path = opened(browser, large(tmp_path, 1, 8))
    browser.get("about:blank")
    browser.get(path.as_uri() + address)
    assert len(rows_left(browser)) in (0, 10) and browser.get_log("browser") == []


# Every two models


@pytest.fixture
def square(page: Any) -> Any:
    """The page of two texts with its first square in view, wide and not on a phone."""
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    script(page, "document.querySelector('.square').scrollIntoView({block: 'center'})")
    return page


def said(browser: Any) -> str:
    return str(script(browser, "return document.querySelector('.said').textContent")).replace("\u202f", " ")


def field(browser: Any, row: int, column: int) -> Any:
    return script(browser, f"return document.querySelector('.square tbody').rows[{row}].cells[{column + 1}]")


def bits(browser: Any, number: int) -> float:
    return float(column(browser, "bits_per_byte")[number])


def the_sentence(browser: Any, a: int, b: int) -> str:
    """What is said of two models, by the bits per byte in the table of all rows."""
    difference = bits(browser, a) - bits(browser, b)
    numbers = [difference, difference - 0.05, difference + 0.05]
    written = [f"{number:.3f}".replace("-", "−") for number in numbers]
    sign = "+" if difference > 0 else ""
    sure = abs(difference) >= 0.1
    verdict = ("better" if difference < 0 else "worse") if sure else "may be chance"
    p = "< 0.001" if sure else "= 0.500"
    return (
        f"Model {a} (model{a}) less Model {b} (model{b}): {sign}{written[0]} bits per byte, "
        f"95 % interval {written[1]} to {written[2]}, p {p}: {verdict}."
    )


@pytest.fixture
def in_order(square: Any) -> Any:
    """The rows as the run has them."""
    script(square, CLEAR)
    return square


@pytest.mark.parametrize(("a", "b"), [(5, 1), (1, 5), (0, 7), (7, 6)])
def test_a_field_that_is_pointed_at_says_what_it_holds(in_order: Any, a: int, b: int) -> None:
    ActionChains(in_order).move_to_element(field(in_order, a, b)).perform()
    assert said(in_order) == the_sentence(in_order, a, b)


def test_two_models_that_are_chosen_say_the_same_as_their_field(in_order: Any) -> None:
    for number, value in ((0, "6"), (1, "2")):
        code = f"const one = document.querySelectorAll('.square select')[{number}]; one.value = '{value}';"
        script(in_order, code + "one.dispatchEvent(new Event('input', {bubbles: true}))")
    assert said(in_order) == the_sentence(in_order, 6, 2)
    assert script(in_order, "return document.querySelector('.square td.here').cellIndex") == 3


def test_arrow_keys_move_from_field_to_field(in_order: Any) -> None:
    field(in_order, 3, 1).click()
    assert said(in_order) == the_sentence(in_order, 3, 1)
    for key, a, b in (
        (Keys.ARROW_DOWN, 4, 1),
        (Keys.ARROW_RIGHT, 4, 2),
        (Keys.ARROW_UP, 3, 2),
        (Keys.ARROW_LEFT, 3, 1),
    ):
        in_order.switch_to.active_element.send_keys(key)
        assert said(in_order) == the_sentence(in_order, a, b)
    focusable = "return document.querySelector('.square').querySelectorAll('td[tabindex=\"0\"]').length"
    assert script(in_order, focusable) == 1, "Tab leaves the square at once"


def test_a_field_of_a_model_with_itself_says_so(in_order: Any) -> None:
    field(in_order, 2, 2).click()
    assert said(in_order) == "Model 2 (model2): the same model."


def test_better_and_worse_differ_by_more_than_colour_and_can_be_read(page: Any) -> None:
    code = (
        "const of = name => { const one = document.querySelector('.square td.' + name), look = getComputedStyle(one);"
    )
    code += "return [one.textContent, look.color, look.backgroundColor]; }; return ['g', 'w', 'c'].map(of)"
    for scheme in ("light", "dark"):
        wanted = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", wanted)
        looks = script(page, code)
        assert [sign for sign, _, _ in looks] == ["−", "+", "·"] and len({paper for _, _, paper in looks}) == 3
        assert min(contrast(ink, paper) for _, ink, paper in looks) > 4.5, (scheme, looks)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [STILL]})


PHONE = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": True}
DESKTOP = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}


@pytest.fixture
def phone(page: Any) -> Any:
    """The page on a phone, 400 pixels wide."""
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", PHONE)
    yield page
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.fixture
def desktop(page: Any) -> Any:
    """The page at 1280 pixels."""
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", DESKTOP)
    yield page
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_square_fits_a_phone_and_answers_to_a_tap(phone: Any) -> None:
    script(phone, CLEAR)
    box = "const box = document.querySelector('.square .scroll');"
    script(phone, box + "box.scrollIntoView({block: 'center'})")
    assert script(phone, box + "return box.scrollWidth - box.clientWidth") == 0
    field(phone, 6, 0).click()
    assert said(phone) == the_sentence(phone, 6, 0)
    place = script(
        phone, "const one = document.querySelector('.said').getBoundingClientRect(); return [one.top, one.bottom]"
    )
    assert 0 <= place[0] < place[1] <= 800, "the sentence is in view"


def test_no_name_lies_over_the_line_of_a_passage_on_a_phone(phone: Any) -> None:
    code = """return [...document.querySelectorAll('table.strips tr')].every(row => {
        const name = row.cells[0].firstElementChild.getBoundingClientRect();
        const line = row.cells[1].getBoundingClientRect();
        return name.bottom <= line.top + 1; })"""
    assert script(phone, code) and script(phone, "return document.querySelectorAll('table.strips tr').length") == 16


def test_differences_stand_in_view_on_a_phone(phone: Any) -> None:
    code = "return [...document.querySelectorAll('table.steps td.number:nth-child(3)')]"
    assert 0 < max(script(phone, code + ".map(one => one.getBoundingClientRect().right)")) <= 400


def test_the_ladder_is_not_cut_on_a_phone(phone: Any) -> None:
    code = "return [...document.querySelectorAll('figure[data-figure^=ladder] .scroll')]"
    assert set(script(phone, code + ".map(one => one.scrollWidth - one.clientWidth)")) == {0}


# Contents


def marked(browser: Any) -> str:
    """The line of the contents that is marked once the page has been painted."""
    code = "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done("
    return str(browser.execute_async_script(code + "document.querySelector('#contents [aria-current]').hash)))"))


def test_the_contents_stay_in_view_and_mark_the_present_section(desktop: Any) -> None:
    assert not script(desktop, "return document.querySelector('#open-contents').checkVisibility()")
    for anchor in ("#corpus-1", "#corpus-2-test-pairs", "#table", "#models"):
        script(desktop, f"document.querySelector('{anchor}').scrollIntoView()")
        assert marked(desktop) == anchor
        box = "const box = document.querySelector('#contents').getBoundingClientRect();"
        assert script(desktop, box + "return [box.top, box.height]") == [0, 900]
    script(desktop, "scrollTo(0, 0)")
    assert marked(desktop) == "#top"


def test_every_line_of_the_contents_leads_to_a_heading(page: Any) -> None:
    code = "return [...document.querySelectorAll('#contents a')]"
    lines = script(page, code + ".map(one => [one.hash, !!document.querySelector(one.hash)])")
    assert all(there for _, there in lines)
    headings = script(page, "return document.querySelectorAll('section > h2, section h3').length")
    assert len(lines) == 1 + headings, "the top, and every heading of a section"


def test_a_button_opens_the_contents_on_a_phone(phone: Any) -> None:
    visible = "return document.querySelector('#contents').checkVisibility()"
    assert not script(phone, visible)
    phone.find_element("id", "open-contents").click()
    assert script(phone, visible)
    went(phone, "document.querySelector('#contents a[href=\"#models\"]').click()")
    assert not script(phone, visible)
    assert abs(script(phone, "return document.querySelector('#models').getBoundingClientRect().top")) < 2


# Cues of what scrolls

EDGES = "const classes = document.querySelector('#rows').classList;"
EDGES += "return ['cut-left', 'cut-right'].map(cut => classes.contains(cut))"


def painted(browser: Any) -> None:
    browser.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(() => done()))"
    )


def test_what_scrolls_sideways_fades_at_the_edge_that_has_more(phone: Any) -> None:
    script(phone, "document.querySelector('#rows').scrollTo({left: 0, behavior: 'instant'})")
    for left, edges in ((0, [False, True]), (60, [True, True]), (9999, [True, False]), (0, [False, True])):
        script(phone, f"document.querySelector('#rows').scrollTo({{left: {left}, behavior: 'instant'}})")
        painted(phone)
        assert script(phone, EDGES) == edges
    assert script(phone, "return getComputedStyle(document.querySelector('#rows')).maskImage") != "none"


def test_everything_that_scrolls_sideways_has_a_cue_and_is_reached_with_the_keyboard(phone: Any) -> None:
    painted(phone)
    code = """const boxes = [...document.querySelectorAll('.scroll')].filter(box => box.checkVisibility());
        const wider = boxes.filter(box => box.scrollWidth > box.clientWidth + 1);
        return [wider.length, wider.every(box => box.matches('.cut-right, .cut-left')),
                wider.every(box => box.tabIndex === 0 && box.getAttribute('aria-label')),
                boxes.filter(box => box.tabIndex === 0 && !box.matches('.table') && !wider.includes(box)).length]"""
    number, cued, reached, others = script(phone, code)
    assert number > 3 and cued and reached and others == 0


# There at once


def test_the_page_answers_as_soon_as_it_has_been_read(browser: Any, tmp_path: Path) -> None:
    """Before DOMContentLoaded: nothing waits for a timer, a figure or the load event."""
    code = """addEventListener('DOMContentLoaded', () => { window.atOnce = [
        !document.querySelector('#filters').hidden, !!document.querySelector('#contents [aria-current]'),
        [...document.querySelectorAll('.square')].every(one => one.querySelectorAll('option').length > 3),
        document.querySelector('#filters output').textContent]; })"""
    added = browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": code})
    opened(browser, large(tmp_path, corpora=1, models=40))
    browser.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", added)
    assert script(browser, "return atOnce") == [True, True, True, "42 of 42 rows"]


def test_without_a_script_the_square_and_the_contents_are_there(browser: Any, tmp_path: Path) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        opened(browser, large(tmp_path, 1, 8))
        assert browser.find_element("css selector", ".square td.g").text == "−"
        assert "beyond chance" in browser.find_element("css selector", ".square h4").text
        assert not browser.find_elements("css selector", ".square .tools:not([hidden])")
    finally:
        browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
