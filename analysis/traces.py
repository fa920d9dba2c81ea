"""SGLD traces of a run at an early, a middle and a late checkpoint, burn-in shaded, as PNG and SVG.

python analysis/traces.py runs/baseline
"""

import argparse
from pathlib import Path

from devsort.charts import traces
from devsort.sorting.run import open_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    arguments = parser.parse_args()
    print("\n".join(str(path) for path in traces.draw(open_run(arguments.run))))


if __name__ == "__main__":
    main()
