"""The command lines as a process runs them, with what their last lines hand in."""

import dataset_builder
import trainer


def train(words):
    from experiments.comparison import run_command

    return trainer.main(words, compare=run_command)


def build(words):
    from reports.dataset import describe_file

    return dataset_builder.main(words, describe=describe_file)
