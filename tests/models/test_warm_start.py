"""A network that begins with the weights of a published one."""

from types import SimpleNamespace

import numpy as np
import pytest
from world.frames import TINY, make_own_frame
from world.networks import build

from artifacts.artifact import load_artifact
from config import Config
from models.families import load_adapter
from models.parents import begin_with
from trainer import StandaloneTrainer
from utils import ConfigError, DataError


def parent(network, names=("a", "b"), role="init_from"):
    return SimpleNamespace(
        role=role,
        name="outputs/models/it",
        adapter=SimpleNamespace(network=network),
        artifact=SimpleNamespace(metadata={"data": {"feature_names": [*names]}}),
    )


def test_weights_are_those_of_the_named_network():
    first, second = build(seed=1).network, build(seed=2).network
    begin_with([parent(second)], first, ("a", "b"))
    for one, other in zip(first.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(one, other)


def test_another_parent_gives_no_weights():
    first, second = build(seed=1).network, build(seed=2).network
    before = first.get_weights()
    begin_with([parent(second, role="base_model")], first, ("a", "b"))
    assert all(map(np.array_equal, first.get_weights(), before))


def test_other_features_and_sizes_are_refused():
    network, wide = build().network, build(lstm_units=(6,)).network
    for other, names in ((network, ("a", "c")), (wide, ("a", "b"))):
        with pytest.raises(ConfigError, match="of the same features and sizes"):
            begin_with([parent(other)], network, names)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"model": "lightgbm", "init_from": "x"}, "init_from"),
        ({"model": "lstm", "base_model": "x"}, "base_model"),
        ({"model": "cnn", "members": ("x", "y")}, "members"),
        ({"model": "ppo", "rl_model": "x"}, "rl_model"),
        ({"model": "lstm", "init_from": "x", "n_splits": 3}, "init_from"),
    ],
)
def test_a_family_that_does_not_read_it_says_so(fields, name):
    with pytest.raises(ConfigError, match=f"{name}: expected none with"):
        Config(**fields)


def test_a_run_begins_with_the_published_weights(tmp_path):
    frame = make_own_frame(900)
    fields = TINY | {"model": "mlp", "epochs": 1, "outputs_dir": str(tmp_path)}
    fields |= {"report": "light", "baseline_model": False}
    first = StandaloneTrainer(Config(**fields), frame=frame).run_training()
    known = load_adapter(load_artifact(first)).network.get_weights()
    config = Config(**fields | {"init_from": str(first), "seed": 7})
    trainer = StandaloneTrainer(config, frame=frame)
    trainer.initialize_components()
    trainer.load_and_validate_data()
    trainer.create_generators()
    trainer.build_model()
    found = trainer.adapter.model.network.get_weights()
    assert all(map(np.array_equal, found, known))
    assert [parent.role for parent in trainer.adapter.parents] == ["init_from"]
    early = config.replace(validation_split=0.6)  # rows that the first learned from
    loading = StandaloneTrainer(early, frame=frame)
    loading.initialize_components()
    with pytest.raises(DataError):
        loading.load_and_validate_data()
