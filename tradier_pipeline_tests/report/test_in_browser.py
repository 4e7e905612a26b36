"""The report in a real browser, offline: on a phone and on a desktop, light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tradier_pipeline.core.settings import Settings
from tradier_pipeline.report import index_path, write_reports
from tradier_pipeline_tests.report.conftest import HOSTILE, WITH_GAP
from tradier_pipeline_tests.report.trader import LAST
from tradier_pipeline_tests.support.sampling import sampled

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# contrast as WCAG 2 defines it, of every element that has text of its own; 4.5 is AA, 3 for large text
TOO_FAINT = """() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const luminance = (color) => color.slice(0, 3).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, place) => sum + value * [0.2126, 0.7152, 0.0722][place], 0);
  const behind = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const color = parts(getComputedStyle(one).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const text = [...element.childNodes].filter((node) => node.nodeType === 3 && node.textContent.trim());
    if (!text.length || !element.getClientRects().length) continue;
    const style = getComputedStyle(element);
    const color = parts(element instanceof SVGElement ? style.fill : style.color);
    const [high, low] = [luminance(color), luminance(behind(element))].sort((a, b) => b - a);
    const contrast = (high + 0.05) / (low + 0.05);
    const large = parseFloat(style.fontSize) >= 24;
    if (contrast < (large ? 3 : 4.5)) faint.push(`${contrast.toFixed(2)} ${element.tagName} ${text[0].textContent}`);
  }
  return faint;
}"""
# of each chart: how many marks the one drawing has that is shown, and whether any of its text is cut or too small
DRAWN = """() => [...document.querySelectorAll(".plot")].map((plot) => {
  const shown = [...plot.querySelectorAll("svg")].filter((svg) => svg.getClientRects().length);
  const marks = shown.flatMap((svg) => [...svg.querySelectorAll("[class*=role-mark] path, [class*=role-mark] line")]);
  const sizes = shown.flatMap((svg) => [...svg.querySelectorAll("text")].map((text) =>
    parseFloat(getComputedStyle(text).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width));
  return {shown: shown.length, marks: marks.length, smallest: Math.min(...sizes)};
})"""


# what the page shows cut off, and what lies over something else: texts of different leaves whose boxes meet
CUT = """() => [...document.querySelectorAll("main *, header *")].filter((one) => one.getClientRects().length
  && !one.closest("svg") && getComputedStyle(one).overflowX !== "visible"
  && one.scrollWidth > one.clientWidth + 1).map((one) => `${one.className} ${one.textContent.slice(0, 40)}`)"""
OVERLAPPING = """() => {
  const leaves = [...document.querySelectorAll("main *, header *")].filter((one) => !one.closest("svg, .tip, .plot")
    && [...one.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim()));
  const boxes = leaves.flatMap((one) => [...one.childNodes].filter((node) => node.nodeType === 3
    && node.textContent.trim()).flatMap((node) => {
      const range = document.createRange();
      range.selectNodeContents(node);
      return [...range.getClientRects()].map((box) => ({box, text: node.textContent.trim()}));
    }));
  const over = [];
  boxes.sort((a, b) => a.box.top - b.box.top);
  boxes.forEach((a, place) => {
    for (const b of boxes.slice(place + 1)) {
      if (b.box.top >= a.box.bottom - 3) break;
      const wide = Math.min(a.box.right, b.box.right) - Math.max(a.box.left, b.box.left);
      const high = Math.min(a.box.bottom, b.box.bottom) - b.box.top;
      if (wide > 2 && high > 5) over.push(`${a.text} / ${b.text}`);
    }
  });
  return over;
}"""


PAGES = ("account", "day", "other day", "index")


@pytest.fixture(scope="module")
def reports(history: Path, seven_weeks: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    other = tmp_path_factory.mktemp("reports") / "report.html"
    write_reports(Settings(pipeline_home=history), day=WITH_GAP, output=other)
    settings = Settings(pipeline_home=seven_weeks)
    (of_day,) = write_reports(settings, day=LAST)
    (of_account,) = write_reports(settings)
    return {"account": of_account.path, "day": of_day.path, "other day": other, "index": index_path(settings)}


@pytest.fixture
def report(request: pytest.FixtureRequest, reports: dict[str, Path]) -> Path:
    return reports[request.param]


class Opened:
    """A page that was opened, what it asked for and what it complained about."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.requests: list[str] = []
        self.refused: dict[str, str | None] = {}
        self.problems: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("requestfailed", lambda request: self.refused.update({request.url: request.failure}))
        page.on("console", lambda message: self.problems.append(message.text))
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("dialog", lambda dialog: self.problems.append(dialog.message))


@pytest.fixture
def opened(browser: Browser, width: int, scheme: Any) -> Iterator[Opened]:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
    yield Opened(context.new_page())
    context.close()


@sampled(
    "report, width, scheme",
    [(page, width, scheme) for page in PAGES for width in (360, 390, 768, 1280) for scheme in ("light", "dark")],
    kept=(0, 7, 8, 16, 24),  # each page at its narrowest, and the longest of their one style at its widest and dark
    indirect=["report"],
)
def test_it_is_whole_and_readable(opened: Opened, report: Path, width: int) -> None:
    page = opened.page
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    assert page.evaluate(CUT) == []
    assert page.evaluate(OVERLAPPING) == []
    assert page.evaluate(TOO_FAINT) == []
    assert opened.requests == [report.as_uri()]
    assert opened.problems == []
    plots = page.evaluate(DRAWN)
    if report.name == "index.html":
        return
    assert plots
    for plot in plots:
        assert plot["shown"] == 1
        assert plot["marks"] > 0
        assert plot["smallest"] >= 9
    chart = page.locator(".plot").first
    place = chart.bounding_box()
    assert place is not None
    chart.hover(position={"x": place["width"] - 20, "y": 60})  # where what it tells has the least room
    reported = chart.locator(".tip")
    assert reported.is_visible()
    assert "$" in reported.inner_text()
    box = reported.bounding_box()
    assert box is not None
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    assert opened.requests == [report.as_uri()]
    assert opened.problems == []


@pytest.mark.parametrize("report", ["account"], indirect=True)  # all have one style
@pytest.mark.parametrize(("width", "scheme"), [(800, "dark")])
def test_on_paper_it_is_light(opened: Opened, report: Path) -> None:
    opened.page.goto(report.as_uri())
    opened.page.emulate_media(media="print", color_scheme="dark")
    assert opened.page.evaluate("getComputedStyle(document.body).color") == "rgb(18, 22, 29)"
    assert not opened.page.locator("nav").is_visible()


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark")])
def test_what_slipped_through_the_escaping_would_not_run(
    opened: Opened, history: Path, tmp_path: Path, width: int
) -> None:
    (report,) = write_reports(Settings(pipeline_home=history), output=tmp_path / "report.html")
    slipped = f"<main>{HOSTILE}<script>alert(2)</script><img src='http://127.0.0.1:9/'>"
    report.path.write_text(report.path.read_text().replace("<main>", slipped, 1))
    opened.page.goto(report.path.as_uri())
    assert [url for url in opened.requests if url not in opened.refused] == [report.path.as_uri()]
    assert set(opened.refused.values()) == {"csp"}
    assert opened.problems
    assert all("Content Security Policy" in problem for problem in opened.problems)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light")])
def test_a_day_of_the_calendar_leads_to_its_report_and_back(opened: Opened, reports: dict[str, Path]) -> None:
    opened.page.goto(reports["index"].as_uri())
    opened.page.locator(".calendar a").last.click()
    assert opened.page.url.endswith(f"/{LAST}.html")
    opened.page.get_by_text("All accounts and days").click()
    assert opened.page.url == reports["index"].as_uri()
    assert opened.problems == []
