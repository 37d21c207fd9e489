"""Callbacks of one's own: behind those of the run, and of networks alone."""

import pytest

from config import Config
from models.families import create_adapter
from utils import ConfigError


def test_they_stand_behind_those_of_the_run():
    adapter = create_adapter(Config(model="lstm"))
    adapter.callbacks = ["of the run"]
    adapter.watch(["mine"])
    assert adapter.callbacks == ["of the run", "mine"]


def test_a_family_without_epochs_refuses_them():
    adapter = create_adapter(Config(model="logistic"))
    adapter.watch([])
    with pytest.raises(ConfigError, match="'logistic', which has no epochs"):
        adapter.watch(["mine"])
