"""The command lines as a process runs them, with what their last lines hand in."""

import dataset_builder
import trainer


def train(words):
    def compare(parsed, config, train):
        from experiments.comparison import run_command

        run_command(config, parsed.compare, train=train, is_dry_run=parsed.config_test)

    return trainer.main(words, compare=compare)


def build(words):
    from reports.dataset import describe_file

    return dataset_builder.main(words, describe=describe_file)
