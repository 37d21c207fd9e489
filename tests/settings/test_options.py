import argparse
import dataclasses
import re
import subprocess
import sys
import zipfile

import pytest
from world.frames import PROJECT

from audit.__main__ import main as audit_main
from config import Config
from settings import options
from utils import ConfigError, MissingInputError


def make_groups(*names):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    options.add_config_arguments(parser, names or None)
    return {group.title: group._group_actions for group in parser._action_groups[2:]}


def test_every_field_is_a_flag_in_the_group_of_its_part():
    groups = make_groups()
    assert list(groups) == [
        "What is trained, and where its files are",
        "Features",
        "Labels",
        "Rows, parts, scaling and class balance",
        "Network",
        "Trees and linear models",
        "Loss",
        "Training",
        "Evaluation",
        "Stages that build on others",
        "Agents: ppo, sac, td3",
        "Machine and output",
    ]
    shown = [action for actions in groups.values() for action in actions]
    fields = dataclasses.fields(Config)
    assert [action.dest for action in shown] == [item.name for item in fields]
    for action, item in zip(shown, fields, strict=True):
        assert "--" + item.name.replace("_", "-") in action.option_strings
        assert re.match(r"\S.{15,}\. \(default: .+\)$", action.help), action.help


def test_a_field_is_documented_on_one_line_with_its_default():
    groups = make_groups("pair", "future_window", "long_tp_pct", "lstm_units")
    assert [len(actions) for actions in groups.values()] == [1, 2, 1]
    [pair] = groups["What is trained, and where its files are"]
    assert pair.help == (
        "Trading pair, as in the file names: letters, digits and single _ or -; "
        "ETH/USDT and ETH/USDT:USDT are ETH_USDT and ETH_USDT_USDT. (default: BTCUSDT)"
    )
    window, _ = groups["Labels"]
    wanted = ["--future-window", "--horizon", "--target-horizon"]
    assert window.option_strings == wanted
    assert window.help == (
        "Bars after the entry that decide the label: take profit or stop loss may be "
        "hit in them; for the other targets the last one counts. (default: 120)"
    )
    [units] = groups["Network"]
    assert (units.nargs, units.metavar) == ("*", "UNITS")
    assert units.help.endswith("(default: 128 64 32)")


def help_of(capsys, *words):
    with pytest.raises(SystemExit) as ended:
        options.parse(["--help", *words])
    return ended.value.code, capsys.readouterr()


def test_help_begins_with_the_twenty_most_used_flags(capsys):
    code, shown = help_of(capsys)
    first, rest = shown.out.split("--help SECTION shows")
    _, block = first.split("most used:\n")
    assert len(re.findall(r"^  --", block, flags=re.MULTILINE)) == 20
    assert code == 0 and "--epochs EPOCHS" in block and "--epochs EPOCHS" not in rest
    assert len(re.findall(r"^  -", rest, flags=re.MULTILINE)) > 80


@pytest.mark.parametrize("word", ["label", "labels", "tie-policy", "Label"])
def test_help_shows_one_section(capsys, word):
    code, shown = help_of(capsys, word)
    # Python 3.13 writes `--target, --target-type TARGET`.
    assert code == 0 and re.match("Labels:\n  --target( TARGET)?, --t", shown.out)
    assert "--epochs" not in shown.out


def test_help_of_no_section_names_them(capsys):
    code, shown = help_of(capsys, "lables")
    assert code == 2 and "expected one of options, run, feature, label," in shown.err


def test_help_needs_no_source_text(tmp_path):
    archive = tmp_path / "compiled.zip"
    with zipfile.PyZipFile(archive, "w") as file:
        for name in ("config.py", "utils.py", "settings", "files"):
            file.writepy(str(PROJECT / name))
    assert all(name.endswith(".pyc") for name in zipfile.ZipFile(archive).namelist())
    code = (
        f"import sys; sys.path.insert(0, {str(archive)!r})\n"
        "import config; from settings import options\n"
        "assert '.zip' in config.__file__\n"
        "options.parse(['--help'])"
    )
    probe = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert probe.returncode == 0, probe.stderr
    assert "Trees and linear models:" in probe.stdout
    assert "Most epochs; early stopping may end before." in probe.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--resume-anyway", "--resume-anyway: expected --resume with it"),
        ("--alias champion", "--alias: expected --register with it"),
        ("--register --alias v1.0.0", "no version. Received: 'v1.0.0'"),
        ("--register --alias a/b", "no version. Received: 'a/b'"),
        ("--audit --register", "--register: expected no audit"),
        ("--audit --compare lstm gru", "--compare: expected no audit with it"),
        ("--audit-candles x.csv --config-test", "--config-test: expected no audit"),
        ("--audit --resume --resume-anyway", "--resume-anyway: expected no audit"),
    ],
)
def test_an_option_that_nothing_would_read_is_refused(words, message):
    with pytest.raises(ConfigError, match=message):
        options.parse(words.split())


def test_members_are_folders_or_names_with_spaces_or_commas_between(tmp_path):
    folder = tmp_path / "a model"
    folder.mkdir()
    words = ["--model", "stack", "--members", str(folder), "b/c", "lstm_v1.0.0,d/e"]
    _, config = options.parse([*words, "--epochs", "3"])
    assert config.members == (str(folder), "b/c", "lstm_v1.0.0", "d/e")
    assert config.epochs == 3


def test_the_command_of_the_audit_compares_nothing():
    assert audit_main(["--compare", "lstm", "gru"]) == 2


def test_many_unknown_flags_are_few_steps(monkeypatch):
    steps = []
    parse_known = argparse.ArgumentParser.parse_known_args

    def count(parser, words):
        steps.append(len(words))
        return parse_known(parser, words)

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", count)
    with pytest.raises(ConfigError) as caught:
        options.parse([f"--none-{i}" for i in range(12_000)])
    assert str(caught.value).count("unknown argument '--none-") == 10
    assert str(caught.value).endswith("and 11,990 more unknown arguments")
    assert steps == [10]


def test_resume_of_a_folder_that_was_published_means_the_artifact(tmp_path):
    name = "20240101-000000_1m_0123abcd"
    published = tmp_path / "models" / "BTCUSDT" / "lstm" / name
    published.mkdir(parents=True)
    (published / "config.yaml").write_text("epochs: 7\n")
    gone = str(tmp_path / "runs" / name)
    parsed, config = options.parse(["--resume", gone])
    assert (parsed.resume, config.epochs) == (published, 7)
    with pytest.raises(MissingInputError, match="expected the folder of a run"):
        options.parse(["--resume", gone + "x"])


def test_a_word_of_a_search_is_told_where_it_belongs():
    with pytest.raises(ConfigError, match="a search of settings: add --optimize") as no:
        options.parse(["--n-trials", "3"])
    assert "Did you mean" not in str(no.value)
