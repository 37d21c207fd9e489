"""Libraries' models as plain arrays: the same answers, or a refusal with the reason."""

import numpy as np
import pytest
from sklearn import ensemble, linear_model, neighbors, svm, tree
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from threadpoolctl import threadpool_info
from world import models

from artifacts import array_files
from config import Config
from files.progress import Progress
from models import conversion, sklearn_adapter
from models.catboost_adapter import import_catboost
from models.families import FAMILIES, create_adapter
from models.window_tables import Table
from models.xgboost_adapter import import_xgboost
from utils import ConfigError, one_thread


@pytest.mark.parametrize("name", models.estimators())
def test_estimators_answer_with_the_same_bits(name):
    estimator = models.fitted(name)
    conversion.require_sklearn(estimator)
    found = conversion.of_sklearn(estimator, family=name)
    draw = np.random.default_rng(1).standard_normal((500, 4)).astype(np.float32)
    for inputs in (models.INPUTS, draw, draw[:1]):
        assert np.array_equal(found.predict(inputs), models.outputs(estimator, inputs))
    assert found.num_classes == (None if "numbers" in name else len(estimator.classes_))


def test_importance_and_counts_are_the_library_s():
    forest = models.fitted("forest")
    found = models.plain("forest")
    assert np.array_equal(found.importance, forest.feature_importances_)
    leaves = sum(each.get_n_leaves() for each in forest.estimators_)
    assert found.num_parameters == leaves
    assert not len(models.plain("histograms").importance)
    coefficients = models.fitted("logistic")[-1].coef_
    found = models.plain("logistic")
    expected = np.abs(coefficients.astype(np.float64)).mean(axis=0)
    np.testing.assert_allclose(found.importance, expected)
    assert found.num_parameters == 3 * 4 + 3


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_classes": 2},
        {"num_classes": 0},
        {"rounds": 30, "num_leaves": 31, "min_data_in_leaf": 1},
        {"boosting": "dart"},
        {"min_data_in_leaf": 200},  # no split at all
    ],
)
def test_boosters_answer_within_1e_12(options):
    pytest.importorskip("lightgbm")
    booster = models.booster(**options)
    found = conversion.of_lightgbm(booster, family="own")
    draw = np.random.default_rng(1).standard_normal((500, 4)).astype(np.float32)
    for inputs in (models.INPUTS, draw):
        expected = booster.predict(inputs, num_threads=1)
        np.testing.assert_allclose(found.predict(inputs), expected, rtol=0, atol=1e-12)
    assert np.array_equal(found.importance, booster.feature_importance("gain"))
    text = booster.model_to_string()
    leaves = [line for line in text.splitlines() if line.startswith("num_leaves=")]
    assert found.num_parameters == sum(int(line[11:]) for line in leaves)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_classes": 2},
        {"num_classes": 0},
        {"rounds": 30, "max_leaves": 31, "min_child_weight": 0, "max_depth": 9},
        {"num_classes": 0, "objective": "reg:quantileerror", "quantile_alpha": 0.9},
        {"num_classes": 0, "objective": "reg:absoluteerror"},
        {"num_classes": 0, "num_parallel_tree": 2},
        {"min_child_weight": 200},  # no split at all
    ],
)
def test_boosters_of_xgboost_answer_in_single_precision(options):
    xgboost = pytest.importorskip("xgboost")
    found, booster = models.boosted("xgboost", **options)
    draw = np.random.default_rng(1).standard_normal((500, 4)).astype(np.float32)
    at_limits = np.nextafter(found.threshold.astype(np.float32), np.float32(9))
    for inputs in (models.INPUTS, draw, np.repeat(at_limits[:, None], 4, axis=1)):
        expected = booster.predict(xgboost.DMatrix(inputs))
        np.testing.assert_allclose(found.predict(inputs), expected, rtol=0, atol=2e-6)
    nodes = booster.trees_to_dataframe()  # get_score adds up in single precision
    worth = nodes.groupby("Feature")["Gain"].sum()
    expected = [worth.get(f"f{number}", 0.0) for number in range(4)]
    np.testing.assert_allclose(found.importance, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_classes": 2},
        {"num_classes": 0},
        {"rounds": 30, "depth": 6},
        {"grow_policy": "Lossguide", "max_leaves": 9, "rounds": 20},
        {"grow_policy": "Depthwise", "num_classes": 0, "min_data_in_leaf": 20},
        {"num_classes": 0, "loss_function": "Quantile:alpha=0.9"},
        {"grow_policy": "Lossguide", "min_data_in_leaf": 200},  # no split at all
    ],
)
def test_models_of_catboost_answer_within_1e_15(options):
    pytest.importorskip("catboost")
    found, model = models.boosted("catboost", **options)
    draw = np.random.default_rng(1).standard_normal((500, 4)).astype(np.float32)
    at_limits = np.repeat(found.threshold.astype(np.float32)[:, None], 4, axis=1)
    kind = "RawFormulaVal" if found.num_classes is None else "Probability"
    for inputs in (models.INPUTS, draw, at_limits):
        expected = model.predict(inputs, prediction_type=kind, thread_count=1)
        np.testing.assert_allclose(found.predict(inputs), expected, rtol=0, atol=1e-15)
    if "grow_policy" in options:  # of oblivious trees it takes pairs of leaves
        worth = model.get_feature_importance(type="PredictionValuesChange")
        total = found.importance.sum() or 1
        np.testing.assert_allclose(100 * found.importance / total, worth, atol=1e-6)


@pytest.mark.parametrize("target", ["signal", "return"])
@pytest.mark.parametrize("family", ["xgboost", "catboost"])
def test_rounds_one_at_a_time_are_the_library_s(family, target):
    pytest.importorskip(family)
    adapter = create_adapter(
        Config(model=family, target=target, num_trees=9, max_inputs_share=1.0)
    )
    adapter.mix = adapter.choose("a mix", None)
    # On noise, where splits are worth the same, single precision would decide.
    targets = adapter.choose(np.digitize(models.NUMBERS, [-1, 1]), models.NUMBERS)
    weights = np.random.default_rng(1).random(300)
    table = Table(inputs=models.INPUTS, targets=targets, weights=weights)
    model = adapter.create_model(300)
    found = adapter.fit_model(model, table)
    rows, start = adapter.make_rows(table), found.begin(table.inputs)
    model |= adapter.parameters(table, adapter.choose(3, None))
    if family == "xgboost":
        rows.set_base_margin(start.astype(np.float32).squeeze())
        booster = import_xgboost().train(model | {"base_score": 0.0}, rows, 9)
    else:
        rows.set_baseline(start)
        booster = import_catboost().CatBoost(model | {"iterations": 9}).fit(rows)
    whole = adapter.convert(booster)
    ours = conversion.joined(found.trees, found.start)
    for name in ("feature", "left", "right", "threshold", "root", "column"):
        assert np.array_equal(getattr(ours, name), getattr(whole, name)), name
    np.testing.assert_allclose(ours.value, whole.value, rtol=0, atol=1e-6)
    assert len(ours.feature) > 2 * len(ours.root)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (neighbors.KNeighborsClassifier(), "Received: KNeighborsClassifier. Give"),
        (svm.SVC(probability=True), "Received: SVC. Give"),
        (ensemble.AdaBoostClassifier(), "Received: AdaBoostClassifier"),
        (linear_model.RidgeClassifier(), "Received: RidgeClassifier"),
        (linear_model.SGDClassifier(), "Received: SGDClassifier"),
        (object(), "Received: object. Give"),
        (
            make_pipeline(StandardScaler(), tree.DecisionTreeClassifier()),
            "Pipeline of StandardScaler, DecisionTreeClassifier",
        ),
        (
            make_pipeline(MinMaxScaler(), linear_model.LogisticRegression()),
            "Pipeline of MinMaxScaler, LogisticRegression",
        ),
        (
            ensemble.GradientBoostingClassifier(init=tree.DecisionTreeClassifier()),
            r"GradientBoostingClassifier with init=DecisionTreeClassifier\(\)",
        ),
        (
            ensemble.GradientBoostingClassifier(loss="exponential"),
            "GradientBoostingClassifier with loss='exponential'",
        ),
        (
            ensemble.HistGradientBoostingRegressor(loss="poisson"),
            "HistGradientBoostingRegressor with loss='poisson'",
        ),
    ],
)
def test_other_estimators_are_refused_before_training(estimator, message):
    with pytest.raises(ConfigError, match=message) as caught:
        conversion.require_sklearn(estimator)
    assert "expected an estimator of trees or a linear one" in str(caught.value)
    assert "dump_model and open_model of its own" in str(caught.value)


@pytest.mark.parametrize(
    ("family", "parameters"),
    [
        ("lightgbm", {}),
        ("lightgbm", {"objective": "poisson"}),
        ("lightgbm", {"objective": "multiclassova"}),
        ("lightgbm", {"objective": "regression", "linear_tree": True}),
        ("lightgbm", {"objective": "regression", "boosting": "rf"}),
        ("xgboost", {}),
        ("xgboost", {"objective": "count:poisson"}),
        ("xgboost", {"objective": "reg:squarederror", "booster": "dart"}),
        (
            "xgboost",
            {"objective": "multi:softprob", "multi_strategy": "multi_output_tree"},
        ),
        ("catboost", {}),
        ("catboost", {"loss_function": "MultiClassOneVsAll"}),
    ],
)
def test_other_boosters_are_refused_before_training(family, parameters):
    message = "expected an objective of reg|expected a loss_function of RMSE"
    with pytest.raises(ConfigError, match=message):
        FAMILIES[family](Config(model=family)).require_writable(parameters)


def test_splits_of_categories_are_refused():
    inputs = models.INPUTS.copy()
    inputs[:, 1] = np.arange(300) % 7
    targets = (inputs[:, 1] % 2).astype(int)
    histograms = ensemble.HistGradientBoostingClassifier(categorical_features=[1])
    with pytest.raises(ConfigError, match="of categories"):
        conversion.of_sklearn(histograms.fit(inputs, targets), family="own")
    lightgbm = pytest.importorskip("lightgbm")
    rows = lightgbm.Dataset(inputs, targets, categorical_feature=[1])
    options = {"objective": "regression", "verbosity": -1, "min_data_per_group": 1}
    with pytest.raises(ConfigError, match="of categories"):
        conversion.of_lightgbm(lightgbm.train(options, rows, 3), family="own")
    with pytest.raises(ConfigError, match="expected gbtree with an objective of reg"):
        models.boosted("xgboost", booster="dart")
    with pytest.raises(ConfigError, match="a loss of RMSE, .* float_features and P"):
        models.boosted("catboost", 0, loss_function="Poisson")
    rows = lightgbm.Dataset(models.INPUTS, models.NUMBERS)
    zeros = {"objective": "regression", "verbosity": -1, "zero_as_missing": True}
    with pytest.raises(ConfigError, match="where 0 is a missing value"):
        conversion.of_lightgbm(lightgbm.train(zeros, rows, 3), family="own")


def test_what_a_file_does_not_take_is_refused():
    estimator = tree.DecisionTreeRegressor().fit(models.INPUTS, 1e150 * models.NUMBERS)
    message = r"that plain arrays express: expected values of at most 1e\+100. Give"
    with pytest.raises(ConfigError, match=message):
        conversion.of_sklearn(estimator, family="own")


@pytest.mark.parametrize(
    "family", ["random_forest", "gradient_boosting", "classic_gradient_boosting"]
)
def test_telling_how_far_a_fit_is_changes_no_bit_of_it(family, monkeypatch):
    steps = []

    class Watched(Progress):
        def __exit__(self, *given):
            steps.append((self.what, self.done, self.total))
            super().__exit__(*given)

    monkeypatch.setattr(sklearn_adapter, "Progress", Watched)
    rng = np.random.default_rng(0)
    inputs, targets = rng.standard_normal((300, 4)), rng.integers(0, 3, 300)
    weights = rng.random(300)
    adapter = create_adapter(Config(model=family, num_trees=23))
    ours, plain = (adapter.create_model(300) for _ in range(2))
    with one_thread():
        adapter.fit_estimator(ours, inputs, targets, sample_weight=weights)
        plain.fit(inputs, targets, sample_weight=weights)
    ours, plain = (conversion.of_sklearn(x, family=family) for x in (ours, plain))
    assert array_files.dump_arrays(ours) == array_files.dump_arrays(plain)
    assert steps == [("tree", 23, 23)]


def test_fitting_takes_one_thread_of_every_library():
    with one_thread():
        threads = {each["user_api"]: each["num_threads"] for each in threadpool_info()}
    assert threads == {"blas": 1, "openmp": 1}
