"""Is a stack worse than a member of it? All combinations of trained models.

Reads what the newest model of each family below a pair's folder said, such as
`outputs/models/DEMOUSDT`, weighs each combination on validation as a stack does, and
holds it against two members on test: the one that validation would have chosen, and
the best on test, which is known only afterwards. t of the second: mean difference over
pieces of a window and a label.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from common import show

from artifacts.artifact import load_artifact
from evaluation.policies import probabilities_of
from models.stacking import row_losses, weigh

PARTS = ("validation", "test")


def newest(folder):
    """Returns family -> predictions of its newest model, and bars of a piece."""
    found, pieces = {}, set()
    for family in sorted(folder.iterdir()):
        runs = [path for path in family.iterdir() if not path.is_symlink()]
        artifact = load_artifact(max(runs))
        table = artifact.open_table("predictions")
        wanted = [name for name in table.names if name.startswith("probability_")]
        columns = ["row", "part", "label", *wanted]
        found[family.name] = pd.DataFrame(
            {name: table.read(name).to_pandas() for name in columns}
        )
        config = artifact.metadata["config"]
        pieces.add(config["sequence_length"] + config["future_window"])
    return found, max(pieces)


def compare(members, rule, piece):
    """Returns log-loss skill of a stack less those of two members, and t."""
    common = set.intersection(*(set(each["row"]) for each in members))
    members = [each[each["row"].isin(common)] for each in members]
    said, truth = {}, {}
    for part in PARTS:
        rows = [each[each["part"] == part] for each in members]
        said[part] = [probabilities_of(each) for each in rows]
        truth[part] = rows[0]["label"].to_numpy()
    rows = members[0].loc[members[0]["part"] == "validation", "row"].to_numpy()
    found = weigh(
        said["validation"], truth["validation"], rows, rule=rule, purge_bars=piece
    )
    prior = np.bincount(truth["validation"], minlength=3) / len(rows)
    reference = row_losses(truth["test"], np.tile(prior, (len(truth["test"]), 1)))
    losses = np.array([row_losses(truth["test"], each) for each in said["test"]])
    chosen = np.argmin(
        [row_losses(truth["validation"], each).mean() for each in said["validation"]]
    )
    best = losses.mean(axis=1).argmin()
    own = row_losses(truth["test"], found.pool.answer(said["test"]))
    apart = own - losses[best]
    whole = apart[: len(apart) // piece * piece].reshape(-1, piece).mean(axis=1)
    error = whole.std(ddof=1) / np.sqrt(len(whole))
    gains = [(losses[k] - own).mean() / reference.mean() for k in (chosen, best)]
    return *gains, whole.mean() / error if error > 0 else 0.0


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folders", nargs="+", type=Path, metavar="PAIR_FOLDER")
    options.add_argument(
        "--rule", default="convex", choices=["convex", "equal", "greedy"]
    )
    options.add_argument("--json", type=Path)
    arguments = options.parse_args()
    rows, figures = [], {}
    for folder in arguments.folders:
        members, piece = newest(folder)
        found = []
        for count in range(2, len(members) + 1):
            for names in itertools.combinations(members, count):
                each = compare([members[k] for k in names], arguments.rule, piece)
                found.append(each)
                figures[f"{folder}: {' + '.join(names)}"] = list(map(float, each))
        table = np.array(found)
        below = table[:, 1] < -0.005
        rows.append(
            [
                str(folder),
                str(len(table)),
                *(
                    ", ".join(f"{x:+.3f}" for x in np.quantile(each, (0, 0.5, 1)))
                    for each in table[:, :2].T
                ),
                f"{(table[:, 0] < -0.005).sum()}",
                f"{below.sum()}, {(below & (table[:, 2] > 2)).sum()} with t > 2",
            ]
        )
    columns = [
        "members of",
        "combinations",
        "against the one of validation: worst, median, best",
        "against the best on test",
        "below -0.005",
        "of the second",
    ]
    show("A stack and its members", columns, rows, figures, arguments.json)


if __name__ == "__main__":
    main()
