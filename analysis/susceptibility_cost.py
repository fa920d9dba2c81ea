"""The cost of the heads' susceptibilities, compared with the LLC of the model and its heads.

python analysis/susceptibility_cost.py runs/baseline --step 825

CPU seconds for one checkpoint at the run's settings, with chains of a fifth of the length.
"""

import argparse
import time
from pathlib import Path

from devsort.execution import unheard
from devsort.llc import settle
from devsort.llc.trajectory import Job
from devsort.sorting.run import open_run
from devsort.sorting.samplers import settings
from devsort.sorting.susceptibility.sampler import ResponseSampler

SHORT = ("llc.sampler.num_draws=40", "llc.sampler.num_burnin_steps=10", "llc.dataset_size=1024")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--step", type=int, required=True)
    args = parser.parse_args()
    settle.ROUNDS = 0  # no additional burn-in
    run, names = open_run(args.run, SHORT), ("full", "h0", "h1")
    cells = {(args.step, name): settings(run) for name in names}
    sampler = ResponseSampler(run, cells)
    sampler.sampler.load((args.step,))
    llc = {name: seconds(sampler.sampler, args.step, name) for name in names}
    chi = {name: seconds(sampler, args.step, name) for name in names[1:]}
    print("LLC", {name: round(s, 2) for name, s in llc.items()})
    print("χ", {name: round(s, 2) for name, s in chi.items()})
    print(f"χ of the heads takes {sum(chi.values()) / sum(llc.values()):.2f} times the LLC")


def seconds(sampler, step, name):
    start = time.process_time()
    sampler(Job((step,), name), unheard)
    return time.process_time() - start


if __name__ == "__main__":
    main()
