"""A headless Chromium for the tests of the page; without one they are skipped."""

import shutil

import pytest

BINARIES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
DRIVERS = ("chromedriver", "chromium.chromedriver")


def first_of(names):
    return next(filter(None, map(shutil.which, names)), None)


def start(width, height, *, dark):
    webdriver = pytest.importorskip(
        "selenium.webdriver", reason="selenium is not installed (the test extra has it)"
    )
    binary, driver = first_of(BINARIES), first_of(DRIVERS)
    if binary is None or driver is None:
        pytest.skip("no Chromium with chromedriver; apt-get install chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=driver)
    )
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    return browser


@pytest.fixture(scope="session")
def browser():
    """A wide, light window that all tests use one after another."""
    browser = start(1280, 900, dark=False)
    yield browser
    browser.quit()


@pytest.fixture
def window():
    """Return a function that opens a window of some size and scheme."""
    opened = []

    def open_window(width, height, *, dark):
        opened.append(start(width, height, dark=dark))
        return opened[-1]

    yield open_window
    for browser in opened:
        browser.quit()


@pytest.fixture
def show(browser, tmp_path):
    """Return a function that opens a page from a file and gives the browser back."""

    def open_page(found, browser=browser):
        browser.get(found.save(tmp_path / "report.html").as_uri())
        return browser

    return open_page
