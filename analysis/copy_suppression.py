"""What a head's suppression does: loss, accuracy, entropy, confidence and calibration without it.

python analysis/copy_suppression.py runs/baseline --head 1
python analysis/copy_suppression.py --weights FILE --list-length 10 --numbers 51
python analysis/copy_suppression.py --planted
"""

import argparse
from pathlib import Path

from devsort.sorting import planted
from devsort.sorting.charts import reliability
from devsort.sorting.checkpoints import load_checkpoint, trained_steps
from devsort.sorting.config import HeadsConfig, ModelConfig, TaskConfig
from devsort.sorting.heads import analyse
from devsort.sorting.heads.function import head_function
from devsort.sorting.model import infer_shape
from devsort.sorting.run import open_run
from devsort.sorting.task import eval_batch
from devsort.sorting.weight_files import read_network


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--weights", type=Path)
    parser.add_argument(
        "--planted", action="store_true", help="use a hand-written copier and suppressor"
    )
    parser.add_argument(
        "--head", type=int, help="default: the head with the most negative copy effect"
    )
    parser.add_argument("--list-length", type=int, default=10)
    parser.add_argument("--numbers", type=int, default=51)
    parser.add_argument("--lists", type=int, default=4096)
    parser.add_argument("--out", type=Path, default=Path("."))
    arguments = parser.parse_args()
    params, task = network(arguments)
    task = task.model_copy(update={"eval_lists": arguments.lists})
    shape, batch = infer_shape(params, task.list_length, task.numbers), eval_batch(task)
    head = arguments.head
    if head is None:
        effect = analyse(params, shape, batch, HeadsConfig()).tables["copy_effect"]
        head = int(effect.min(-1).argmin())
    result = head_function(params, shape, batch, head)
    columns = {"loss": 9, "accuracy": 10, "entropy": 9, "confidence": 12, "calibration_error": 8}
    titles = {"calibration_error": "ECE"}
    heading = "".join(f"{titles.get(name, name):>{width}}" for name, width in columns.items())
    print(f"{f'head {head}':14}{heading}")
    for row in reliability.values(result):
        figures = "".join(f"{row[name]:{width}.4f}" for name, width in columns.items())
        print(f"{row['condition']:14}{figures}")
    print(f"suppression alone keeps {result.kept:.1%} of the head's effect on the loss")
    print(
        "self-repair through the final scale, logits by head:",
        *(f"{x:+.2f}" for x in result.self_repair),
    )
    print(*reliability.draw(result, arguments.out), sep="\n")


def network(arguments):
    task = TaskConfig(list_length=arguments.list_length, numbers=arguments.numbers)
    if arguments.planted:
        return planted.draw_network("suppression", task, ModelConfig(), seed=0, index=0)[0], task
    if arguments.weights:
        result = read_network(arguments.weights, task)
        print(*result.notes, sep="\n", end="\n" * bool(result.notes))
        return result.params, task
    run = open_run(arguments.run)
    return load_checkpoint(run, trained_steps(run)[-1]), run.config.task


if __name__ == "__main__":
    main()
