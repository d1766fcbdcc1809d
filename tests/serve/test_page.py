"""The page in a browser: dropped and chosen images, the keyboard, a narrow window, errors; and nothing from elsewhere.

`VIT_SHOTS=DIR` leaves the screenshots there, to be looked at.
"""
import asyncio
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.serve import browser
from tests.serve.conftest import FakeServed, png, serving

pytestmark = pytest.mark.skipif(browser.CHROMIUM is None, reason="chromium is not installed (apt-get install chromium)")

DONE = "document.querySelectorAll('article ol').length == 2 && document.getElementById('difference').textContent != ''"
BARS = "[...document.querySelectorAll('article:first-child li')].map((one) => one.innerText.split('\\n')[0])"


@pytest.fixture
def shots(tmp_path):
    """Where screenshots go."""
    return Path(os.environ.get("VIT_SHOTS", tmp_path))


def _in_browser(tmp_path, story, **limits):
    """Run a story, a function of the page and the server's client, with two models."""
    async def run():
        with serving(FakeServed(), FakeServed("tf"), **limits) as client:
            async with browser.browser(tmp_path / "profile") as page:
                await story(page, f"http://127.0.0.1:{client.port}/")
                assert page.asked and all(address.startswith((f"http://127.0.0.1:{client.port}/", "data:"))
                                          for address in page.asked)

    asyncio.run(run())


def _file(tmp_path, colour="blue"):
    path = tmp_path / f"{colour}.png"
    path.write_bytes(png(colour, (40, 30)))
    return path


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (360, "dark")])
def test_a_dropped_image_is_shown_with_bars_and_attention(tmp_path, shots, width, scheme):
    async def story(page, address):
        await page.look(address, width, scheme)
        await page.drop(_file(tmp_path))
        await page.until(DONE)
        assert await page.value(BARS) == ["blue", "red", "green"]
        widths = await page.value("[...document.querySelectorAll('.bar')].map((one) => one.offsetWidth)")
        assert widths[0] > widths[1] >= 1 and len(widths) == 6
        titles = await page.value("[...document.querySelectorAll('h2')].map((one) => one.firstChild.textContent)")
        assert titles == ["PyTorch", "TensorFlow"]
        assert await page.value("document.documentElement.scrollWidth <= window.innerWidth")
        pixel = "[...document.querySelector('canvas').getContext('2d').getImageData({}, 20, 1, 1).data]"
        high, low = await page.value(pixel.format(20)), await page.value(pixel.format(428))
        assert sum(high) > sum(low)  # the map is the identity of 2 x 2: most at the upper left
        await page.screenshot(shots / f"page-{width}-{scheme}.png")
        await page.value("document.getElementById('show').click()")
        assert await page.value(pixel.format(428)) == [0, 0, 255, 255]
        background = await page.value("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, background[4:-1].split(","))) < 200) == (scheme == "dark")

    _in_browser(tmp_path, story)
    with Image.open(shots / f"page-{width}-{scheme}.png") as shot:
        assert shot.size[0] == width


def test_all_is_reached_with_the_keyboard(tmp_path, shots):
    async def story(page, address):
        focus = "document.activeElement.id"
        await page.look(address, 700)
        await page.press("Tab", 9)
        assert await page.value(focus) == "file"
        outline = "getComputedStyle(document.querySelector('.drop label')).outlineStyle"
        assert await page.value(outline) == "solid"
        await page.screenshot(shots / "page-focus.png")
        await page.choose(_file(tmp_path))
        await page.until(DONE)
        await page.press("Tab", 9)
        assert await page.value(focus) == "show"
        before = await page.value("document.querySelector('canvas').toDataURL()")
        await page.press(" ", 32)
        assert await page.value("document.querySelector('canvas').toDataURL()") != before

    _in_browser(tmp_path, story)


def test_what_is_refused_is_said_and_the_next_image_works(tmp_path, shots):
    async def story(page, address):
        broken = tmp_path / "broken.png"
        broken.write_bytes(png("red")[:45])
        await page.look(address, 700)
        await page.drop(broken)
        await page.until("document.getElementById('error').textContent.startsWith('the image cannot be read')")
        await page.screenshot(shots / "page-error.png")
        large = tmp_path / "large.png"
        large.write_bytes(b"\0" * 2_000_000)
        await page.drop(large)
        await page.until("document.getElementById('error').textContent.includes('1,000,000 bytes')")
        await page.drop(_file(tmp_path))
        await page.until(DONE)
        assert await page.value("document.getElementById('error').textContent") == ""

    _in_browser(tmp_path, story, max_bytes=1_000_000)
