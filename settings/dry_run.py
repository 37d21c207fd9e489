"""What `--config-test` prints: configuration, files, memory. Trains nothing.

In: the text of a dry run. Out: reading the training file. Imports nothing heavier than
`config` does, so that the answer comes at once.
"""

from __future__ import annotations

from collections.abc import Iterable

import utils
from config import Config
from settings import names as file_names
from settings.sizes import estimate_memory


def describe_configuration(
    config: Config,
    described: tuple[int, int] | tuple[None, None],
    notes: Iterable[str] = (),
) -> str:
    """Returns what a dry run says: configuration, files, memory.

    `described` are rows and features of its file (`dataset.sidecar.described_size`),
    `notes` what is doubtful about it (`dataset.barriers`, `dataset.lengths`).
    """
    path = file_names.find_training_file(config)
    rows, num_features = described
    found = "there" if path else "not there (build it with dataset_builder.py)"
    known = "8 features, a guess: there is no description of the file"
    if rows:
        known = f"{num_features} features and {rows:,} rows"
    return (
        f"{config.to_yaml()}\n"
        f"input:   {path or config.expected_path}\n         {found}\n"
        f"output:  {config.model_dir}\n"
        f"memory:  {_describe_memory(config, num_features, rows)}\n"
        f"         for {known}" + "".join(f"\ndoubtful: {note}" for note in notes)
    )


def _describe_memory(config: Config, num_features: int | None, rows: int | None) -> str:
    memory = estimate_memory(config, num_features or 8, rows or 0)
    shown = {key: utils.format_bytes(size) for key, size in memory.items()}
    array = shown["feature_array"] if rows else "4 bytes a feature and row"
    if "total" not in memory:
        return f"not known for {config.model}, beyond the feature array: {array}"
    return (
        f"{shown['total']} above the imports: parameters {shown['parameters']}, "
        f"activations {shown['activations']}, runtime {shown['runtime']}, feature "
        f"array {array}"
    )
