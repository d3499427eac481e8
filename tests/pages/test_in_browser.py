"""The page of `gradlab explore` in Chromium: used by mouse, keyboard and touch, on screens of every kind."""

from __future__ import annotations

import io
import json
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from gradlab.modes import parse
from gradlab.pages import explore_page
from gradlab.pages.assembling import SOURCES
from tests.pages.test_simulation import FULL, Setting
from tests.pages.tools import CHROMIUM, answers_in_node, chromium, package

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page, Request

if CHROMIUM is None:
    pytest.skip("no Chromium: the pages are not tested in a browser", allow_module_level=True)
from playwright.sync_api import expect

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("browser")]

PATIENCE = 30  # seconds for what happens at once on an idle machine


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture
def opened(browser: Browser, folder: Path) -> Iterator[Callable[..., Page]]:
    """Return a function that opens the page; the test fails on any request, error or message of the page."""
    (folder / "explore.html").write_text(explore_page())
    address = (folder / "explore.html").as_uri()
    faults: list[str] = []
    contexts = []

    def note_request(request: Request) -> None:
        if not request.url.startswith(address):
            faults.append(request.url)

    def open_at(hash_: str = "", width: int = 1280, **options: Any) -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, **({"locale": "en-US"} | options))
        contexts.append(context)
        page = context.new_page()
        page.on("request", note_request)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text))
        page.goto(address + hash_)
        drawn(page)
        return page

    yield open_at
    for context in contexts:
        context.close()
    assert faults == []


def drawn(page: Page) -> None:
    """Wait until a frame has been drawn."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def wait_until(page: Page, selector: str, wanted: str) -> None:
    """Wait until the text of an element begins like this, or is empty if `wanted` is."""
    end = time.monotonic() + PATIENCE
    while not (text(page, selector).startswith(wanted) if wanted else text(page, selector) == ""):
        assert time.monotonic() < end, text(page, selector)
        page.wait_for_timeout(50)


def text(page: Page, selector: str) -> str:
    return page.inner_text(selector)


def hash_of(page: Page, wanted: str) -> str:
    """Return the hash of the URL without its #, once all of it matches a pattern."""
    end = time.monotonic() + PATIENCE
    while not re.fullmatch(wanted, found := str(page.evaluate("location.hash.slice(1)"))):
        assert time.monotonic() < end, found
        page.wait_for_timeout(50)
    return found


def numbers(words: str) -> list[float]:
    return [float(each.replace("−", "-")) for each in re.findall(r"[−\d.]+(?:e[−\d]+)?", words)]


def drag(page: Page, selector: str, right: float, down: float) -> None:
    box = page.locator(selector).bounding_box()
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + right / 2, y + down / 2)
    page.mouse.move(x + right, y + down)
    page.mouse.up()


# Using it


def test_the_page_opens_with_the_forgotten_line(opened: Callable[..., Page]) -> None:
    page = opened()
    assert (page.title(), text(page, "#verdict")) == ("Why zero_grad()?", "The loss rises")
    assert page.locator("#preset-forgotten").get_attribute("aria-pressed") == "true"
    assert text(page, ".line.clear").strip() == "# nothing: .grad stays as it is"
    assert text(page, "#command").startswith("gradlab run --task two_weights -m no_zero_grad --lr 0.02")
    assert hash_of(page, "") == ""


@pytest.mark.parametrize(
    ("preset", "verdict", "mode"),
    [
        ("halving", "The loss falls", "halve_grad"),
        ("accumulate", "The loss falls", "accumulate:4"),
        ("momentum", "The loss falls", "decay:0.9"),
        ("broken", "The loss diverges", "zero_grad"),
        ("edge", "The loss falls", "zero_grad"),
    ],
)
def test_a_preset_is_shown_everywhere(opened: Callable[..., Page], preset: str, verdict: str, mode: str) -> None:
    page = opened()
    page.click(f"#preset-{preset}")
    hash_ = hash_of(page, ".+")
    assert text(page, "#verdict") == verdict
    assert f"-m {mode} " in text(page, "#command")
    assert page.locator("#about-preset").inner_text()
    assert page.locator("#presets [aria-pressed=true]").count() == 1
    assert page.input_value("#keep-number") == str(parse(mode).keep).removesuffix(".0")
    assert text(opened(f"#{hash_}"), "#command") == text(page, "#command")


def test_the_clearing_line_changes_code_and_training(opened: Callable[..., Page]) -> None:
    page = opened()
    for choice, line in (
        ("zero", "optimizer.zero_grad()"),
        ("half", "model.weight.grad /= 2"),
        ("keep", "model.weight.grad *= 0.9"),
        ("nothing", "# nothing: .grad stays as it is"),
    ):
        page.check(f"input[value={choice}]", force=True)
        drawn(page)
        assert text(page, ".line.clear").strip() == line
    page.check("input[value=half]", force=True)
    page.keyboard.press("ArrowDown")  # the focus stays among the choices
    assert page.evaluate("document.activeElement.value") == "keep"


def test_a_slider_changes_the_picture_while_it_moves(opened: Callable[..., Page]) -> None:
    page = opened("#keep=0")
    seen = set()
    box = page.locator("#lr-slider").bounding_box()
    assert box
    page.mouse.move(box["x"] + 10, box["y"] + box["height"] / 2)
    page.mouse.down()
    for nth in range(1, 9):
        page.mouse.move(box["x"] + box["width"] * nth / 8 - 5, box["y"] + box["height"] / 2)
        drawn(page)
        seen.add((text(page, "#verdict"), text(page, "#fact-a"), page.locator("#curve").screenshot()))
    page.mouse.up()
    assert {verdict for verdict, _, _ in seen} >= {"The loss falls", "The loss diverges"}
    assert len({picture for _, _, picture in seen}) == len({a for _, a, _ in seen}) == 8
    assert hash_of(page, r"lr=(1\.[5-9]\d*|2)&keep=0")


def test_a_number_is_typed_clamped_and_read_back(opened: Callable[..., Page]) -> None:
    page = opened()
    for typed, shown in (("0.0333", "0.0333"), ("99", "2"), ("", "2"), ("-1", "0.001")):
        page.fill("#lr-number", typed)
        page.press("#lr-number", "Enter")
        page.locator("#lr-number").blur()
        drawn(page)
        assert page.input_value("#lr-number") == shown
        assert f"--lr {shown} " in text(page, "#command")
    page.fill("#batch-number", "7")
    page.press("#batch-number", "Tab")
    drawn(page)
    assert (page.input_value("#batch-number"), page.input_value("#batch-slider")) == ("8", "3")


def test_the_start_is_dragged_and_moved_by_keys(opened: Callable[..., Page]) -> None:
    page = opened("#keep=0")
    page.fill("#position", "0")
    drawn(page)
    assert text(page, "#read-weights") == "(−1.5, 1.5)"
    drag(page, "#start", 100, 50)
    drawn(page)
    moved = numbers(text(page, "#read-weights"))
    scale = page.evaluate("document.getElementById('surface').clientWidth") / 7
    height = page.evaluate("document.getElementById('surface').clientHeight") / 7
    assert moved == pytest.approx([-1.5 + 100 / min(scale, height), 1.5 - 50 / min(scale, height)], abs=0.03)
    assert page.evaluate("document.activeElement.id") == "start"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    drawn(page)
    assert numbers(text(page, "#read-weights")) == pytest.approx([moved[0] + 0.1, moved[1] - 0.5], abs=0.006)
    assert hash_of(page, ".*w1=.*")
    page.fill("#w2-number", "-2")
    page.press("#w2-number", "Tab")
    drawn(page)
    assert numbers(text(page, "#read-weights")) == [pytest.approx(moved[0] + 0.1, abs=0.006), -2]
    label = page.locator("#start").get_attribute("aria-label")
    assert label
    assert "The arrow keys move it." in label


def test_steps_show_the_numbers_of_gradlab(opened: Callable[..., Page]) -> None:
    page = opened("#every=2&keep=0.5")
    rows = Setting(every=2, keep=0.5).rows
    assert text(page, "#read-loss") == "–"
    page.click("#step")
    drawn(page)
    assert (text(page, "#at"), text(page, "#read-update")) == ("step 0 of 200", "none: window not full")
    page.click("#step")
    drawn(page)
    assert text(page, "#at") == "step 1 of 200"
    assert numbers(text(page, "#read-loss")) == pytest.approx([rows[1].loss], rel=5e-3)
    fresh, grad, update = (numbers(text(page, f"#read-{name}")) for name in ("fresh", "grad", "update"))
    assert update == pytest.approx([-0.02 * each for each in grad], rel=1e-2)
    assert fresh != grad
    page.locator("#position").press("ArrowRight")
    drawn(page)
    assert text(page, "#at") == "step 2 of 200"


def test_hovering_over_the_curve_shows_that_step(opened: Callable[..., Page]) -> None:
    page = opened()
    before = page.locator("#surface").screenshot()
    page.hover("#curve", position={"x": 200, "y": 150})
    drawn(page)
    step = int(numbers(text(page, "#at"))[0])
    assert 40 < step < 160
    assert numbers(text(page, "#read-loss")) == pytest.approx([Setting().rows[step].loss], rel=5e-3)
    assert page.locator("#surface").screenshot() != before
    page.hover("#verdict")
    drawn(page)
    assert text(page, "#at") == "end, 200 steps"
    page.click("#curve", position={"x": 200, "y": 150})
    page.hover("#verdict")
    drawn(page)
    assert text(page, "#at") == f"step {step} of 200"


def test_playing_reaches_the_end_and_can_pause(opened: Callable[..., Page]) -> None:
    page = opened("#steps=50")
    page.click("#play")
    expect(page.locator("#at")).to_have_text(re.compile("^step [1-9]"))
    assert text(page, "#play") == "Pause"
    page.click("#play")
    drawn(page)
    paused = text(page, "#at")
    assert 0 < numbers(paused)[0] < 50
    page.wait_for_timeout(300)
    assert (text(page, "#at"), text(page, "#play")) == (paused, "Play")
    page.click("#play")
    wait_until(page, "#at", "end")
    assert text(page, "#play") == "Play"
    page.click("#play")
    drawn(page)
    page.click("#preset-halving")  # shows its end
    drawn(page)
    assert (text(page, "#at"), text(page, "#play")) == ("end, 200 steps", "Play")


def test_an_overflow_is_named_with_its_step(opened: Callable[..., Page]) -> None:
    page = opened("#lr=2&steps=2000")
    assert re.fullmatch(r"diverged at step \d+", text(page, "#fact-loss"))
    assert text(page, "#verdict") == "The loss diverges"


def test_drawing_again_and_reset_change_what_they_name(opened: Callable[..., Page]) -> None:
    page = opened("#lr=0.05&keep=0.25")
    before = page.locator("#curve").screenshot()
    page.click("#draw-again")
    assert hash_of(page, "lr=0.05&keep=0.25&seed=2")
    assert page.locator("#curve").screenshot() != before
    page.click("#reset")
    assert hash_of(page, "") == ""
    assert page.locator("#preset-forgotten").get_attribute("aria-pressed") == "true"


def test_a_click_on_the_map_sets_lr_and_keep(opened: Callable[..., Page]) -> None:
    page = opened("#batch=16")
    assert text(page, "#map-share") == "It does not diverge here."
    box = page.locator("#map").bounding_box()
    assert box
    page.click("#map", position={"x": box["width"] - 12, "y": box["height"] - 60})
    drawn(page)
    assert float(page.input_value("#lr-number")) > 1.8
    assert 0 < float(page.input_value("#keep-number")) < 0.2
    assert text(page, "#map-share") == "It diverges here."
    page.focus("#map-handle")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowUp")
    drawn(page)
    assert float(page.input_value("#lr-number")) < 1.95
    drag(page, "#map-handle", -150, 0)
    drawn(page)
    assert float(page.input_value("#lr-number")) < 0.5


def test_the_map_of_mini_batches_is_simulated_and_says_so(opened: Callable[..., Page]) -> None:
    page = opened("#lr=1.5")
    wait_until(page, "#map-progress", "")
    assert text(page, "#map-what").startswith("Mini-batches, simulated: share of 20 draws")
    assert text(page, "#map-share") == "20 of 20 draws diverge here."
    page.fill("#lr-number", "0.001")
    page.locator("#lr-number").blur()
    wait_until(page, "#map-share", "0 of 20 draws diverge here.")


def test_the_map_counts_the_draws_at_the_very_setting(opened: Callable[..., Page], folder: Path) -> None:
    setting = Setting(keep=0.97, batch=1, steps=500)  # the nearest row of the map is keep = 1
    draws = [setting._replace(seed=setting.seed + nth) for nth in range(20)]
    counts = [
        sum(answers_in_node([("diverges", each._replace(keep=keep)._asdict()) for each in draws], folder))
        for keep in (0.97, 1)
    ]
    assert counts[0] != counts[1]
    page = opened("#keep=0.97&batch=1&steps=500")
    wait_until(page, "#map-share", f"{counts[0]} of 20")
    wait_until(page, "#map-progress", "")
    expect(page.locator("#map")).to_have_attribute("aria-label", re.compile(f"{counts[0]} of 20 draws diverge"))


def test_the_first_guess_is_the_one_that_counts(opened: Callable[..., Page]) -> None:
    page = opened()
    page.click("#guess-mini-falls")
    page.click("#guess-mini-rises")
    drawn(page)
    assert text(page, "#result-mini").startswith("Not this time. It rises.")
    assert (text(page, "#verdict"), text(page, "#score")) == ("The loss rises", "0 of 1 right")


def test_code_is_selected_where_the_clipboard_is_closed(opened: Callable[..., Page]) -> None:
    page = opened()
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(); }")
    page.click("#copy-code")
    wait_until(page, "#copied", "The text is selected.")
    selected = page.evaluate("getSelection().toString()")
    assert selected.startswith("from itertools import")
    assert selected.rstrip().endswith("losses.append(loss.item())")
    compile(selected, "the page", "exec")


def test_a_guess_is_answered_and_its_setting_shown(opened: Callable[..., Page]) -> None:
    page = opened()
    page.click("#guess-full-falls")
    drawn(page)
    assert text(page, "#result-full").startswith("Not this time. It oscillates forever.")
    assert (text(page, "#verdict"), text(page, "#score")) == ("The loss oscillates", "0 of 1 right")
    page.click("#guess-stable-falls")
    drawn(page)
    assert text(page, "#result-stable").startswith("Right. It falls.")
    assert (text(page, "#verdict"), text(page, "#score")) == ("The loss falls", "1 of 2 right")
    assert hash_of(page, ".*keep=0.9.*")


def test_the_code_and_the_command_are_copied(opened: Callable[..., Page]) -> None:
    page = opened("#keep=0.5", permissions=["clipboard-read", "clipboard-write"])
    page.click("#copy-command")
    drawn(page)
    assert text(page, "#copied") == "Copied"
    assert page.evaluate("navigator.clipboard.readText()") == page.text_content("#command")
    page.click("#copy-code")
    drawn(page)
    lines = page.evaluate("navigator.clipboard.readText()").splitlines()
    assert "    model.weight.grad /= 2" in lines
    compile("\n".join(lines), "the page", "exec")


# The URL


def test_a_link_shows_its_setting_and_survives_nonsense(opened: Callable[..., Page]) -> None:
    page = opened("#lr=1e9&keep=x&batch=5&lang=zz&<script>alert(1)</script>=1&seed=-4")
    assert (page.input_value("#lr-number"), page.input_value("#keep-number")) == ("2", "1")
    page.evaluate("location.hash = 'keep=0&lr=0.3'")
    expect(page.locator("#command")).to_contain_text("-m zero_grad --lr 0.3 ")
    assert text(page, "#verdict") == "The loss diverges"


def test_the_skip_link_keeps_setting_and_language(opened: Callable[..., Page]) -> None:
    page = opened("#lr=0.3&keep=0.5&lang=zh")
    page.focus("#skip")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "pictures"
    assert hash_of(page, "lr=0.3&keep=0.5&lang=zh")
    assert page.input_value("#lr-number") == "0.3"


# Languages


def test_both_languages_are_shown_and_kept_in_the_url(opened: Callable[..., Page]) -> None:
    page = opened(locale="zh-CN")
    assert page.evaluate("document.documentElement.lang") == "zh-Hans"
    assert (page.title(), text(page, "#verdict")) == ("为什么需要 zero_grad()？", "损失上升")
    page.click("#guess-mini-rises")
    page.click("#language")
    drawn(page)
    assert page.evaluate("document.documentElement.lang") == "en"
    assert text(page, "#verdict") == "The loss rises"
    assert text(page, "#result-mini").startswith("Right. It rises.")
    assert hash_of(page, ".*lang=en.*")
    chinese = page.evaluate("document.body.innerText.match(/[\\u4e00-\\u9fff]+/g)")
    assert chinese == ["中文"]


# Everyone


def violations(page: Page) -> list[str]:
    page.evaluate((package("axe-core") / "axe.min.js").read_text())
    found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]


@pytest.mark.parametrize("width", [1280, 360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_axe_finds_nothing(opened: Callable[..., Page], language: str, scheme: str, width: int) -> None:
    page = opened(f"#lang={language}&keep=0.9", width, color_scheme=scheme, bypass_csp=True)
    page.click("#guess-full-rises")
    page.locator("#numbers summary").click()
    drawn(page)
    assert violations(page) == []


def test_axe_finds_a_planted_fault(opened: Callable[..., Page]) -> None:
    page = opened(bypass_csp=True)
    page.evaluate("document.getElementById('play').replaceChildren()")
    assert [each.partition(":")[0] for each in violations(page)] == ["button-name"]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("width", [360, 720, 1100])
def test_nothing_sticks_out_of_narrow_screens(opened: Callable[..., Page], width: int, language: str) -> None:
    page = opened(f"#lang={language}&w1=-2.25&w2=3.33&keep=0.123&noise=1.23&curvature=3.5&every=3", width)
    page.locator("#numbers summary").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    wide = """Array.from(document.querySelectorAll('button, input, canvas, p, li, dd, pre, label'))
      .filter((element) => element.checkVisibility() && element.getBoundingClientRect().right > innerWidth)
      .filter((element) => !element.closest('.hidden, .skip, .scrolls')).map((element) => element.outerHTML)"""
    assert page.evaluate(wide) == []


def test_every_control_is_reached_by_tab(opened: Callable[..., Page]) -> None:
    page = opened()
    reached = []
    for _ in range(70):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.name"))
    wanted = {
        "language",
        "preset-edge",
        "draw-again",
        "clearing",
        "copy-code",
        "lr-slider",
        "lr-number",
        "start",
        "play",
    }
    assert wanted | {"position", "map-handle", "guess-full-falls"} <= set(reached)


def test_screen_readers_hear_the_verdict_once_it_settles(opened: Callable[..., Page]) -> None:
    page = opened()
    assert page.locator("output#summary[aria-live=polite]").count() == 1
    assert (page.text_content("#summary") or "").startswith("The loss rises. Each batch differs")
    click = "document.getElementById('preset-broken').click() ?? document.getElementById('summary').textContent"
    assert page.evaluate(click).startswith("The loss rises.")
    wait_until(page, "#summary", "The loss diverges. lr·λ is 2.16, above the edge")
    assert "diverges" in (page.locator("#curve").get_attribute("aria-label") or "")


def test_a_change_without_a_frame_is_described_rightly(opened: Callable[..., Page]) -> None:
    page = opened()
    page.evaluate("window.requestAnimationFrame = () => 1")  # as in a tab in the background
    page.click("#preset-broken")
    wait_until(page, "#summary", "The loss diverges. lr·λ is 2.16")


def test_the_table_holds_the_numbers_of_gradlab(opened: Callable[..., Page]) -> None:
    page = opened("#keep=0.5&batch=16")
    page.locator("#numbers summary").click()
    drawn(page)
    rows = page.evaluate("[...document.querySelectorAll('#table-body tr')].map((row) => row.innerText.split('\\t'))")
    losses = [row.loss for row in Setting(keep=0.5, batch=FULL).rows]
    assert len(rows) == 20
    assert [int(row[0]) for row in rows] == list(range(0, 200, 10))
    assert [numbers(row[3])[0] for row in rows] == pytest.approx(losses[::10], rel=5e-3)


def test_with_reduced_motion_playing_moves_once_a_second(opened: Callable[..., Page]) -> None:
    page = opened("#steps=100", reduced_motion="reduce")
    page.clock.install()
    page.click("#play")
    page.clock.run_for(900)
    assert text(page, "#at") == "step 0 of 100"
    page.clock.run_for(200)
    assert text(page, "#at") == "step 13 of 100"
    assert page.evaluate("getComputedStyle(document.getElementById('play')).transitionDuration") == "0s"


def has_line(page: Page, colour: str) -> bool:
    """Return whether the loss curve is drawn in this colour."""
    from PIL import Image

    drawn(page)
    image = Image.open(io.BytesIO(page.locator("#curve").screenshot())).convert("RGB")
    counts = {values: count for count, values in image.getcolors(image.width * image.height) or []}
    return counts.get(tuple(bytes.fromhex(colour.removeprefix("#"))), 0) > 50


def test_pictures_follow_dark_mode_and_print_in_light_colours(opened: Callable[..., Page]) -> None:
    light, dark = re.findall(r"--one: (#\w+);", (SOURCES / "shared" / "base.css").read_text())[:2]
    page = opened(color_scheme="light")
    assert (has_line(page, light), has_line(page, dark)) == (True, False)
    page.emulate_media(color_scheme="dark")
    assert (has_line(page, light), has_line(page, dark)) == (False, True)
    page.emulate_media(color_scheme="dark", media="print")
    assert (has_line(page, light), has_line(page, dark)) == (True, False)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    shown = [page.locator(each).is_visible() for each in ("#play", "#language", "#code", "#command")]
    assert shown == [False, False, True, True]


def test_the_page_works_offline_and_stores_nothing(opened: Callable[..., Page]) -> None:
    page = opened(offline=True)
    page.click("#preset-halving")
    drawn(page)
    assert text(page, "#verdict") == "The loss falls"
    assert json.loads(page.evaluate("JSON.stringify({ ...localStorage, cookie: document.cookie })")) == {"cookie": ""}
