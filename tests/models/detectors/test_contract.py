"""Checks that find every detector of the catalogue by themselves."""

from __future__ import annotations

import inspect
from dataclasses import fields, replace

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from threadpoolctl import threadpool_limits

from cellwatch.models.detectors.catalog import DETECTORS
from cellwatch.models.detectors.detector import SEQUENCE
from cellwatch.models.detectors.network import Network, Training
from cellwatch.models.detectors.scaler import Scaler

CLASSES = (
    "benign",
    "dos/syn-flood",
    "ics/command-injection",
    "fault/sensor_drift",
)  # the third is never seen
TABLE_1 = (
    "SVM KNN RandomForest DecisionTree LogReg NaiveBayes XGB hybridML_V1 hybridML_V2 CNN LSTM BiLSTM CNNLSTM "
    "BiCNNLSTM GRU BiGRU Transformer DeepTransformer ResNet1D DeepResNet1D AutoEncoder RNN"
)
FEW = 60  # rows for checks where what was learnt does not matter


def shaped(kind, rows):
    """Rows as the detector wants them: sequences end with the row, noise before it."""
    if DETECTORS[kind].KIND == "window":
        return rows
    out = np.random.default_rng(4).normal(size=(len(rows), SEQUENCE, rows.shape[1])).astype(np.float32)
    out[:, -3:] = rows[:, None]
    return out


def rows(n, columns=12, seed=3):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, columns)).astype(np.float32)
    y = np.where(x[:, 0] > 0.7, 1, np.where(x[:, 1] > 0.7, 3, 0)).astype(np.int64)
    return x, y


def serve(graph):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(graph, options)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module", params=DETECTORS)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def data(name):
    x, y = rows(600)
    return shaped(name, x), y


@pytest.fixture(scope="module")
def fitted(name, data):
    seen = []
    detector = DETECTORS[name](CLASSES, seed=5)
    before = data[0].copy()
    detector.fit(*data, progress=seen.append)
    np.testing.assert_array_equal(data[0], before)
    assert seen == sorted(seen)
    assert seen[-1] <= 1
    return detector


def test_the_catalogue_is_table_1():
    assert list(DETECTORS) == TABLE_1.split()
    assert all(name == kind.NAME for name, kind in DETECTORS.items())


def test_probabilities(name, fitted, data):
    before = data[0].copy()
    p = fitted.predict_proba(data[0])
    assert p.shape == (len(before), len(CLASSES))
    assert p.dtype == np.float32
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(data[0], before)
    assert fitted.classes == CLASSES
    assert p[:, 2].max() < 0.02, "nobody has seen this class"


def test_it_learns(name, fitted):
    x, y = rows(400, seed=8)
    right = (fitted.predict_proba(shaped(name, x)).argmax(axis=1) == y).mean()
    assert right > (y == 0).mean() + 0.15


def test_rows_do_not_see_each_other(fitted, data):
    x = data[0][:40]
    whole = fitted.predict_proba(x)
    np.testing.assert_allclose(fitted.predict_proba(x[::-1].copy())[::-1], whole, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([fitted.predict_proba(r[None]) for r in x]), whole, atol=1e-5)
    assert fitted.predict_proba(x[:0]).shape == (0, len(CLASSES))


def test_same_seed_same_model(name, data):
    x, y = data[0][:FEW], data[1][:FEW]
    models = [DETECTORS[name](CLASSES, seed=seed) for seed in (5, 5)]
    for model in models:
        model.fit(x, y)
    first, second = (model.predict_proba(x) for model in models)
    np.testing.assert_array_equal(first, second)


def test_served_graph_computes_the_same(fitted, data):
    graph = fitted.to_onnx()
    session = serve(graph)
    far = np.clip(data[0] * 8, -10, 10)  # windows unlike those of the training
    for x in (data[0], data[0][:1], far):
        served = session.run(["probabilities"], {"x": x})[0]
        np.testing.assert_allclose(served, fitted.predict_proba(x), atol=1e-4)
    model = onnx.load_from_string(graph)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 18)]


def test_missing_numbers_pass_through_the_scaler(name, fitted, data):
    raw = np.full((3, data[0].shape[-1]), np.nan, dtype=np.float32)
    x = Scaler.fit(rows(50)[0]).transform(raw)
    assert np.isfinite(fitted.predict_proba(shaped(name, x))).all()


def test_one_class_is_no_task(name):
    x, _ = rows(30)
    with pytest.raises(ValueError, match="two"):
        DETECTORS[name](CLASSES).fit(shaped(name, x), np.zeros(30, dtype=np.int64))


def test_two_classes(name):
    x, y = rows(FEW)
    model = DETECTORS[name](("benign", "attack"), seed=1)
    model.fit(shaped(name, x), np.minimum(y, 1))
    p = model.predict_proba(shaped(name, x))
    assert p.shape == (FEW, 2)
    served = serve(model.to_onnx()).run(None, {"x": shaped(name, x)})[0]
    np.testing.assert_allclose(served, p, atol=1e-4)


def test_every_parameter_has_an_effect(name):
    x, y = rows(240, seed=6)
    x = shaped(name, x)
    kind = DETECTORS[name]
    quick = {"training": Training(epochs=4)} if issubclass(kind, Network) else {}

    def judged(**given):
        model = kind(CLASSES, **{"seed": 1, **quick, **given})
        model.fit(x, y)
        return model.predict_proba(x)

    usual = judged()
    for parameter in inspect.signature(kind).parameters.values():
        if parameter.name in ("classes", "seed"):
            continue
        value = parameter.default
        if isinstance(value, Training):
            other = Training(epochs=2)
        elif isinstance(value, int):
            other = 4 if value > 4 else value - 1
        else:
            other = 2.5 * value if value < 0.3 else value / 2
        assert np.abs(judged(**{parameter.name: other}) - usual).max() > 1e-6, parameter.name
        assert f"{parameter.name}:" in kind.__doc__ or isinstance(value, Training)


@pytest.mark.parametrize("field", [f.name for f in fields(Training)])
def test_every_field_of_the_training_has_an_effect(field):
    x, y = rows(200)
    usual = Training(epochs=20, rate=0.1, smoothing=0.2, decay=0.1)
    others = {
        "epochs": 2,
        "rows": 400,
        "batch": 16,
        "rate": 0.01,
        "decay": 0.5,
        "dropout": 0.5,
        "smoothing": 0.0,
    }
    results = []
    for how in (usual, replace(usual, **{field: others[field]})):
        model = DETECTORS["RNN"](CLASSES, training=how)
        model.fit(shaped("RNN", x), y)
        results.append(model.predict_proba(shaped("RNN", x)))
    assert np.abs(results[0] - results[1]).max() > 1e-6


def test_docstrings_name_their_source(name):
    assert any(year in DETECTORS[name].__doc__ for year in map(str, range(1950, 2027)))


def test_graphs_of_networks_stay_small(name):
    if not issubclass(DETECTORS[name], Network):
        pytest.skip("bounded by its parameters")
    x, y = rows(FEW, columns=97)
    model = DETECTORS[name](tuple(map(str, range(75))), training=Training(epochs=1))
    model.fit(shaped(name, x), y)
    assert len(model.to_onnx()) <= 60_000


def test_given_validation_rows_decide_which_epoch_is_kept():
    x, y = rows(300)
    models = []
    for truth in (y, (3 - y) % 4):
        model = DETECTORS["GRU"](CLASSES, training=Training(epochs=10))
        model.fit(shaped("GRU", x), y, validation=(shaped("GRU", x), truth))
        models.append(model.predict_proba(shaped("GRU", x)))
    right = [(p.argmax(axis=1) == y).mean() for p in models]
    assert right[0] > right[1]
