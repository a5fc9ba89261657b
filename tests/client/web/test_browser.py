"""The page in a real browser, on a live server whose two versions answer differently: `stable` is 1, `canary` is 2.

The class of an image is its first pixel (tests/support/classifiers.py); version 2 takes 8 for 9 and 9 for 8.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from fashion_common.served_model import CLASS_NAMES
from serving.apis import CONFIG_DIR
from tests.support.browser import Browser, axe_source, running_browser
from tests.support.console import FASHION
from tests.support.live import KITCHEN, Server, free_port, running
from tests.support.page import picture

PHONE = (400, 850)
BOTH = [["2", "AVAILABLE", "canary"], ["1", "AVAILABLE", "stable"]]
README_PICTURE = Path(__file__).parents[3] / "docs" / "web.webp"
_MODEL = """config {{
  name: '{name}' base_path: '{base_path}' model_platform: 'tensorflow'
  model_version_policy {{ specific {{ versions: 1 versions: 2 }} }}
  version_labels {{ key: 'stable' value: 1 }} version_labels {{ key: 'canary' value: {canary} }}
}}
"""


class Shop(NamedTuple):
    """A server that can be started anew on the same ports, and the page that shows it."""

    config: Path
    base_path: Path
    ports: tuple[int, int]
    page: str

    def label(self, canary: int) -> None:
        """Writes the server's configuration, which it looks at five times a second."""
        garments = _MODEL.format(name="fashion_mnist", base_path=self.base_path, canary=canary)
        kitchen = _MODEL.format(name="kitchen", base_path=KITCHEN, canary=2)
        self.config.write_text(f"model_config_list {{ {garments} {kitchen} }}")

    @contextmanager
    def server(self) -> Iterator[Server]:
        """The server."""
        grpc, rest = self.ports
        flags = [
            f"--model_config_file={self.config}",
            f"--monitoring_config_file={CONFIG_DIR / 'monitoring.config'}",
            "--allow_version_labels_for_unavailable_models",
            "--model_config_file_poll_wait_seconds=0.2",
        ]
        with running(*flags, f"--port={grpc}", f"--rest_api_port={rest}") as made:
            yield made
            made.process.terminate()
            made.process.wait()


@contextmanager
def web(*arguments: object) -> Iterator[str]:
    """`fashion web`, by the address that it prints."""
    command = [FASHION, "web", "--no-open", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().removeprefix("Page").strip()
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One for all tests; each opens the page anew."""
    with running_browser(tmp_path_factory.mktemp("downloads")) as made:
        yield made


@pytest.fixture(scope="module")
def running_shop(
    browser: Browser, classifiers: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Shop, ExitStack]]:
    """The server and its page. The stack holds the server."""
    ports = (free_port(), free_port())
    with ExitStack() as servers, web("--port", 0, "--server", f"http://127.0.0.1:{ports[1]}") as address:
        shop = Shop(tmp_path_factory.mktemp("shop") / "models.config", classifiers, ports, address)
        shop.label(2)
        servers.enter_context(shop.server())
        yield shop, servers


@pytest.fixture
def shop(running_shop: tuple[Shop, ExitStack], browser: Browser) -> Iterator[Shop]:
    """The shop, its page open; nothing may be complained of in the browser's console in the end."""
    browser.open(running_shop[0].page)
    browser.complaints()
    yield running_shop[0]
    assert browser.complaints() == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """axe-core."""
    return axe_source(tmp_path_factory.mktemp("axe"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A picture of each class."""
    directory = tmp_path_factory.mktemp("pictures")
    paths = {class_id: directory / f"{class_id}.png" for class_id in range(10)}
    for class_id, path in paths.items():
        path.write_bytes(picture(class_id))
    return paths


def _versions(browser: Browser) -> list[list[str]]:
    """Each version with its state and its label."""
    return [row.split()[:3] for row in browser.texts("#versions tr")]


def _answers(browser: Browser) -> list[str]:
    """The class name and the share that each version gives."""
    return [text.replace("\n", " ") for text in browser.texts("#answers .class")]


def _wait_for_answers(browser: Browser, *answers: str) -> None:
    browser.wait(lambda: _answers(browser) == list(answers), f"the answers {answers}")


def test_a_chosen_picture_is_shown_beside_what_the_model_saw_and_ten_bars(
    shop: Shop, browser: Browser, files: dict[int, Path]
) -> None:
    """The two labels side by side, each with its version and its time; the classes that agree are not marked."""
    browser.choose(files[2])
    _wait_for_answers(browser, "Pullover 91.0 %", "Pullover 91.0 %")
    assert browser.text("#result-name") == "2.png"
    assert browser.text("#verdict") == "Both say Pullover. No probability differs by more than half a point."
    sizes = "const image = arguments[0]; return [image.naturalWidth, image.naturalHeight, image.width > 150]"
    images = browser.all("#pictures img")
    browser.wait(lambda: [browser.script(sizes, image) for image in images] == 2 * [[28, 28, True]], "both pictures")
    by = browser.texts("#answers .by")
    assert re.fullmatch(r"stable\nversion 1 · \d+(\.\d)? ms", by[0])
    assert re.fullmatch(r"canary\nversion 2 · \d+(\.\d)? ms", by[1])
    rows = browser.texts("#answers article:first-child .bars li")
    assert [row.split("\n")[0] for row in rows] == list(CLASS_NAMES)
    assert rows[2] == "Pullover\n91.0 %"
    widths = "return [...document.querySelectorAll('.bars i')].map((bar) => bar.style.width)"
    assert browser.script(widths)[:3] == ["1%", "1%", "91%"]
    assert not any(browser.texts(".delta"))


def test_versions_that_differ_are_marked(shop: Shop, browser: Browser, files: dict[int, Path]) -> None:
    """A line says so, and each class has by how much."""
    browser.choose(files[8])
    _wait_for_answers(browser, "Bag 91.0 %", "Ankle boot 91.0 %")
    assert browser.text("#verdict") == "They differ: stable says Bag, canary says Ankle boot."
    assert "warn" in browser.one("#verdict").get_attribute("class").split()  # type: ignore[union-attr]
    assert browser.texts("#answers article:last-child .delta") == ["\u221290.0", "+90.0"]
    assert "Bag, 91.0 %, by version 1. Ankle boot, 91.0 %, by version 2" in browser.script(
        "return document.getElementById('said').textContent"
    )


def test_each_sample_is_asked_about(shop: Shop, browser: Browser) -> None:
    """Ten, one a class; each is prepared as a photograph: light on black."""
    names = [str(image.get_attribute("alt")) for image in browser.all("#samples img")]
    assert names == list(CLASS_NAMES)
    for number, name in enumerate(names, 1):
        browser.click(f"#samples li:nth-child({number}) button")
        file = re.sub(r"\W", "-", name.lower())
        browser.wait_for_text("#snippet-text", f"fashion predict {file}.png")
        assert browser.text("#warning") == "", name
        assert len(_answers(browser)) == 2


def test_many_files_are_a_grid_and_a_wrong_one_stops_no_other(
    shop: Shop, browser: Browser, files: dict[int, Path], tmp_path: Path
) -> None:
    """A tile each, with the answers where they differ; a click shows one whole."""
    wrong = tmp_path / "wrong.txt"
    wrong.write_text("no picture")
    browser.choose(files[1], files[9], wrong)
    tile = "#grid li:nth-child({}) button"
    browser.wait(lambda: "…" not in browser.text("#grid"), "all answers")
    assert [text.split("\n") for text in browser.texts("#grid button")] == [
        ["Trouser", "91.0 %", "1.png"],
        ["Ankle boot / Bag", "91.0 %", "9.png"],
        ["not read", "wrong.txt: not a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, ...)", "wrong.txt"],
    ]
    assert _answers(browser) == ["Trouser 91.0 %", "Trouser 91.0 %"]
    browser.click(tile.format(2))
    assert _answers(browser) == ["Ankle boot 91.0 %", "Bag 91.0 %"]
    assert browser.one(tile.format(2)).get_attribute("aria-pressed") == "true"
    browser.click(tile.format(3))
    assert browser.text("#failure") == "wrong.txt: not a picture (PNG, JPEG, GIF, BMP, TIFF, WebP, ...)"
    assert (browser.text("#answer"), browser.text("#again")) == ("", "")
    browser.choose(files[3])
    _wait_for_answers(browser, "Dress 91.0 %", "Dress 91.0 %")
    assert browser.text("#grid") == ""
    [complaint] = browser.complaints()
    assert "422" in complaint


@pytest.mark.parametrize("event", ["drop", "paste"])
def test_pictures_are_dropped_and_pasted(shop: Shop, browser: Browser, files: dict[int, Path], event: str) -> None:
    """Anywhere on the page."""
    script = """
    const [name, bytes] = arguments;
    const data = new DataTransfer();
    data.items.add(new File([new Uint8Array(bytes)], "given.png", { type: "image/png" }));
    const event = name === "drop" ? new DragEvent(name, { dataTransfer: data, bubbles: true, cancelable: true })
      : new ClipboardEvent(name, { clipboardData: data, bubbles: true });
    document.querySelector("footer, main").dispatchEvent(event);
    return event.defaultPrevented;
    """
    prevented = browser.script(script, event, list(files[5].read_bytes()))
    # The browser would show a dropped file in place of the page.
    assert prevented is (event == "drop")
    _wait_for_answers(browser, "Sandal 91.0 %", "Sandal 91.0 %")
    assert browser.text("#result-name") == "given.png"


def test_a_telephone_photographs(shop: Shop, browser: Browser, files: dict[int, Path]) -> None:
    """A second input asks for the camera; the browser turns it into one file. Its button is for touch screens."""
    assert browser.one("#camera").get_attribute("capture") == "environment"
    assert not browser.one("label[for=camera]").is_displayed()
    browser.choose(files[7], selector="#camera")
    _wait_for_answers(browser, "Sneaker 91.0 %", "Sneaker 91.0 %")
    assert browser.text("#result-name") == "7.png"


def test_an_implausible_picture_is_warned_of(shop: Shop, browser: Browser, tmp_path: Path) -> None:
    """As by `fashion predict`; the preparation changes what is said."""
    blank = tmp_path / "blank.png"
    Image.new("RGB", (60, 60), "black").save(blank)
    browser.choose(blank)
    browser.wait_for_text("#warning", "hardly anything differs from the background")
    browser.click("#preprocess option[value=none]")
    browser.choose(blank)
    browser.wait_for_text("#warning", "hardly any contrast: there is no garment to see")
    assert "--preprocess none" in browser.text("#snippet-text")


def _drawn(browser: Browser) -> int:
    """The number of light pixels on the canvas."""
    return int(
        browser.script(
            "const c = document.getElementById('canvas');"
            "const data = c.getContext('2d').getImageData(0, 0, 28, 28).data;"
            "return data.filter((value, index) => index % 4 === 0 && value > 127).length"
        )
    )


def test_a_drawing_is_answered_while_it_is_drawn(shop: Shop, browser: Browser) -> None:
    """With a pointer and three brushes, an eraser, and a clear canvas."""
    browser.click("#tab-draw")
    assert (browser.text("#samples"), browser.one("#panel-picture").is_displayed()) == ("", False)
    canvas = browser.one("#canvas")
    counts: list[int] = []
    for brush in (1, 2, 3):
        browser.click(f"#brushes label:nth-of-type({brush})")
        ActionChains(browser.driver, duration=20).move_to_element_with_offset(
            canvas, -60, 60 * brush - 120
        ).click_and_hold().move_by_offset(120, 0).release().perform()
        counts.append(_drawn(browser) - sum(counts))
    assert 0 < counts[0] < counts[1] < counts[2]
    _wait_for_answers(browser, "T-shirt/top 91.0 %", "T-shirt/top 91.0 %")
    assert browser.text("#result-name") == "drawing.png"
    browser.click("#brushes label:nth-of-type(4)")
    before = _drawn(browser)
    ActionChains(browser.driver, duration=20).move_to_element(canvas).click_and_hold().move_by_offset(
        60, 60
    ).release().perform()
    assert 0 < _drawn(browser) < before
    browser.click("#clear")
    assert _drawn(browser) == 0


def test_the_keyboard_is_enough(shop: Shop, browser: Browser) -> None:
    """Samples by Enter, tabs by the arrow keys, drawing by the arrow keys and the space bar; the focus is seen."""
    browser.one("#samples button").send_keys(Keys.ENTER)
    browser.wait_for_text("#result-name", "t-shirt-top.png")
    browser.one("#tab-picture").send_keys(Keys.ARROW_RIGHT)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "tab-draw"
    canvas = browser.one("#canvas")
    canvas.send_keys(Keys.SPACE)
    dot = _drawn(browser)
    canvas.send_keys(Keys.SHIFT + Keys.ARROW_DOWN * 6)
    assert 0 < dot < _drawn(browser)
    outline = browser.script("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    browser.wait_for_text("#result-name", "drawing.png")


def test_the_question_can_be_copied_and_what_the_model_saw_saved(
    shop: Shop, browser: Browser, files: dict[int, Path]
) -> None:
    """Four tabs; the clipboard has what the tab shows."""
    browser.choose(files[4])
    _wait_for_answers(browser, "Coat 91.0 %", "Coat 91.0 %")
    assert browser.texts("#snippet-tabs button") == ["fashion predict", "Python", "curl", "Answer"]
    permissions = {"permissions": ["clipboardReadWrite"], "origin": shop.page.rstrip("/")}
    browser.driver.execute_cdp_cmd("Browser.grantPermissions", permissions)
    for number, begin in enumerate(("fashion predict 4.png", "from client import", "curl http://", "{"), 1):
        browser.click(f"#snippet-tabs button:nth-child({number})")
        shown = str(browser.script("return document.getElementById('snippet-text').textContent"))
        assert shown.startswith(begin)
        browser.click("#copy")
        browser.wait_for_text("#copy", "Copied")
        clipboard = browser.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
        assert clipboard == shown
        browser.script("document.getElementById('copy').textContent = 'Copy'")
    browser.click("#save")
    saved = browser.downloads / "4.png"
    browser.wait(saved.is_file, "the download")
    # What the model saw is what any command answers alike.
    with Image.open(saved) as image, Image.open(files[4]) as given:
        assert (image.mode, image.tobytes()) == ("L", given.tobytes())


def test_another_model_is_asked_by_a_form(shop: Shop, browser: Browser) -> None:
    """Made from its signatures; a field that is no JSON is marked, an error of the model's is said."""
    with web("--port", 0, "--server", f"http://127.0.0.1:{shop.ports[1]}", "--model-name", "kitchen") as address:
        browser.open(address)
        browser.wait_for_text("#ask-title", "Ask the model")
        assert (browser.text("#samples"), browser.text("#ask .tabs")) == ("", "")
        assert browser.texts("#fields label") == ["x float32 [N]"]
        browser.click("#form button")
        browser.wait_for_text("#verdict", "They differ in y.")
        assert browser.texts("#outputs .output") == ["y float32 [1]", "y float32 [1] differs"]
        assert browser.texts("#outputs pre") == ["[2.32]", "[3.32]"]
        assert browser.texts("#snippet-tabs button") == ["fashion call", "Python", "curl"]
        browser.click("#signature option[value=two_in_two_out]")
        assert browser.texts("#fields label") == ["matrix float32 [N, 2, 3]", "offset int64 [N]"]
        offset = browser.one("#field-1")
        offset.clear()
        offset.send_keys("[9007199254740993")
        browser.click("#form button")
        assert browser.text("#wrong-1").startswith("no JSON: ")
        assert browser.driver.switch_to.active_element == offset
        offset.send_keys("]")
        browser.click("#form button")
        browser.wait_for_text("#snippet-text", "'offset=[9007199254740993]'")
        offset.clear()
        offset.send_keys('["a"]')
        browser.click("#form button")
        browser.wait_for_text("#failure", "`offset` takes int64 [N], got ")
        assert (browser.text("#outputs"), browser.text("#again")) == ("", "")
        browser.complaints()
        browser.open(shop.page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_form_is_usable_by_everybody(shop: Shop, browser: Browser, axe: str, scheme: str) -> None:
    """As the rest of the page, with answers that differ and a field that is wrong."""
    with web("--port", 0, "--server", f"http://127.0.0.1:{shop.ports[1]}", "--model-name", "kitchen") as address:
        browser.open(address, size=PHONE, prefers_color_scheme=scheme)
        browser.wait_for_text("#ask-title", "Ask the model")
        browser.click("#form button")
        browser.wait_for_text("#verdict", "They differ in y.")
        browser.one("#field-0").send_keys("[")
        browser.click("#form button")
        browser.wait_for_text("#wrong-0", "no JSON")
        assert browser.violations(axe) == []
        assert browser.script("return document.documentElement.scrollWidth - innerWidth") == 0
        browser.open(shop.page)


def test_the_server_is_shown_as_it_is(shop: Shop, browser: Browser, files: dict[int, Path]) -> None:
    """Versions, states, labels; requests and latency; a label that moves is told."""
    assert _versions(browser) == BOTH
    browser.choose(files[0])
    browser.wait(lambda: re.search(r"requests/s\n\d", browser.text("#figures")), "a rate")
    browser.wait(lambda: re.search(r"p50\n\d+(\.\d)? ms", browser.text("#figures")), "a latency")
    browser.wait(lambda: browser.one("#rates polyline").get_attribute("points"), "a line")
    shop.label(1)
    browser.wait_for_text("#moves", "canary moved from version 2 to 1")
    browser.choose(files[8])
    _wait_for_answers(browser, "Bag 91.0 %")
    assert browser.texts("#answers .by")[0].startswith("stable\ncanary\nversion 1")
    shop.label(2)
    browser.wait_for_text("#moves", "canary moved from version 1 to 2")


def test_a_server_that_is_gone_is_said_and_comes_back(
    shop: Shop, running_shop: tuple[Shop, ExitStack], browser: Browser, files: dict[int, Path]
) -> None:
    """The page says why, and what is asked meanwhile fails with the same words; it goes on by itself."""
    running_shop[1].close()
    browser.wait_for_text("#trouble", "start it with `fashion serve`")
    assert browser.text("#served-text") == "no answer"
    browser.choose(files[6])
    browser.wait_for_text("#failure", "UNAVAILABLE")
    running_shop[1].enter_context(shop.server())
    # One version answers before the other does.
    browser.wait(lambda: not browser.text("#trouble") and _versions(browser) == BOTH, "both versions")
    browser.choose(files[6])
    _wait_for_answers(browser, "Shirt 91.0 %", "Sneaker 91.0 %")
    assert all("503" in complaint for complaint in browser.complaints())


def test_the_pages_own_program_is_missed(shop: Shop, browser: Browser) -> None:
    """It says what to start; the page goes on when it is back."""
    port = free_port()
    server = f"http://127.0.0.1:{shop.ports[1]}"
    with web("--port", port, "--server", server) as address:
        browser.open(address)
    browser.wait_for_text("#trouble", "start `fashion web` again")
    with web("--port", port, "--server", server):
        browser.wait(lambda: not browser.text("#trouble"), "the page's program")
    browser.open(shop.page)
    browser.complaints()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [(1280, 900), PHONE], ids=["wide", "phone"])
def test_it_is_usable_by_everybody(
    shop: Shop, browser: Browser, axe: str, files: dict[int, Path], tmp_path: Path, scheme: str, size: tuple[int, int]
) -> None:
    """axe-core finds nothing (names, roles, contrast) in light and dark, on a phone and wide; nothing is cut off."""
    wrong = tmp_path / "wrong.txt"
    wrong.touch()
    browser.open(shop.page, size=size, prefers_color_scheme=scheme)
    background = browser.script("return getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 128) is (scheme == "dark")
    assert browser.violations(axe) == []
    browser.choose(files[8])
    _wait_for_answers(browser, "Bag 91.0 %", "Ankle boot 91.0 %")
    assert browser.violations(axe) == []
    assert browser.script("return document.documentElement.scrollWidth - innerWidth") == 0
    browser.choose(*files.values(), wrong)
    browser.wait(lambda: "…" not in browser.text("#grid"), "all answers")
    browser.click("#grid li:last-child button")
    browser.click("#tab-draw")
    assert browser.violations(axe) == []
    assert browser.script("return document.documentElement.scrollWidth - innerWidth") == 0
    browser.complaints()


def test_a_narrow_screen_moves_to_the_answer(shop: Shop, browser: Browser) -> None:
    """It is below what was clicked; who draws stays at the drawing."""
    browser.open(shop.page, size=PHONE)
    top = "return document.getElementById('result').getBoundingClientRect().top"
    assert browser.script(top) > 400
    browser.click("#samples button")
    browser.wait(lambda: browser.script(top) < 100, "the answer")
    browser.click("#tab-draw")
    before = browser.script("arguments[0].scrollIntoView(); return scrollY", browser.one("#canvas"))
    browser.one("#canvas").send_keys(Keys.SPACE)
    browser.wait_for_text("#result-name", "drawing.png")
    assert browser.script("return scrollY") <= before


def test_who_wants_no_motion_sees_none(shop: Shop, browser: Browser, files: dict[int, Path]) -> None:
    """Bars are there at once."""
    for preference, moves in (("reduce", False), ("no-preference", True)):
        browser.open(shop.page, prefers_reduced_motion=preference)
        browser.choose(files[8])
        _wait_for_answers(browser, "Bag 91.0 %", "Ankle boot 91.0 %")
        duration = browser.script("return getComputedStyle(document.querySelector('.bar i')).transitionProperty")
        assert (duration != "none") is moves


def _wait_for_look(browser: Browser) -> None:
    """Waits until the server was looked at once more."""
    points = "return document.querySelector('#rates polyline').getAttribute('points')"
    before = browser.script(points)
    browser.wait(lambda: browser.script(points) != before, "another look")


def test_the_picture_of_readme(browser: Browser, request: pytest.FixtureRequest) -> None:
    """With --web-picture it is made anew, of a real model; what is there is small and of this width."""
    if request.config.getoption("web_picture"):
        address = str(request.config.getoption("server_address") or "").rpartition(",")[2]
        assert address, "--web-picture needs --server-address of a server that serves a trained model"
        with web("--port", 0, "--server", address) as page:
            browser.open(page, size=(1180, 900))
            for sample in (10, 4, 2, 7):
                browser.click(f"#samples li:nth-child({sample}) button")
                _wait_for_look(browser)
            ActionChains(browser.driver).move_to_element(browser.one("h1")).perform()
            browser.script("document.activeElement.blur(); document.getAnimations().forEach((each) => each.finish())")
            browser.picture(README_PICTURE, 1.25)
    with Image.open(README_PICTURE) as image:
        assert image.width == 1475
    assert README_PICTURE.stat().st_size < 150_000
