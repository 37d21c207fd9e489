"""Words of a command line -> what to do, and the configuration of the run.

In: a flag for each field, options of `trainer.py`, the values of a preset, and of a run
that is resumed by its folder. Out: words that `argparse` would not understand
(`words`), YAML, what overlays what (`sources`), doing it (`trainer`).
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from config import FIELDS, MAX_PROBLEMS, PARTS, Config, field_types
from settings import presets, sources, words
from settings.sources import load_config
from settings.values import is_list, parse_text
from utils import ConfigError

MOST_USED = (
    *("pairs", "timeframes", "models", "targets", "seeds", "configs", "dry_run"),
    *("config", "config_test", "preset", "compare", "resume"),
    *("pair", "timeframe", "training_file", "inputs_dir", "outputs_dir"),
    *("model", "target", "future_window", "long_tp_pct", "long_sl_pct"),
    *("sequence_length", "epochs", "batch_size", "n_splits", "seed"),
)
"""What `--help` shows first."""


_RUN_WORDS = ("resume", "resume_anyway", "register", "alias", "parallel_folds")


def new_parser(
    program: str, description: str, **options: Any
) -> argparse.ArgumentParser:
    """Returns a parser whose `--help` begins with the most used flags."""
    parser = argparse.ArgumentParser(
        prog=program,
        description=description,
        allow_abbrev=False,
        add_help=False,
        **options,
    )
    parser.add_argument("-h", "--help", action=_Help, help="show all, or one section")
    return parser


class _Help(argparse.Action):
    """Shows the most used flags, then all others by section; or one section."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:
        super().__init__(
            option_strings,
            dest,
            nargs="?",
            metavar="SECTION",
            default=argparse.SUPPRESS,
            help=help,
        )

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Prints, and ends the program."""
        formatter, groups = parser._get_formatter(), parser._action_groups
        if values is not None:
            found = [group for group in groups if _is_section(group, values)]
            if not found:
                parser.error(f"{option_string}: expected {_section_words(groups)}")
            _add_section(formatter, found[0].title, found[0]._group_actions)
        else:
            formatter.add_usage(
                parser.usage, parser._actions, parser._mutually_exclusive_groups
            )
            formatter.add_text(parser.description)
            used = [x for name in MOST_USED for x in parser._actions if x.dest == name]
            _add_section(formatter, "most used", used)
            formatter.add_text(f"--help SECTION shows {_section_words(groups)}.")
            for group in groups:
                rest = [x for x in group._group_actions if x not in used]
                _add_section(formatter, group.title, rest)
            formatter.add_text(parser.epilog)
        parser._print_message(formatter.format_help(), sys.stdout)
        parser.exit()


def _add_section(
    formatter: argparse.HelpFormatter, title: str | None, actions: Sequence[Any]
) -> None:
    formatter.start_section(title)
    formatter.add_arguments(actions)
    formatter.end_section()


_SECTIONS = {part.title(): part.word() for part in PARTS}


def _is_section(group: Any, word: str) -> bool:
    """Whether a group is meant by its word, or by one of its flags."""
    asked = word.lower().lstrip("-").replace("-", "_")
    known = _SECTIONS.get(group.title, group.title)
    return asked.rstrip("s") == known.rstrip("s") or any(
        asked == action.dest for action in group._group_actions
    )


def _section_words(groups: Sequence[Any]) -> str:
    words = [_SECTIONS.get(group.title, group.title) for group in groups[1:]]
    return "one of " + ", ".join(words)


def parse(
    arguments: Sequence[str] | None, *, program: str = "trainer.py"
) -> tuple[argparse.Namespace, Config]:
    """Returns the options and the configuration of a command line; see its parts.

    Raises:
        MissingInputError: If there is no run in the folder to resume.
    """
    parsed, config = parse_arguments(
        _parser(program), arguments, base=sources.base_values
    )
    if parsed.compare_configs:
        parsed.compare = _compared(parsed.compare_configs, arguments, program)
    elif parsed.parallel_folds is not None and not config.has_folds:
        raise ConfigError("--parallel-folds: expected folds with it, --n-splits.")
    return parsed, config


def _compared(
    files: Sequence[str], arguments: Sequence[str] | None, program: str
) -> dict[str, Config]:
    """Returns the run of each YAML file, by its name; flags hold for all of them."""
    parsed, fields, _ = parse_fields(_parser(program), arguments)
    below, _ = sources.overlaid(parsed.config, base=sources.base_values(parsed))
    names = [Path(file).stem for file in files]
    names = names if len({*names}) == len(files) else list(files)
    if len({*names}) < len(files):
        raise ConfigError(
            f"--compare-configs: expected each file once. Received: {' '.join(files)}"
        )
    configs, problems = {}, []
    for name, file in zip(names, files, strict=True):
        try:
            own, _ = sources.overlaid(file)
            if own and own.keys() <= fields.keys():
                problems.append(
                    f"{file}: expected a setting that counts. Received: "
                    f"{', '.join(own)}, which flags set for every run. Leave them out."
                )
            configs[name] = load_config(file, fields, base=below)
        except ConfigError as error:
            problems.append(f"{file}: {error}")
    if problems:
        raise ConfigError("\n".join(problems))
    return configs


def _parser(program: str) -> argparse.ArgumentParser:
    parser = new_parser(
        program,
        "Trains a model of SHORT / HOLD / LONG signals.",
        usage=f"{program} [--config FILE.yaml ...] [--FIELD VALUE ...] [--config-test] "
        "[--preset NAME] [--compare MODEL MODEL ...] [--compare-configs FILE FILE ...] "
        "[--audit] [--resume [RUN_DIR]] "
        "[--status [RUN]] [--help [SECTION]]",
    )
    text = "YAML files with the same names as the flags; a later one wins"
    parser.add_argument(
        "--config", nargs="+", action="extend", metavar="FILE", help=text
    )
    parser.add_argument(
        "--config-test",
        action="store_true",
        help="check and print the configuration, train nothing",
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="newest",
        metavar="RUN_DIR",
        help="go on with RUN_DIR, or with the newest unfinished run of this "
        "configuration; start afresh where there is none",
    )
    parser.add_argument(
        "--resume-anyway",
        action="store_true",
        help="resume although data, configuration or environment differ",
    )
    parser.add_argument(
        "--status",
        nargs="?",
        const="latest",
        metavar="RUN",
        help="say how RUN, or the latest run, is doing; ends with 0 where it is "
        "finished, 75 while it goes on, else with the code it ended with",
    )
    _add_audit_arguments(parser)
    parser.add_argument(
        "--preset",
        metavar="NAME",
        help=f"settings under one name, below those of --config and of the flags: "
        f"{', '.join(presets.PRESETS)}",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        metavar="MODEL",
        help="train these models one after another instead of `model`, and compare "
        "them on the same test rows",
    )
    parser.add_argument(
        "--compare-configs",
        nargs="+",
        metavar="FILE",
        help="the same of settings, such as two of one family: YAML files, each over "
        "that of --config and below the flags",
    )
    add_workers_argument(parser, "with --compare: runs side by side")
    parser.add_argument(
        "--parallel-folds",
        type=int,
        metavar="N",
        help="folds side by side, each in a process of its own (default: one after "
        "another)",
    )
    parser.add_argument(
        "--register",
        action="store_true",
        help="register the finished run, under the next version of its kind: "
        "python -m artifacts list",
    )
    parser.add_argument(
        "--alias",
        metavar="NAME",
        help="with --register: also point this alias, such as champion, at it",
    )
    parser.add_argument(
        "--cache",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="no effect: dataset_builder.py has a cache, a run reads its file anew",
    )
    add_config_arguments(parser)
    return parser


def add_workers_argument(parser: argparse.ArgumentParser, text: str) -> None:
    """Adds `--max-workers`, which decides when things are done, and nothing else."""
    parser.add_argument(
        "--max-workers",
        type=int,
        metavar="N",
        help=f"{text}, each in a process of its own with its share of the cores "
        "(default: one after another)",
    )


def _add_audit_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--audit",
        action="store_true",
        help="look for leaks in the training file and its feature functions, train "
        "nothing; ends with 65 where one is found",
    )
    parser.add_argument(
        "--audit-candles",
        nargs="+",
        metavar="FILE",
        help="candles that the file was made from, PAIR=FILE of a context pair: the "
        "audit computes it again",
    )
    parser.add_argument(
        "--audit-features",
        metavar="FILE.py",
        help="Python file that registers feature sets of your own, for the audit; it "
        "is run",
    )
    parser.add_argument(
        "--audit-json",
        metavar="FILE",
        help="write the findings here, too: check, outcome, columns, words; as with "
        "every output, a missing folder is made",
    )
    parser.add_argument(
        "--audit-strict",
        action="store_true",
        help="end with 65 where a check of the audit is doubtful or was not done, too",
    )


def run_words(parsed: argparse.Namespace) -> dict[str, Any]:
    """Returns what `trainer.train_run` is told beside the configuration."""
    return {name: getattr(parsed, name) for name in _RUN_WORDS}


def audit_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """Returns what `audit.run.run_command` is told beside the configuration."""
    return {
        "candles": parsed.audit_candles,
        "feature_file": parsed.audit_features,
        "json_file": parsed.audit_json,
        "is_strict": parsed.audit_strict,
    }


def add_config_arguments(
    parser: argparse.ArgumentParser, names: Sequence[str] | None = None
) -> None:
    """Adds a flag for each field (or each of `names`), in the groups of the parts."""
    for part in PARTS:
        items = dataclasses.fields(part)
        items = tuple(x for x in items if names is None or x.name in names)
        if not items:
            continue
        group, texts = parser.add_argument_group(part.title()), part.documentation()
        for item in items:
            flags = ["--" + item.name.replace("_", "-")]
            flags += item.metadata.get("aliases", ())
            group.add_argument(*flags, **_options(item, texts.get(item.name, "")))


def _options(item: dataclasses.Field[Any], text: str) -> dict[str, Any]:
    """Returns what `add_argument` is told of a field."""
    shown, annotation = item.default, field_types()[item.name]
    if isinstance(shown, tuple):
        shown = " ".join(map(str, shown)) or "none"
    options: dict[str, Any] = {
        "dest": item.name,
        "default": argparse.SUPPRESS,
        "help": f"{text} (default: {shown})".replace("%", "%%"),
    }
    if annotation is bool:
        return options | {"action": argparse.BooleanOptionalAction}
    options["metavar"] = item.name.split("_")[-1].upper()
    if is_list(annotation):
        options["nargs"] = "*"
    return options


def parse_arguments(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str] | None,
    *,
    base: Callable[[argparse.Namespace], Mapping[str, Any]] | None = None,
) -> tuple[argparse.Namespace, Config]:
    """Parses a command line made with `add_config_arguments`; returns it and its run.

    `base` gives values that YAML and command line overlay.

    Raises:
        ConfigError: Listing unknown flags and impossible values together.
    """
    parsed, overrides, unknown = parse_fields(parser, arguments)
    below = base(parsed) if base is not None else {}
    file = getattr(parsed, "config", None)
    return parsed, load_config(file, overrides, base=below, problems=unknown)


def parse_fields(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None
) -> tuple[argparse.Namespace, dict[str, Any], list[str]]:
    """Returns a parsed command line, the fields that it sets, and its unknown flags.

    Nothing is checked yet: several runs may have the fields, each with others beside
    them.
    """
    flags = [option for action in parser._actions for option in action.option_strings]
    given = sys.argv[1:] if arguments is None else arguments
    given, more = words.few_unknown(given, flags)
    parsed, rest = parser.parse_known_args(words.arranged(parser._actions, given))
    kinds = field_types()
    overrides = {}
    for name in [name for name in FIELDS if hasattr(parsed, name)]:
        value = getattr(parsed, name)
        if name in words.OF_PATHS:
            value = [path for word in value for path in word.split(",") if path]
        elif isinstance(value, list):
            value = " ".join(value)  # `Config` reads lists in words
        elif isinstance(value, str):
            value = parse_text(value, kinds[name])
        overrides[name] = value
    # A lone negative number is a stray value, a word with a dash a misspelt flag.
    has_flags = any(word.startswith("--") for word in rest)
    rest = [word for word in rest if word.startswith("--") or not has_flags]
    unknown = [
        f"unknown argument {ascii(word):.100}." + words.cure(word[:100], flags)
        for word in rest[:MAX_PROBLEMS]
    ]
    if more := more + len(rest[MAX_PROBLEMS:]):
        unknown.append(f"and {more:,} more unknown argument{'s'[: more - 1]}")
    return parsed, overrides, unknown
