"""Small fitted models of every kind that is written as plain arrays."""

import contextlib
import io
import itertools
import json
import zipfile
from dataclasses import replace

import numpy as np
from sklearn import ensemble, linear_model, tree
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from artifacts.array_files import dump_arrays
from models import conversion
from models.catboost_adapter import of_catboost
from models.xgboost_adapter import of_xgboost
from settings.tree_fields import OPTIONAL_MODELS

DRAW = np.random.default_rng(0)
INPUTS = DRAW.standard_normal((300, 4)).astype(np.float32)
CLASSES = DRAW.integers(0, 3, 300)
NUMBERS = INPUTS[:, 0] + DRAW.standard_normal(300)
SMALL = {"max_depth": 3, "random_state": 1}


def estimators():
    """Returns name -> an estimator, not yet fitted; of numbers where it says so."""
    forest = SMALL | {"n_estimators": 3}
    rounds = SMALL | {"n_estimators": 2, "subsample": 0.5}
    histograms = SMALL | {"max_iter": 2, "max_features": 0.5, "early_stopping": False}
    return {
        "forest": ensemble.RandomForestClassifier(**forest),
        "forest_of_numbers": ensemble.RandomForestRegressor(**forest),
        "extra": ensemble.ExtraTreesClassifier(**forest),
        "extra_of_numbers": ensemble.ExtraTreesRegressor(**forest),
        "tree": tree.DecisionTreeClassifier(**SMALL),
        "tree_of_numbers": tree.DecisionTreeRegressor(**SMALL),
        "classic": ensemble.GradientBoostingClassifier(**rounds),
        "classic_of_two": ensemble.GradientBoostingClassifier(**rounds, init="zero"),
        "classic_of_numbers": ensemble.GradientBoostingRegressor(**rounds),
        "histograms": ensemble.HistGradientBoostingClassifier(**histograms),
        "histograms_of_two": ensemble.HistGradientBoostingClassifier(**histograms),
        "histograms_of_twelve": ensemble.HistGradientBoostingClassifier(**histograms),
        "histograms_of_numbers": ensemble.HistGradientBoostingRegressor(**histograms),
        "logistic": make_pipeline(StandardScaler(), linear_model.LogisticRegression()),
        "logistic_of_two": linear_model.LogisticRegression(),
        "logistic_of_twelve": make_pipeline(
            StandardScaler(with_mean=False), linear_model.LogisticRegression()
        ),
        "ridge_of_numbers": make_pipeline(StandardScaler(), linear_model.Ridge()),
        "lasso_of_numbers": linear_model.Lasso(0.01),
    }


def fitted(name):
    """Returns one of them, fitted."""
    targets = NUMBERS if name.endswith("numbers") else CLASSES
    if name.endswith("two"):
        targets = NUMBERS > 0
    if name.endswith("twelve"):
        targets = np.digitize(NUMBERS, np.linspace(-2, 2, 11))
    return estimators()[name].fit(INPUTS, targets)


def outputs(model, inputs=INPUTS):
    """Returns what a library's model says, in double precision."""
    predict = getattr(model, "predict_proba", None) or model.predict
    return predict(inputs.astype(np.float64))


def booster(num_classes=3, rounds=2, **options):
    """Returns a fitted booster of LightGBM; of numbers for no classes."""
    import lightgbm

    options = {"verbosity": -1, "num_leaves": 4, "num_threads": 1} | options
    targets, kind = NUMBERS, {"objective": "regression"}
    if num_classes:
        kind = {"objective": "multiclass", "num_class": num_classes}
        targets = CLASSES % num_classes
    rows = lightgbm.Dataset(INPUTS, targets)
    return lightgbm.train(options | kind, rows, rounds)


def xgboost_booster(num_classes=3, rounds=2, **options):
    """Returns a fitted booster of XGBoost; of numbers for no classes."""
    import xgboost

    options = {"max_leaves": 4, "tree_method": "hist", "nthread": 1} | options
    targets, kind = NUMBERS, {"objective": "reg:squarederror"}
    if num_classes:
        kind = {"objective": "multi:softprob", "num_class": num_classes}
        targets = CLASSES % num_classes
    rows = xgboost.DMatrix(INPUTS, targets)
    return xgboost.train(kind | options, rows, rounds)


def catboost_model(num_classes=3, rounds=2, **options):
    """Returns a fitted model of CatBoost; of numbers for no classes."""
    import catboost

    options = {"depth": 3, "thread_count": 1, "allow_writing_files": False} | options
    targets, kind = NUMBERS, {"loss_function": "RMSE"}
    if num_classes:
        kind = {"loss_function": "MultiClass", "classes_count": num_classes}
        targets = CLASSES % num_classes
    model = catboost.CatBoost(kind | options | {"iterations": rounds})
    return model.fit(catboost.Pool(INPUTS, targets, thread_count=1), verbose=False)


def boosted(library, num_classes=3, **options):
    """Returns the plain arrays of a booster of one of three libraries, and itself."""
    if library == "lightgbm":
        model = booster(num_classes, **options)
        return conversion.of_lightgbm(model, family=library), model
    if library == "xgboost":
        model = xgboost_booster(num_classes, **options)
        return of_xgboost(model, family=library), model
    model = catboost_model(num_classes, **options)
    return of_catboost(model, family=library), model


def plain(name):
    """Returns the plain arrays of a fitted estimator."""
    return conversion.of_sklearn(fitted(name), family=name)


def unpack(data):
    """Returns the header and the arrays of a file."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(members.pop("header.json"))
    arrays = {
        name.removesuffix(".npy"): np.load(io.BytesIO(content))
        for name, content in members.items()
    }
    return header, arrays


def npy(array):
    """Returns the bytes of an array's file."""
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def pack(header, arrays, *, packed=False, others=None):
    """Returns a file of any header, arrays or bytes, and other members."""
    members = {"header.json": json.dumps(header)} | (others or {})
    for name, array in arrays.items():
        content = array if isinstance(array, bytes) else npy(array)
        members[f"{name}.npy"] = content
    stream = io.BytesIO()
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(stream, "w", kind) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def whole_files():
    """Returns name -> the bytes of a file of each kind."""
    files = {name: dump_arrays(plain(name)) for name in estimators()}
    for library, num_classes in itertools.product(OPTIONAL_MODELS, (3, 0)):
        with contextlib.suppress(ImportError):
            model, _ = boosted(library, num_classes)
            name = f"boosted_{library}_of_{num_classes}"
            files[name] = dump_arrays(replace(model, family=name))
    return files
