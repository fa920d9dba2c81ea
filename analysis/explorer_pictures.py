"""Pictures of the explorer in Chromium, and how fast it is.

    python analysis/explorer_pictures.py explorer.html pictures

docs/figures has two of them.

Prints the size of the file, the page's requests and console messages, the time until the page is
drawn and responds, and the frames per second while the slider moves with a section in view. It also
prints the CPU time per frame, of the page's thread and of all of Chromium, which does not depend on
what else the machine does.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Browser, CDPSession, Page, sync_playwright

WIDTHS = {"": (1440, 1000), "-narrow": (390, 844)}
SHOWN = {
    "explorer": None,
    "explorer-network": "The network of this step",
    "explorer-heads": "What the heads move and where they look",
    "explorer-owners": "Who owns which number",
    "explorer-comparison": "comparison",
    "explorer-evidence": "Evidence",
}  # picture: the section at its top
FRAMES = """
async () => {
  const { STEPS, setState, state } = explorer;
  const { frame } = state;
  const begun = performance.now();
  for (let i = 0; i < 4 * STEPS.length; i++) {
    setState({ frame: i % STEPS.length });
    await new Promise((drawn) => requestAnimationFrame(drawn));
  }
  const taken = performance.now() - begun;
  setState({ frame });
  return { frames: 4 * STEPS.length, rate: (4000 * STEPS.length) / taken };
}
"""
DRAWN = """
async () => {
  for (let i = 0; i < 2; i++) await new Promise((drawn) => requestAnimationFrame(drawn));
  return performance.now();
}
"""
FRAME = 12  # position of the slider in the pictures
REST = 3000  # milliseconds in which the page computes the matrices of all steps ahead


def main(file: Path, folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    print(f"{file.stat().st_size / 1e6:.1f} MB")
    with sync_playwright() as driver:
        chromium = shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for suffix, size in WIDTHS.items():
            for scheme in ("light", "dark"):
                open_page(browser, file, folder, scheme, suffix, size)
        browser.close()


def open_page(
    browser: Browser, file: Path, folder: Path, scheme: str, suffix: str, size: tuple[int, int]
) -> None:
    """Opens the page at a size and in a colour scheme; speed is measured only in the light one."""
    viewport = {"width": size[0], "height": size[1]}
    page = browser.new_page(viewport=viewport, color_scheme=scheme)
    requests, complaints = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.resolve().as_uri())
    print(f"{size[0]} px, {scheme}: drawn and answers after {page.evaluate(DRAWN):.0f} ms")
    pictures(page, folder, suffix if scheme == "light" else f"-dark{suffix}", scheme == "light")
    print(f"  {len(requests) - 1} requests besides the file, complaints: {complaints}")
    page.close()


def pictures(page: Page, folder: Path, suffix: str, timed: bool) -> None:
    """A picture of each section, and its frames per second."""
    ablated = "explorer.RUNS.map(() => [0])"
    page.evaluate(f"explorer.setState({{ frame: {FRAME}, ablated: {ablated} }})")
    page.wait_for_timeout(REST)
    for name, section in SHOWN.items():
        if section:
            page.locator(f"section[aria-label='{section}']").evaluate("e => e.scrollIntoView()")
        page.wait_for_timeout(400)
        page.screenshot(path=folder / f"{name}{suffix}.png")
        if timed:
            print(f"  {section or 'top'}: {speed(page)}")


def speed(page: Page) -> str:
    """Frames per second while the slider moves, and the CPU time per frame."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    before = busy(page, session)
    result = page.evaluate(FRAMES)
    thread, whole = (
        1000 * (after - start) / result["frames"]
        for after, start in zip(busy(page, session), before, strict=True)
    )
    session.detach()
    each = f"CPU time a frame: {thread:.1f} ms of the page's thread, {whole:.1f} of all of Chromium"
    return f"{result['rate']:.0f} frames a second; {each}"


def busy(page: Page, session: CDPSession) -> tuple[float, float]:
    """Seconds of CPU time that the page's thread and all processes of Chromium have taken."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    browser = page.context.browser.new_browser_cdp_session()
    processes = browser.send("SystemInfo.getProcessInfo")["processInfo"]
    browser.detach()
    thread = next(m["value"] for m in metrics if m["name"] == "TaskDuration")
    return thread, sum(process["cpuTime"] for process in processes)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
