"""Photographs the reports of finished runs for the docs:  python docs/screenshots.py RUN... [--out docs]

    python docs/screenshots.py results/default results/published results/my

Of every run the chapter of its first text and the table, at 1280 and at 400 pixels, light and dark; of the first run,
too, what README and docs/pictures.md show of it. Needs the ``browser`` extra and Debian's chromium, both of which
tests/browser.sh installs. Each is a PNG of few colours; what is seen is the page as it opens from disk, offline.
"""

import argparse
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Shot = tuple[int, int, float, str, str]  # width, height, pixels per CSS pixel, colour scheme, selector at the top
SHOTS: dict[str, Shot] = {
    "report-desktop-light": (1280, 1150, 1.0, "light", "#corpus-2"),
    "report-model": (1280, 1000, 1.0, "light", "details.model[open]"),
}
PARTS = {"ladder": "#corpus-1", "table": "#table"}  # of every run
SIZES = {1280: 900, 400: 860}  # width: height
COLOURS = 240  # of a PNG: enough for a page, few enough to stay small
MOST_BYTES = 2_500_000  # of all pictures of a folder, since they are part of the repository


def main() -> None:
    """One PNG for each shot; an error where they are too large together."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folder of a finished run")
    arguments.add_argument("--out", type=Path, default=Path("docs"), help="folder of the pictures")
    args = arguments.parse_args()
    names = [run.name for run in args.runs]
    assert len(set(names)) == len(names), "a picture has the name of its run"
    for path, picture in pictures(args.runs):
        (args.out / path).write_bytes(picture)
    size = sum(path.stat().st_size for path in args.out.glob("report-*.png"))
    assert size <= MOST_BYTES, f"the pictures have {size:,} bytes, more than {MOST_BYTES:,}"


def shots_of(run: Path) -> dict[str, Shot]:
    """Of any run: each part at each width, light and dark."""
    return {
        f"report-{run.name}-{part}-{width}-{scheme}": (width, height, 1.0, scheme, selector)
        for part, selector in PARTS.items()
        for width, height in SIZES.items()
        for scheme in ("light", "dark")
    }


def pictures(runs: list[Path]) -> Iterator[tuple[str, bytes]]:
    """(name of the file, PNG) of every shot."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    try:
        for index, run in enumerate(runs):
            for name, shot in {**({} if index else SHOTS), **shots_of(run)}.items():
                yield f"{name}.png", _few_colours(_taken(driver, run / "report.html", *shot))
    finally:
        driver.quit()


def _taken(driver: Any, page: Path, width: int, height: int, scale: float, colours: str, top: str) -> bytes:
    screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    scheme = {"features": [{"name": "prefers-color-scheme", "value": colours}]}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", scheme)
    driver.get(page.absolute().as_uri())
    driver.execute_script("const models = [...document.querySelectorAll('details.model')]; models.at(-2).open = true")
    driver.execute_script("document.querySelector(arguments[0]).scrollIntoView({behavior: 'instant'})", top)
    time.sleep(0.3)  # seconds, until it is painted
    return bytes(driver.get_screenshot_as_png())


def _few_colours(png: bytes) -> bytes:
    from PIL import Image

    small = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS).save(small, format="png", optimize=True)
    return small.getvalue()


if __name__ == "__main__":
    main()
