"""Published runs without a training: files that a manifest vouches for."""

from artifacts import run_folder
from config import Config
from files.atomic import atomic_write
from files.strict import write_json
from preprocessing.scaling import FeatureScaler

FEATURES = ["a", "b"]
SCALER = FeatureScaler(
    kind="robust",
    feature_names=("a", "b"),
    center=(0.1, 1 / 3),
    scale=(2.0, 1e-9),
    clip_limit=10.0,
    num_rows=5,
)


def interval(low, high=0.5):
    return {"estimate": (low + high) / 2, "low": low, "high": high}


BEST = {
    "class_names": ["SHORT", "HOLD", "LONG"],
    "claims": {"skill": True, "activity": True, "direction": True, "edge": True},
    "audit": {"leaks": []},
    "cross_validation": {
        "metrics": {
            "trading_mean_net_return_bps": {"folds": [1.0, 2.0, None, 4.0, 5.0]}
        }
    },
    "test": {
        "log_loss": 0.9,
        "intervals": {"skill_vs_train_prior": interval(0.01)},
        "trading": {"mean_net_return_bps": 3.0},
        "comparisons": {
            "gradient_boosting": {"log_loss_difference": interval(-0.2, -0.1)}
        },
    },
}
"""Results of grade A+; later days make it S."""


def publish(
    outputs,
    *,
    skill=0.1,
    results=None,
    features=FEATURES,
    sha256="ab" * 32,
    dependencies=(),
    predictions=None,
    tested=None,
    **fields,
):
    """Returns a folder as a run leaves it; its grade is B-, with skill above 0.

    `predictions` are a table, `tested` what the metadata say of the test part.
    """
    config = Config(**{"pair": "TESTUSDT", "outputs_dir": str(outputs)} | fields)
    run = run_folder.RunFolder.create(config)
    atomic_write(run.file("model", ".npz"), f"model {skill}")
    write_json(run.file("scaler", ".json"), SCALER.to_dict())
    atomic_write(run.file("history", ".csv"), "epoch,loss,lr\n1,0.75,\n2,0.5,\n")
    kinds = {"model": ".npz", "scaler": ".json", "history": ".csv"}
    if predictions is not None:
        kinds["predictions"] = ".parquet"
        predictions.to_parquet(run.file("predictions", ".parquet"))
    part = {"first_row": 0, "rows": 9, "targets": 5}
    write_json(
        run.file("metadata", ".json"),
        {
            "run_id": run.run_id,
            "config": config.to_dict(),
            "data": {
                "path": "x.feather",
                "sha256": sha256,
                "feature_names": features,
                "num_features": len(features),
            },
            "lineage": {"dependencies": dependencies},
            "split": {"train": part} | ({} if tested is None else {"test": tested}),
            "model": {
                "window_bars": config.sequence_length,
                "total_parameters": 7,
            },
            "training": {"seconds": 1.5, "resumes": []},
            "files": {k: run.file(k, suffix).name for k, suffix in kinds.items()},
            "results": {"verdict": ["Skill: yes"]},
        },
    )
    usual = {
        "class_names": ["SHORT", "HOLD", "LONG"],
        "claims": {"skill": skill > 0, "direction": False},
        "test": {
            "log_loss": 1.0 - skill,
            "accuracy": 0.5 + skill,
            "skill_vs_train_prior": skill,
            "intervals": {"skill_vs_train_prior": interval(skill - 0.05, skill + 0.05)},
            "trading": {"mean_net_return_bps": 100 * skill, "num_trades": 40},
        },
    }
    write_json(run.path / "confusion_matrix_report.json", results or usual)
    return run.publish()
