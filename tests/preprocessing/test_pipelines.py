"""One pipeline from candles to what a model reads: equal bits, fitted on train."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from world.frames import make_frame
from world.signals import make_candles

from config import Config
from data_loader import TrainingDataLoader
from dataset_builder import build_training_file
from preprocessing import steps
from preprocessing.pipelines import PreprocessingPipeline
from preprocessing.row_kinds import FeatureRows
from preprocessing.scaling import FeatureScaler
from preprocessing.steps import Step, kind_names, register_kind
from preprocessing.templates import pipeline_of, run_pipeline
from utils import ConfigError, DataError, RefusedArtifactError

CONFIG = Config(
    pair="TESTUSDT",
    timeframe="4h",
    feature_sets=("ray12",),
    sequence_length=8,
    future_window=6,
    max_fill_bars=5,
    clip_limit=2.0,
)
CANDLES = make_candles(900, dropped=[*range(500, 510), 700, 701])


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """What a training reads of a file that our builder made of the candles."""
    config = CONFIG.replace(inputs_dir=str(tmp_path_factory.mktemp("inputs")))
    build_training_file(CANDLES, config)
    return TrainingDataLoader(config=config).load_training_data()


@pytest.fixture(scope="module")
def pipeline(data):
    """It, written and read back."""
    values = json.loads(json.dumps(data.pipeline.to_dict()))
    return PreprocessingPipeline.from_dict(values, "a file")


@pytest.fixture
def own_kinds(monkeypatch):
    monkeypatch.setattr(steps, "_KINDS", dict(steps._KINDS))


def at(rows, timestamps):
    return np.searchsorted(rows.opens, timestamps.astype("M8[ns]").view(np.int64))


def test_candles_become_what_training_read_bit_for_bit(data, pipeline):
    rows = pipeline.transform(CANDLES)
    assert (np.abs(data.features) == 2.0).any()  # some are clipped
    found = rows.values[at(rows, data.timestamps)]
    assert found.tobytes() == data.features.tobytes()
    targets = data.parts["test"].targets
    ends = at(rows, data.timestamps[targets])
    assert set(rows.status[ends]) <= {"ok", "filled"}
    expected = np.stack([data.features[t - 7 : t + 1] for t in targets])
    assert np.array_equal(rows.windows(ends), expected)
    few = pipeline.transform(CANDLES, last=3)
    assert np.array_equal(few.values[-3:], rows.values[-3:])
    assert few.status.tolist() == ["ok"] * 3 and few.first == len(few.values) - 3


def test_it_is_fitted_on_the_training_rows_alone(data, pipeline):
    assert pipeline == data.pipeline
    raw = run_pipeline(CONFIG.replace(scaler_type="none", clip_limit=1e9), "x", {})
    frame = pipeline.features(CANDLES)
    values = frame.values[at(frame, data.timestamps)]
    start, stop = data.parts["train"].start, data.parts["train"].stop
    assert pipeline.fit(values[start:stop]) == pipeline
    assert pipeline.fit(values) != pipeline
    assert pipeline.fit(values[start : stop - 1]) != pipeline
    assert np.array_equal(raw.fit(values[:, :1]).scaled(values[:, :1]), values[:, :1])


def test_fitting_candles_fits_every_step():
    fitted = pipeline_of("cnn_lstm", CONFIG).fit(CANDLES)
    assert [step.kind for step in fitted.steps] == [
        *("validate_data", "fill_gaps", "compute_features"),
        *("scale", "clip", "windows", "final_check"),
    ]
    rows = fitted.features(CANDLES)
    known = rows.values[np.isfinite(rows.values).all(axis=1)]
    again = FeatureScaler.fit(
        known, fitted.feature_names, kind="robust", clip_limit=2.0
    )
    assert fitted.scaler == again
    with pytest.raises(DataError, match="'validate_data': expected a fitted one"):
        pipeline_of("cnn_lstm", CONFIG).transform(CANDLES)


ROWS = FeatureRows(
    names=("a", "b"),
    values=np.array([[1, -9], [2, 3], [5, np.nan]], np.float32),
)
SCALE = {"feature_names": ["a", "b"], "center": [1.0, 0.0], "scale": [2.0, 1.0]}
FILLED = CANDLES.assign(is_filled=False, segment=0)
ALTERED = {  # kind: parameters, state, rows that it has something to do with
    "validate_data": (
        {"pair": "TESTUSDT", "timeframe": "4h"},
        {},
        CANDLES.rename(columns=str.title),
    ),
    "fill_gaps": ({"timeframe": "4h", "max_fill_bars": 5}, {}, CANDLES),
    "compute_features": ({"timeframe": "4h", "feature_sets": ["ray12"]}, {}, FILLED),
    "scale": ({"method": "standard"}, SCALE, ROWS),
    "clip": ({"limit": 4.0}, {}, ROWS),
    "pair_columns": (
        {"pairs": ["ADAUSDT", "SOLUSDT"], "pair": "SOLUSDT"},
        {"feature_names": ["a", "b"]},
        ROWS,
    ),
    "windows": ({"bars": 2}, {}, ROWS),
    "final_check": ({}, {"feature_names": ["a", "b"]}, ROWS),
}


@pytest.mark.parametrize("kind", kind_names())
def test_no_kind_returns_its_input(kind):
    parameters, state, given = ALTERED[kind]
    found = Step(kind=kind, name="x", parameters=parameters, state=state).run(given)
    if isinstance(given, pd.DataFrame):
        assert not isinstance(found, pd.DataFrame) or not found.equals(given)
        return
    before, after = (dataclasses.asdict(each) for each in (given, found))
    changed = [name for name in before if not _same(before[name], after[name])]
    expected = {"scale": "values", "clip": "values", "windows": "window_bars"}
    expected["pair_columns"] = "names"
    assert expected.get(kind, "status") in changed


def _same(one, other):
    return np.array_equal(one, other) or one is other


def test_what_the_steps_on_rows_give():
    scale, clip, windows, check = (
        Step(kind=kind, name=kind, parameters=ALTERED[kind][0], state=ALTERED[kind][1])
        for kind in ("scale", "clip", "windows", "final_check")
    )
    rows = clip.run(scale.run(ROWS))
    assert rows.values.tolist()[:2] == [[0, -4], [0.5, 3]]
    assert ROWS.values[0, 1] == -9  # what is not the pipeline's stays
    done = check.run(windows.run(rows))
    assert done.status.tolist() == ["warming_up", "ok", "warming_up"]
    assert done.windows(done.ok_rows).tolist() == [[[0, -4], [0.5, 3]]]
    with pytest.raises(DataError, match="expected the features a, b. Received: b, a"):
        scale.run(dataclasses.replace(ROWS, names=("b", "a")))


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.drop(columns="volume"), "volume"),
        (lambda c: c.astype({"close": "float32"}), "close of float32, not float64"),
        (
            lambda c: c.rename(columns={"open": "Open"}).astype({"Open": "f4"}),
            "open of",
        ),
        (lambda c: c.assign(volume=2**60 + 1), "volume of int64, .*would be lost"),
        (lambda c: make_candles(400, timeframe="1h"), "Received: candles of 1h"),
        (lambda c: pd.concat([c, c["close"]], axis=1), "Received: close twice"),
        (lambda c: None, r"expected numbers of shape \(num_rows, "),
        (lambda c: np.zeros((9, 2)), r"Received: shape \(9, 2\)"),
    ],
)
def test_candles_of_another_form_are_refused_by_name(pipeline, change, message):
    with pytest.raises(DataError, match=message):
        pipeline.transform(change(CANDLES), last=1)


def test_candles_as_text_are_read(pipeline):
    text = CANDLES.astype({name: str for name in CANDLES.columns})
    found = pipeline.transform(text, last=2)
    assert np.array_equal(found.values, pipeline.transform(CANDLES, last=2).values)


def test_columns_that_nothing_reads_are_noted_once(data):
    pipeline = data.pipeline.fit(data.parts["train"].take(data.features))
    table = CANDLES.assign(trades=7, symbol="TESTUSDT", volume=CANDLES["volume"])
    for _ in range(2):
        pipeline.transform(table, last=1)
    assert pipeline.notes == ["nothing reads the columns trades"]


def test_features_of_another_form_are_refused_by_name():
    foreign = run_pipeline(CONFIG, ["a", "b"], {}).fit(ROWS.values[:2])
    table = pd.DataFrame({"a": [1.0, 2.0], "b": np.float32([3, 4]), "c": 0})
    assert not foreign.takes_candles and foreign.transform(table).status[0] != "ok"
    times = pd.date_range("2024-01-01", periods=2, freq="1h", tz="UTC")
    for change, message in (
        (table[["b"]], "Received: b; missing a"),
        (table.astype({"b": "float16"}), "b of float16, not float32: bits are lost"),
        (table.assign(a=0.1), "a of float64, not float32: bits would be lost"),
        (table.assign(a=["x", "y"]), "a of "),
        (pd.concat([table, table["a"]], axis=1), "a twice"),
        (table.assign(timestamp=times), "timestamp: bars of 1h, not of 4h"),
    ):
        with pytest.raises(DataError, match=f"expected the columns a, b. .*{message}"):
            foreign.transform(change)
    with pytest.raises(DataError, match="without that description"):
        foreign.features(CANDLES)
    beyond = foreign.transform(table.assign(a=np.inf))
    assert np.isnan(beyond.values[:, 0]).all()  # not clipped to a number
    wide = run_pipeline(CONFIG, ["a"], {"feature_types": {"a": "float64"}})
    assert wide.fit(ROWS.values[:, :1]).transform(table.assign(a=0.1)).values[0] != 0


def test_types_are_those_of_the_training_file():
    frame = make_frame()
    names = list(frame.columns[1:4])
    frame[names[0]] = frame[names[0]].astype("float64") / 3
    frame[names[1]] = np.arange(len(frame)) % 7
    config = Config(sequence_length=8, future_window=3)
    data = TrainingDataLoader.from_frame(frame, config=config).load_training_data()
    schema = data.pipeline.input_schema
    assert [each.type for each in schema.columns[:3]] == ["float64", "int64", "float32"]
    found = data.pipeline.transform(frame.astype({names[1]: "int8"}))
    assert found.values.tobytes() == data.features.tobytes()
    with pytest.raises(DataError, match=f"{names[2]} of float64.* would be lost"):
        data.pipeline.transform(frame.assign(**{names[2]: 0.1}))


# As data


def test_the_hash_is_of_columns_and_not_of_rows(pipeline):
    other = pipeline.fit(np.ones((9, len(pipeline.feature_names)), np.float32))
    assert other != pipeline and other.compatibility_hash == pipeline.compatibility_hash
    for change in ({"sequence_length": 9}, {"feature_sets": ("core8_7d",)}):
        changed = pipeline_of("cnn_lstm", CONFIG.replace(**change)).fit(CANDLES)
        assert changed.compatibility_hash != pipeline.compatibility_hash
    rescaled = pipeline_of("cnn_lstm", CONFIG.replace(scaler_type="minmax"))
    assert rescaled.fit(CANDLES).compatibility_hash == pipeline.compatibility_hash


def _set(values, *path, to):
    *places, last = path
    for place in places:
        values = values[place]
    values[last] = to


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(format=2),
        lambda v: v.update(compatibility_hash="0" * 64),
        lambda v: v.pop("steps"),
        lambda v: _set(v, "input_schema", "columns", 1, "type", to="object"),
        lambda v: _set(v, "output_schema", "window_bars", to=9),
        lambda v: _set(v, "steps", 0, "kind", to="os.system"),
        lambda v: _set(v, "steps", 2, "parameters", "feature_sets", to=[1]),
        lambda v: _set(v, "steps", 3, "state", "scale", 0, to=0.0),
        lambda v: _set(v, "steps", 3, "state", to=None),
        lambda v: _set(v, "steps", 4, "parameters", to={"limit": 1, "x": 2}),
        lambda v: _set(v, "steps", 0, "parameters", "timeframe", to="8h"),
        lambda v: _set(v, "steps", 2, "state", "digests", to=[]),
        lambda v: _set(v, "steps", 3, "state", "feature_names", 0, to="x"),
        lambda v: _set(v, "steps", 5, "parameters", "bars", to="8"),
        lambda v: v["steps"].reverse(),
        lambda v: v["steps"].pop(),
    ],
)
def test_other_values_are_refused(pipeline, change):
    values = json.loads(json.dumps(pipeline.to_dict()))
    change(values)
    with pytest.raises(RefusedArtifactError, match="a file: expected a preprocessor"):
        PreprocessingPipeline.from_dict(values, "a file")


# Kinds of one's own


class Account:
    """Appends what an agent knows of its account."""

    reads, learns = "rows", False

    def __init__(self, columns):
        self.columns = columns

    def fit(self, rows):
        return {"columns": list(self.columns)}

    def apply(self, rows, state):
        flat = np.zeros((len(rows.values), len(state["columns"])), np.float32)
        values = np.hstack([rows.values, flat])
        names = (*rows.names, *state["columns"])
        return dataclasses.replace(rows, names=names, values=values, is_own=True)


def test_kinds_are_registered_from_above(own_kinds):
    own = {"state_columns": {"columns": ["position", "equity"]}}
    planned = pipeline_of("agent", CONFIG, parameters=own)
    with pytest.raises(ConfigError, match="Received: 'state_columns'.*Import what"):
        planned.fit(CANDLES)
    with pytest.raises(ValueError, match="expected one that is free"):
        register_kind("scale", Account)
    register_kind("state_columns", Account)
    fitted = planned.fit(CANDLES)
    rows = fitted.transform(CANDLES, last=2)
    assert fitted.output_schema.names == (*fitted.feature_names, "position", "equity")
    assert rows.windows(rows.ok_rows).shape == (2, 8, len(fitted.feature_names) + 2)
    again = PreprocessingPipeline.from_dict(fitted.to_dict(), "x")
    assert np.array_equal(again.transform(CANDLES, last=2).values, rows.values)
    with pytest.raises(ConfigError, match="template: expected one of cnn_lstm, agent"):
        pipeline_of("agents", CONFIG)
