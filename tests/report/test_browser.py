"""The page in a real browser: its numbers are the library's, and everything answers."""

import jax
import numpy as np
import pytest

import jaxdecode as jd
from jaxdecode.text.playground import KNOBS, PRESETS, values_of
from tests import tiny
from tests.report.cases import HACK, HOSTILE, inspect, language_model
from tests.report.test_inspect import FULL, after_links, rows_of

pytestmark = pytest.mark.browser
STORED = 16
SLOW = sorted(set(PRESETS) - {"Hugging Face"})
CLASSES = {name: kind for name, (kind, *_) in KNOBS.items()}


def run(page, script, *arguments):
    return page.execute_script(f"return {script}", *arguments)


def links_of(settings, order):
    """Return the links of the library that a playground's settings stand for."""
    whole = {"top_k": int}
    return [CLASSES[name](whole.get(name, float)(settings[name])) for name in order]


def probabilities(rows):
    weight = np.exp(rows.astype(np.float64) - rows.max(axis=1, keepdims=True))
    return weight / weight.sum(axis=1, keepdims=True)


def compare(page, found, rows, settings, order):
    """Compare every step; return how many the page calls exact.

    Where a cut falls among the tokens that are not stored the page must say so, and its
    numbers mean little.
    """
    expected = probabilities(after_links(found, links_of(settings, order), rows))
    exact = 0
    for step, wanted in enumerate(expected):
        script = (
            "window.decodingReport.compute(arguments[0], arguments[1], arguments[2])"
        )
        got = run(page, script, step, settings, order)
        if not got["exact"]:
            assert got["notes"]
            continue
        exact += 1
        listed = np.zeros_like(wanted)
        listed[got["ids"]] = got["probs"]
        stored = np.zeros(wanted.shape, bool)
        past = [*found.prompt, *found.tokens[:step]]
        stored[[*found.steps.top_ids[step], *past]] = True
        case = (step, settings, order)
        np.testing.assert_allclose(
            listed[stored], wanted[stored], atol=1e-5, err_msg=str(case)
        )
        assert got["tail"] == pytest.approx(wanted[~stored].sum(), abs=1e-5), case
        positive = wanted[wanted > 0]
        entropy = -np.sum(positive * np.log(positive))
        assert got["entropy"] == pytest.approx(entropy, abs=1e-4), case
        assert got["kept"] == np.sum(wanted > 0), case
    return exact


def random_settings(rng, temperature):
    settings = {name: neutral for name, (_, _, neutral, *_) in KNOBS.items()}
    for name in rng.choice(list(KNOBS), size=rng.integers(1, 6), replace=False):
        own = temperature if name == "temperature" else KNOBS[name][2]
        settings[name] = float(rng.choice(values_of(name, own)))
    if rng.random() < 0.7:  # a playground in which nothing is greedy shows more
        settings["temperature"] = float(rng.choice([0.35, 0.7, 1.0, 1.3, 2.0]))
    return settings


@pytest.fixture
def tailed(monkeypatch):
    return inspect(jd.joint(temperature=0.9), stored=STORED, monkeypatch=monkeypatch)


@pytest.mark.parametrize(
    "preset",
    ["Hugging Face", *(pytest.param(p, marks=pytest.mark.slow) for p in SLOW)],
)
def test_the_page_computes_what_the_library_does(show, tailed, preset):
    page, rng = show(tailed), np.random.default_rng(len(preset))
    rows, exact, count = rows_of(tailed, language_model().model), 0, 10
    for _ in range(count):
        settings = random_settings(rng, 0.9)
        exact += compare(page, tailed, rows, settings, PRESETS[preset])
    assert exact > 0.4 * count * len(tailed.tokens)  # few tokens are stored here


def test_a_page_that_stores_every_token_is_always_exact(show):
    found = inspect(jd.joint(**FULL))
    page, rng = show(found), np.random.default_rng(5)
    rows, order = rows_of(found, language_model().model), PRESETS["jaxdecode"]
    for _ in range(10):
        settings = random_settings(rng, 0.7)
        assert compare(page, found, rows, settings, order) == len(found.tokens)


@pytest.mark.parametrize(("name", "value"), [("top_k", 30), ("top_p", 0.99)])
def test_a_cut_among_tokens_that_are_not_stored_is_owned_up_to(
    show, tailed, name, value
):
    page = show(tailed)
    settings = {knob: neutral for knob, (_, _, neutral, *_) in KNOBS.items()}
    settings[name] = value
    rows = rows_of(tailed, language_model().model)
    kept = after_links(tailed, links_of(settings, [name]), rows) > -np.inf
    for step in range(len(tailed.tokens)):
        past = [*tailed.prompt, *tailed.tokens[:step]]
        tail = np.delete(kept[step], np.unique([*tailed.steps.top_ids[step], *past]))
        script = (
            "window.decodingReport.compute(arguments[0], arguments[1], arguments[2])"
        )
        got = run(page, script, step, settings, [name])
        # The page may be unsure of a tail that is lost or kept whole, never the reverse.
        assert not (got["exact"] and 0 < tail.sum() < tail.size)


def test_the_pages_noise_is_the_librarys_and_draws_the_same_token(show):
    found = inspect(jd.joint(**FULL))
    page = show(found)
    data = "window.decodingReport.data"
    for step, token in enumerate(found.tokens):
        ids = found.steps.ids[step].tolist()
        script = (
            "arguments[1].map(id => window.decodingReport.noiseOf(arguments[0], id))"
        )
        noise = run(page, script, step, ids)
        np.testing.assert_allclose(noise, found.steps.noise[step], atol=2e-5)
        values = f"Object.fromEntries({data}.knobs.map(k => [k.name, k.value]))"
        compute = f"window.decodingReport.compute(arguments[0], {values}, {data}.order)"
        winner = run(
            page, f"window.decodingReport.drawn(arguments[0], {compute})", step
        )
        assert winner == token


def visible(word):
    """Return how the bars write a word: spaces marked, hidden signs by their names."""
    for sign in "\x00\x1b\u202e\u2066\u2028":
        word = word.replace(sign, f"U+{ord(sign):04X}")
    return word.replace(" ", "\u2423").replace("\n", "\u21b5")


def test_hostile_text_is_shown_as_text_and_nothing_of_it_runs(show):
    label = f"\ud800 \u202e {HACK}"
    found = inspect(jd.joint(), what_if={label: jd.joint(temperature=9.0)}, beams=3)
    assert found.steps.top_ids.shape[1] == tiny.VOCAB  # every hostile word is there
    page = show(found)
    bars = "document.getElementById('bars').textContent"
    step = "document.querySelectorAll('#text [data-step]')[arguments[0]].click()"
    seen = "".join(run(page, f"({step}, {bars})", place) for place in range(11))
    assert sum(visible(word) in seen for word in HOSTILE) >= len(HOSTILE) - 1
    shown = run(page, "document.body.innerText.replace(/[\\ud800-\\udfff]/u, 'LONE')")
    assert run(page, "window.hacked") is None
    assert not pieces(page, "img, b, main i:not([class])")
    assert len(pieces(page, "script")) == 2
    assert f"U+D800 U+202E {HACK}" in page.find_element("id", "compare").text
    assert HACK in page.find_element("id", "about").text
    assert not {"\x00", "\x1b", "\u202e", "\u2066"} & set(shown)
    assert "LONE" not in shown
    assert not page.get_log("browser")


def pieces(page, selector):
    return page.find_elements("css selector", selector)


def test_keys_walk_through_the_text_and_the_details_follow(show, tailed):
    from selenium.webdriver.common.keys import Keys

    page = show(tailed)
    title = page.find_element("id", "step-title")
    pieces(page, "#text [data-step]")[0].click()
    assert title.text.startswith("Step 1 of 11")
    for key, step in (
        (Keys.ARROW_RIGHT, 2), (Keys.END, 11), (Keys.ARROW_LEFT, 10), (Keys.HOME, 1),
        (Keys.ARROW_DOWN, 11), (Keys.ARROW_UP, 1),
    ):  # fmt: skip
        page.switch_to.active_element.send_keys(key)
        assert title.text.startswith(f"Step {step} of 11")
        focused = page.switch_to.active_element
        assert focused.get_attribute("data-step") == str(step - 1)
        assert focused.get_attribute("aria-current") == "true"
    assert len(pieces(page, "#text [tabindex='0']")) == 1
    removed = tailed.steps.removed_count.sum()
    assert removed == 0
    assert page.find_element("css selector", ".tokens tr.drawn")


def test_pointing_at_a_token_shows_a_glance_and_leaving_hides_it(show):
    from selenium.webdriver import ActionChains

    page = show(inspect(jd.joint(**FULL)))
    glance = page.find_element("id", "glance")
    assert not glance.is_displayed()
    ActionChains(page).move_to_element(pieces(page, "#text [data-step]")[4]).perform()
    assert glance.is_displayed()
    assert "TopK: 17 tokens" in glance.text
    ActionChains(page).move_to_element(page.find_element("tag name", "h1")).perform()
    assert not glance.is_displayed()


def order_of(page):
    return [row.get_attribute("data-knob") for row in pieces(page, "#knobs li")]


def test_presets_buttons_and_keys_change_the_order_and_the_numbers(show, tailed):
    from selenium.webdriver.common.keys import Keys

    page = show(tailed)
    for name, order in PRESETS.items():
        (button,) = [b for b in pieces(page, "[data-preset]") if b.text == name]
        button.click()
        assert order_of(page) == order
        assert button.get_attribute("aria-pressed") == "true"
    slider = page.find_element("id", "knob-temperature")
    slider.send_keys(Keys.ALT + Keys.ARROW_UP)
    moved = order_of(page)
    assert moved.index("temperature") == len(moved) - 2
    assert not pieces(page, "[data-preset][aria-pressed='true']")
    assert page.switch_to.active_element.get_attribute("id") == "knob-temperature"
    pieces(page, "[data-knob='temperature'] [data-move='1']")[0].click()
    assert order_of(page) == PRESETS["llama.cpp"]


def test_a_link_can_be_dragged(show, tailed):
    from selenium.webdriver import ActionChains

    page = show(tailed)
    grip = page.find_element("css selector", "[data-knob='temperature'] .grip")
    target = page.find_element("css selector", "[data-knob='top_k'] .grip")
    steps = ActionChains(page, duration=60).click_and_hold(grip)
    steps.move_to_element(
        page.find_element("css selector", "[data-knob='min_p'] .grip")
    )
    steps.move_to_element(target).move_by_offset(1, 1).release().perform()
    order = order_of(page)
    assert order.index("temperature") == order.index("top_k") - 1


def test_a_slider_redraws_the_bars_and_reset_puts_everything_back(show, tailed):
    from selenium.webdriver.common.keys import Keys

    page = show(tailed)

    def numbers():
        return [row.text for row in pieces(page, "#bars .number")]

    before = numbers()
    slider = page.find_element("id", "knob-top_k")
    slider.send_keys(Keys.ARROW_RIGHT)
    assert "1 token is left" in page.find_element("id", "summary").text
    for _ in range(2):
        slider.send_keys(Keys.ARROW_RIGHT)
    assert slider.get_attribute("aria-valuetext") == "3"
    after = numbers()
    assert sum(not text.endswith("→ 0") for text in after) == 3
    assert "3 tokens are left" in page.find_element("id", "summary").text
    page.find_element("id", "reset").click()
    assert numbers() == before


def test_the_first_difference_of_a_variant_is_framed(show):
    found = inspect(what_if={"hot": jd.joint(temperature=4.0)})
    (variant,) = found.variants
    first = next(t for t in range(11) if variant.tokens[t] != found.tokens[t])
    page = show(found)
    own, other = pieces(page, "#variants article")
    assert own.get_attribute("data-differs") == "-1"
    assert other.get_attribute("data-differs") == str(first)
    spans = other.find_elements("css selector", ".variant span")
    marked = [i for i, s in enumerate(spans) if "differs" in s.get_attribute("class")]
    assert marked == [first]


def test_hypotheses_can_be_followed_through_the_tree(show):
    found = inspect(beams=3)
    page = show(found)
    beams = found.beams.beams
    for place, button in enumerate(pieces(page, "[data-hypothesis]")):
        button.click()
        path = pieces(page, "#tree g.path")
        assert len(path) == beams.lengths[place]
    assert len(pieces(page, "[data-hypothesis]")) == 3
    assert pieces(page, "#tree g.pruned")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1280, 380])
def test_no_page_is_wider_than_its_window_and_text_has_contrast(
    window, show, tailed, width, dark
):
    page = show(tailed, window(width, 800, dark=dark))
    assert run(page, "document.documentElement.scrollWidth") <= width
    wide = "[...document.querySelectorAll('caption')].map(c => c.offsetWidth)"
    assert width > 520 or max(run(page, wide)) <= width  # read without scrolling
    low = run(page, CONTRAST)
    assert not low, f"contrast below 4.5: {low}"
    page.find_element("id", "theme").click()
    assert not run(page, CONTRAST)


# Every element that has text of its own, with the ratio of its colours (WCAG 2).
CONTRAST = """(() => {
  const options = {willReadFrequently: true};
  const canvas = document.createElement('canvas').getContext('2d', options);
  const rgb = (colour, under) => {
    canvas.fillStyle = under; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = c => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => {
    const s = c[i] / 255;
    return sum + w * (s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4);
  }, 0);
  const behind = e => {
    const own = getComputedStyle(e).backgroundColor;
    if (own !== 'rgba(0, 0, 0, 0)') return own;
    return e.parentElement ? behind(e.parentElement) : 'white';
  };
  const bad = [];
  for (const e of document.querySelectorAll('body *:not(script):not(option)')) {
    if (e.closest('svg, .skip, noscript') || !e.getClientRects().length) continue;
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const back = behind(e);
    const a = light(rgb(getComputedStyle(e).color, back)), b = light(rgb(back, back));
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push([e.className, e.textContent.slice(0, 20), ratio]);
  }
  return bad;
})()"""


def test_a_frame_in_a_notebook_runs_by_itself(browser, tailed, tmp_path):
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><body>{tailed._repr_html_()}")
    browser.get(notebook.as_uri())
    browser.switch_to.frame(0)
    assert browser.find_element("id", "step-title").text.startswith("Step 1 of 11")
    browser.switch_to.default_content()


@pytest.mark.model
@pytest.mark.slow
def test_the_default_model_agrees_too_and_512_tokens_are_small_and_quick(
    browser, tmp_path
):
    lm = jd.load("smollm2-135m")
    sampler = jd.joint(temperature=0.9, top_p=0.95)
    options = {"key": 1, "sampler": sampler, "eos_ids": ()}
    found = lm.inspect("Once upon a time", max_new_tokens=512, **options)
    path = found.save(tmp_path / "long.html")
    assert path.stat().st_size < 2_000_000
    browser.get(path.as_uri())
    timing = "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    assert run(browser, timing) < 3000
    rng, order, exact = np.random.default_rng(0), PRESETS["Hugging Face"], 0
    steps = rng.choice(512, size=12, replace=False)
    for step, row in zip(steps, _logits(lm.model, found, steps), strict=True):
        settings = random_settings(rng, 0.9)
        after = jd.apply(
            jd.chain(*links_of(settings, order)),
            row[None],
            prompts=[list(found.prompt)],
            generated=[list(found.tokens[:step])],
        )
        wanted = probabilities(np.asarray(after))[0]
        script = (
            "window.decodingReport.compute(arguments[0], arguments[1], arguments[2])"
        )
        got = run(browser, script, int(step), settings, order)
        if got["exact"]:
            exact += 1
            near = {"atol": 1e-5, "err_msg": f"{step} {settings}"}
            np.testing.assert_allclose(got["probs"], wanted[got["ids"]], **near)
    assert exact >= 6


def _logits(model, found, steps):
    """Return the logits before some steps of a text, read all at once."""
    text = np.asarray([[*found.prompt, *found.tokens]], np.int32)
    positions = np.arange(text.shape[1], dtype=np.int32)[None]

    @jax.jit
    def read(model):
        cache = model.init_cache(1, text.shape[1])
        return model(text, positions, cache)[0][0, len(found.prompt) - 1 + steps]

    return np.asarray(read(model))


assert tiny.VOCAB > STORED
