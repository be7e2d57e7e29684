"""Photographs a finished run's report for the docs:  python docs/screenshots.py [results/default] [docs]

Needs the ``browser`` extra and Debian's chromium, both of which tests/browser.sh installs. Desktop and phone, light and
dark, each a PNG of few colours; what is seen is the page as it opens from disk, without network.
"""

import io
import sys
import time
from pathlib import Path
from typing import Any

Shot = tuple[int, int, float, str, str]  # width, height, pixels per CSS pixel, colour scheme, selector at the top
SHOTS: dict[str, Shot] = {
    "report-desktop-light": (1280, 1150, 1.0, "light", "#corpus-2"),
    "report-desktop-dark": (1280, 640, 1.0, "dark", "#corpus-2 p.legend"),
    "report-table": (1280, 860, 1.0, "light", "#table"),
    "report-model": (1280, 1000, 1.0, "light", "details.model[open]"),
    "report-phone-light": (390, 844, 1.5, "light", "#corpus-2 figure"),
    "report-phone-dark": (390, 844, 1.5, "dark", "#table"),
}
COLOURS = 240  # of a PNG: enough for a page, few enough to stay small


def main(results: Path, out: Path) -> None:
    """One PNG for each shot."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        for name, shot in SHOTS.items():
            (out / f"{name}.png").write_bytes(_few_colours(_taken(driver, results / "report.html", *shot)))
    finally:
        driver.quit()


def _taken(driver: Any, page: Path, width: int, height: int, scale: float, colours: str, top: str) -> bytes:
    screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    driver.get(page.absolute().as_uri())
    driver.execute_script(
        "const models = document.querySelectorAll('details.model'); models[models.length - 2].open = true"
    )
    driver.execute_script("document.querySelector(arguments[0]).scrollIntoView({behavior: 'instant'})", top)
    time.sleep(0.3)  # seconds, until it is painted
    return bytes(driver.get_screenshot_as_png())


def _few_colours(png: bytes) -> bytes:
    from PIL import Image

    small = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS).save(small, format="png", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    arguments = [Path(argument) for argument in sys.argv[1:]]
    main(*arguments, *[Path("results/default"), Path("docs")][len(arguments) :])
