"""The page in a real browser, headless and without a network: it opens from disk, sorts, filters, and does no harm."""

import json
import urllib.parse
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from comparisons import FAILED, GPT, HOSTILE, ROW, SOURCE, XZ, a_results_folder, large, rendered

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
def page(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A page of two texts with every kind of row."""
    failed = replace(FAILED, corpus="text1", rank=9)
    opened(browser, large(tmp_path_factory.mktemp("page"), 2, 8, failed))
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
    assert urllib.parse.unquote(browser.current_url).endswith("report.html") and len(rows_left(browser)) == 42


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
