"""Pictures of the explorer in Chromium, and how fast it is.

    python analysis/explorer_pictures.py explorer.html docs/figures

Prints the size of the file, the time to a page that answers, and the frames a second of the slider.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

WIDTHS = {"": (1440, 1000), "-narrow": (390, 844)}
SHOWN = {
    "explorer": None,
    "explorer-network": "The network alive",
    "explorer-heads": "What the heads move and where they look",
    "explorer-owners": "Who owns which number",
    "explorer-evidence": "Evidence",
}  # picture: the section at its top
FRAMES = """
async () => {
  const { STEPS, setState } = explorer;
  const begun = performance.now();
  for (let i = 0; i < 4 * STEPS.length; i++) {
    setState({ frame: i % STEPS.length });
    await new Promise((drawn) => requestAnimationFrame(drawn));
  }
  return (4000 * STEPS.length) / (performance.now() - begun);
}
"""
FRAME = 12  # position on the slider that is pictured


def main(file: Path, folder: Path) -> None:
    print(f"{file.stat().st_size / 1e6:.1f} MB")
    with sync_playwright() as driver:
        chromium = shutil.which("chromium")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for suffix, (width, height) in WIDTHS.items():
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(file.resolve().as_uri())
            timing = "performance.getEntriesByType('navigation')[0]"
            print(f"{width} px: answers after {page.evaluate(f'{timing}.loadEventEnd'):.0f} ms")
            picture(page, folder, suffix)
        browser.close()


def picture(page: Page, folder: Path, suffix: str) -> None:
    """A picture of each section, and its frames a second."""
    for name, section in SHOWN.items():
        page.evaluate("frame => explorer.setState({ frame })", FRAME)
        if section:
            page.locator(f"section[aria-label='{section}']").evaluate("e => e.scrollIntoView()")
            page.evaluate("scrollBy(0, -80)")
        page.wait_for_timeout(500)
        page.screenshot(path=folder / f"{name}{suffix}.png")
        print(f"  {section or 'top'}: {page.evaluate(FRAMES):.0f} frames a second")
    page.click("#theme")
    page.wait_for_timeout(500)
    page.screenshot(path=folder / f"explorer-dark{suffix}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
