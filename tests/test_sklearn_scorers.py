"""fastloss.sklearn: the numbers of scikit-learn's own scorers, and of the package's losses where it has none."""

import doctest
import pickle

import numpy as np
import pytest
from cases import generator

sklearn = pytest.importorskip("sklearn", minversion="1.4")

from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier  # noqa: E402
from sklearn.gaussian_process import GaussianProcessRegressor  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression, PoissonRegressor, RidgeClassifier  # noqa: E402
from sklearn.metrics import get_scorer as their_scorer  # noqa: E402
from sklearn.metrics import hinge_loss, make_scorer, mean_pinball_loss, mean_squared_error  # noqa: E402
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate  # noqa: E402
from sklearn.multioutput import MultiOutputClassifier  # noqa: E402
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.neural_network import MLPClassifier  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.svm import SVC  # noqa: E402

import fastloss  # noqa: E402
import fastloss.sklearn  # noqa: E402
from fastloss.sklearn import get_scorer, scorers  # noqa: E402

RNG = generator("scorers")
X = RNG.normal(size=(120, 4))
NOISE = RNG.normal(size=120)
WORDS = np.array(["pear", "fig", "apple"])[(X[:, 0] + 0.7 * NOISE > 0).astype(int) + (X[:, 1] > 0.5)]
TWO = np.where(X[:, 0] + NOISE > 0, "yes", "no")
W = RNG.uniform(0, 2, 120) * (RNG.random(120) > 0.1)


def close(got, expected):
    assert type(got) is float
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def weighted(scorer, estimator, y, w=None):
    return scorer(estimator, X, y, sample_weight=w)


@pytest.mark.parametrize("w", [None, W], ids=["plain", "weighted"])
@pytest.mark.parametrize(
    "y", [WORDS, TWO, np.unique(WORDS, return_inverse=True)[1] * 10 - 3], ids=["words", "two", "numbers"]
)
@pytest.mark.parametrize(
    "estimator",
    [LogisticRegression(), GaussianNB(), make_pipeline(StandardScaler(), LogisticRegression())],
    ids=["linear", "bayes", "pipeline"],
)
def test_log_loss(estimator, y, w):
    estimator.fit(X, y)
    expected = weighted(their_scorer("neg_log_loss"), estimator, y, w)
    for name in ("neg_cross_entropy", "neg_nll_loss", "neg_categorical_cross_entropy"):
        close(weighted(get_scorer(name), estimator, y, w), expected)
    close(weighted(get_scorer("neg_perplexity"), estimator, y, w), -np.exp(-expected))
    close(weighted(get_scorer("accuracy"), estimator, y, w), weighted(their_scorer("accuracy"), estimator, y, w))
    if len(np.unique(y)) == 2:
        close(weighted(get_scorer("neg_binary_cross_entropy"), estimator, y, w), expected)
        if hasattr(estimator, "decision_function"):
            close(weighted(get_scorer("neg_binary_cross_entropy_with_logits"), estimator, y, w), expected)


@pytest.mark.parametrize("w", [None, W], ids=["plain", "weighted"])
def test_margins(w):
    """Labels are those of the estimator, of which the second is 1 and the first -1."""
    estimator = SVC().fit(X, TWO)
    scores, signs = estimator.decision_function(X), np.where(TWO == "yes", 1.0, -1.0)
    close(weighted(get_scorer("neg_hinge_loss"), estimator, TWO, w), -hinge_loss(TWO, scores, sample_weight=w))
    margins = np.maximum(1 - signs * scores, 0)
    close(weighted(get_scorer("neg_squared_hinge_loss"), estimator, TWO, w), -np.average(margins**2, weights=w))
    logistic = np.average(np.log1p(np.exp(-signs * scores)), weights=w)
    close(weighted(get_scorer("neg_soft_margin_loss"), estimator, TWO, w), -logistic)
    with pytest.raises(ValueError, match="two classes"):
        get_scorer("neg_hinge_loss")(SVC().fit(X, WORDS), X, WORDS)


def test_focal():
    estimator = LogisticRegression().fit(X, TWO)
    right = estimator.predict_proba(X)[np.arange(len(X)), (TWO == "yes").astype(int)]
    expected = np.average(-0.5 * (1 - right) ** 3 * np.log(right), weights=W)
    close(get_scorer("neg_sigmoid_focal_loss", alpha=0.5, gamma=3.0)(estimator, X, TWO, sample_weight=W), -expected)


def test_relative_errors():
    estimator = LinearRegression().fit(X, NOISE)
    expected = their_scorer("neg_mean_absolute_percentage_error")(estimator, X, NOISE, sample_weight=W)
    close(get_scorer("neg_mape_loss")(estimator, X, NOISE, sample_weight=W), expected)


def test_deviances():
    estimator = PoissonRegressor().fit(X, np.exp(X[:, 0]))
    counts = np.exp(X[:, 0] + 0.3 * NOISE)
    for name in ("poisson", "gamma"):
        expected = their_scorer(f"neg_mean_{name}_deviance")(estimator, X, counts, sample_weight=W)
        close(get_scorer(f"neg_{name}_deviance_loss")(estimator, X, counts, sample_weight=W), expected)


def test_gradient_boosting_and_top_k():
    estimator = HistGradientBoostingClassifier(max_iter=5).fit(X, WORDS)
    close(get_scorer("neg_cross_entropy")(estimator, X, WORDS), their_scorer("neg_log_loss")(estimator, X, WORDS))
    probabilities = estimator.predict_proba(X)
    labels = np.searchsorted(estimator.classes_, WORDS)
    close(
        get_scorer("accuracy", top_k=2)(estimator, X, WORDS),
        fastloss.score(probabilities, labels, top_k=2).in_top_k.mean(),
    )
    smoothed = fastloss.cross_entropy(estimator.decision_function(X), labels, label_smoothing=0.1)
    close(get_scorer("neg_cross_entropy", label_smoothing=0.1)(estimator, X, WORDS), -smoothed)


def test_targets_of_some_classes_and_of_none():
    """Fewer classes than the estimator's, on which scikit-learn's own log loss fails; and a class that it has not seen."""
    estimator = LogisticRegression().fit(X, WORDS)
    few = WORDS == "fig"
    expected = -np.log(estimator.predict_proba(X[few])[:, list(estimator.classes_).index("fig")]).mean()
    close(get_scorer("neg_cross_entropy")(estimator, X[few], WORDS[few]), -expected)
    with pytest.raises(ValueError, match="y: expected the estimator's classes, 'apple', 'fig', 'pear', got .*'plum'"):
        get_scorer("neg_cross_entropy")(estimator, X[:2], ["fig", "plum"])


def test_classes_in_any_order():
    class Fixed:
        classes_ = np.array(["pear", "apple", "fig"])

        def predict_proba(self, X):
            return np.tile([0.5, 0.3, 0.2], (len(X), 1))

    got = get_scorer("neg_categorical_cross_entropy")(Fixed(), X[:3], ["fig", "pear", "apple"])
    close(got, np.log([0.2, 0.5, 0.3]).mean())


def test_nothing_is_clipped():
    estimator = RandomForestClassifier(2, max_depth=2, random_state=0).fit(X[:, :2], WORDS)
    assert estimator.predict_proba(X[:, :2]).min() == 0
    assert get_scorer("neg_categorical_cross_entropy")(estimator, np.array([[-5.0, -5.0]]), ["apple"]) == -np.inf
    rows = np.array([[-5.0, -5.0], [5.0, 5.0]])
    assert np.isfinite(get_scorer("neg_categorical_cross_entropy")(estimator, rows, ["apple", WORDS[0]], [0.0, 1.0]))


REGRESSION = [
    ("neg_mse_loss", "neg_mean_squared_error", {}),
    ("neg_rmse_loss", "neg_root_mean_squared_error", {}),
    ("neg_l1_loss", "neg_mean_absolute_error", {}),
    ("neg_msle_loss", "neg_mean_squared_log_error", {}),
    ("neg_quantile_loss", make_scorer(mean_pinball_loss, greater_is_better=False, alpha=0.9), {"q": 0.9}),
]


@pytest.mark.parametrize("w", [None, W], ids=["plain", "weighted"])
@pytest.mark.parametrize("n_outputs", [0, 1, 3])
@pytest.mark.parametrize("name, theirs, options", REGRESSION, ids=lambda v: v if isinstance(v, str) else "")
def test_regression(name, theirs, options, n_outputs, w):
    y = np.abs(X @ generator("regression").normal(size=(4, max(n_outputs, 1))) + NOISE[:, None]) + 30.0
    y = y if n_outputs else y[:, 0]
    estimator = LinearRegression().fit(X, y)
    theirs = their_scorer(theirs)
    close(weighted(get_scorer(name, **options), estimator, y, w), weighted(theirs, estimator, y, w))


def test_multioutput_weights():
    y = np.stack([NOISE, X[:, 0] * 2 + NOISE], axis=1)
    estimator = LinearRegression().fit(X, y)
    theirs = make_scorer(mean_squared_error, greater_is_better=False, multioutput=[0.3, 0.7])
    close(get_scorer("neg_mse_loss", multioutput=[0.3, 0.7])(estimator, X, y), theirs(estimator, X, y))


def test_other_regression_losses():
    y = X[:, 0] + NOISE
    estimator = LinearRegression().fit(X, y)
    predictions = estimator.predict(X)
    for name, options in (("huber_loss", {"delta": 0.5}), ("smooth_l1_loss", {}), ("log_cosh_loss", {})):
        expected = getattr(fastloss, name)(predictions, y, weight=W, **options)
        close(get_scorer(f"neg_{name}", **options)(estimator, X, y, W), -expected)
    counts = generator("counts").poisson(np.exp(X[:, 0]))
    estimator = PoissonRegressor().fit(X, counts)
    expected = fastloss.poisson_nll_loss(estimator.predict(X), counts.astype(float), log_input=False)
    close(get_scorer("neg_poisson_nll_loss")(estimator, X, counts), -expected)
    estimator = GaussianProcessRegressor(alpha=0.5).fit(X[:60], y[:60])
    mean, deviation = estimator.predict(X, return_std=True)
    close(get_scorer("neg_gaussian_nll_loss")(estimator, X, y), -fastloss.gaussian_nll_loss(mean, y, deviation**2))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_several_labels_and_outputs():
    several = np.stack([X[:, 0] + NOISE > 0, X[:, 1] > 0.3], axis=1).astype(int)
    for estimator in (
        MLPClassifier(4, max_iter=20, random_state=0),
        RandomForestClassifier(50, random_state=0, max_depth=3),
    ):
        estimator.fit(X, several)
        p = estimator.predict_proba(X)
        p = np.stack([own[:, 1] for own in p], axis=1) if isinstance(p, list) else p
        each = fastloss.binary_cross_entropy(p, several.astype(float), reduction="none")
        close(get_scorer("neg_binary_cross_entropy")(estimator, X, several, W), -(W @ each).mean() / W.sum())
    words = np.stack([WORDS, np.where(several[:, 0], "a", "b")], axis=1)
    estimator = MultiOutputClassifier(LogisticRegression()).fit(X, words)
    alone = [get_scorer("neg_cross_entropy")(estimator.estimators_[k], X, words[:, k]) for k in range(2)]
    close(get_scorer("neg_categorical_cross_entropy")(estimator, X, words), np.mean(alone))
    close(
        get_scorer("neg_categorical_cross_entropy", multioutput=[1, 3])(estimator, X, words),
        np.average(alone, weights=[1, 3]),
    )


def test_model_selection():
    estimator = LogisticRegression()
    for y in (WORDS, TWO):
        got = cross_val_score(estimator, X, y, scoring=get_scorer("neg_cross_entropy"), cv=4)
        np.testing.assert_allclose(got, cross_val_score(estimator, X, y, scoring="neg_log_loss", cv=4))
    names = ["neg_cross_entropy", "neg_nll_loss", "neg_categorical_cross_entropy", "neg_perplexity", "accuracy"]
    every = cross_validate(estimator, X, WORDS, scoring={name: get_scorer(name) for name in names}, cv=3)
    np.testing.assert_allclose(np.exp(-every["test_neg_cross_entropy"]), -every["test_neg_perplexity"])
    grid = {"C": [1e-3, 0.1, 10.0]}
    ours = GridSearchCV(estimator, grid, scoring=get_scorer("neg_cross_entropy"), cv=3).fit(X, WORDS)
    theirs = GridSearchCV(estimator, grid, scoring="neg_log_loss", cv=3).fit(X, WORDS)
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])
    several = GridSearchCV(estimator, grid, scoring=scorers_of("neg_cross_entropy", "accuracy"), refit="accuracy", cv=3)
    assert several.fit(X, WORDS).best_params_
    close(float(ours.score(X, WORDS)), theirs.score(X, WORDS))


def scorers_of(*names):
    return {name: scorer for name, scorer in scorers().items() if name in names}


def test_metadata_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = LogisticRegression().set_fit_request(sample_weight=True)
        ours = get_scorer("neg_cross_entropy").set_score_request(sample_weight=True)
        theirs = their_scorer("neg_log_loss").set_score_request(sample_weight=True)
        for scoring in ((ours, theirs), ({"a": ours}, {"a": theirs})):
            got, expected = (
                cross_validate(estimator, X, WORDS, params={"sample_weight": W}, scoring=s, cv=3) for s in scoring
            )
            for name in got:
                if name.startswith("test"):
                    np.testing.assert_allclose(got[name], expected[name])
        with pytest.raises(sklearn.exceptions.UnsetMetadataPassedError):
            scoring = get_scorer("neg_cross_entropy")
            cross_val_score(estimator, X, WORDS, params={"sample_weight": W}, scoring=scoring, cv=3)


def test_every_metric():
    every = scorers()
    losses = {fn.__name__ for fn in fastloss.functional.LOSSES} - {"linear_cross_entropy", "kl_div"}
    losses -= {"hinge_embedding_loss", "margin_ranking_loss"}  # of pairs, which no estimator predicts
    assert set(every) == {f"neg_{name}" for name in losses} | {"neg_perplexity", "accuracy"}
    estimator = LogisticRegression().fit(X, WORDS)
    for name, scorer in every.items():
        again = pickle.loads(pickle.dumps(scorer))
        assert again.name == name and repr(again) == repr(scorer) and name in repr(scorer)
        if name in ("neg_cross_entropy", "accuracy"):
            assert again(estimator, X, WORDS) == scorer(estimator, X, WORDS)
    assert "q=0.9" in repr(get_scorer("neg_quantile_loss", q=0.9))
    assert pickle.loads(pickle.dumps(get_scorer("neg_quantile_loss", q=0.9))).options == {"q": 0.9}


def test_missing_values():
    """What pandas says is missing is counted, not compared; estimators have no say in it."""
    pd = pytest.importorskip("pandas")
    classifier, regressor = LogisticRegression().fit(X, TWO), LinearRegression().fit(X, NOISE)
    numbers = LogisticRegression().fit(X, (TWO == "yes").astype(int))
    words, truth, values = pd.Series(TWO, dtype="string"), pd.Series(TWO == "yes").astype("Int64"), pd.Series(NOISE)
    weights = pd.Series(W).astype("Float64")
    objects = pd.Series(TWO, dtype=object)
    close(get_scorer("neg_nll_loss")(classifier, X, words), get_scorer("neg_nll_loss")(classifier, X, TWO))
    close(get_scorer("neg_mse_loss")(regressor, X, values, sample_weight=weights), -mean_squared_error(
        NOISE, regressor.predict(X), sample_weight=W
    ))  # fmt: skip
    for column in (words, truth, objects, weights):
        column[[3, 7]] = pd.NA
    values = values.astype("Float64")
    values[[3, 7]] = pd.NA
    missing = "expected numbers throughout, got 2 missing values"
    for name in ("neg_cross_entropy", "neg_nll_loss", "neg_binary_cross_entropy", "accuracy", "neg_perplexity"):
        for estimator, y in ((classifier, words), (classifier, objects), (numbers, truth)):
            with pytest.raises(ValueError, match=f"y: {missing}"):
                get_scorer(name)(estimator, X, y)
    for name in ("neg_mse_loss", "neg_huber_loss"):
        with pytest.raises(ValueError, match=f"y: {missing}"):
            get_scorer(name)(regressor, X, values)
        with pytest.raises(ValueError, match=f"sample_weight: {missing}"):
            get_scorer(name)(regressor, X, NOISE, sample_weight=weights)
    with pytest.raises(ValueError, match=f"sample_weight: {missing}"):
        get_scorer("neg_nll_loss")(classifier, X, TWO, sample_weight=weights)


def test_errors():
    with pytest.raises(ValueError, match="name: expected one of 'neg_cross_entropy'"):
        get_scorer("cross_entropy")
    with pytest.raises(ValueError, match="multioutput"):
        get_scorer("neg_mse_loss", multioutput="raw_values")
    estimator = RidgeClassifier().fit(X, WORDS)
    with pytest.raises(AttributeError, match="RidgeClassifier has no predict_proba"):
        get_scorer("accuracy")(estimator, X, WORDS)
    with pytest.raises(AttributeError, match="has no decision_function and no predict_log_proba"):
        get_scorer("neg_cross_entropy")(LinearRegression().fit(X, NOISE), X, WORDS)
    with pytest.raises(ValueError, match="expected an estimator of two classes, .* got 3"):
        get_scorer("neg_binary_cross_entropy")(LogisticRegression().fit(X, WORDS), X, WORDS)


def test_what_does_not_fit():
    y = np.array(list("abcd"))[RNG.integers(0, 4, 120)]
    pairs = SVC(decision_function_shape="ovo").fit(X, y)
    with pytest.raises(
        ValueError, match=r"predictions: expected shape \(120, 4\), one column per class, got \(120, 6\)"
    ):
        get_scorer("neg_cross_entropy")(pairs, X, y)
    linear = LinearRegression().fit(X, X[:, :2])
    with pytest.raises(ValueError, match=r"y: expected shape \(120, 2\)"):
        get_scorer("neg_mse_loss")(linear, X, X[:, :2].T)
    for estimator, target, name in ((GaussianNB().fit(X, y), y, "accuracy"), (linear, X[:, :2], "neg_mse_loss")):
        with pytest.raises(ValueError, match=r"sample_weight: expected shape \(120,\), got \(119,\)"):
            get_scorer(name)(estimator, X, target, sample_weight=np.ones(119))


@pytest.mark.parametrize(
    "name, option",
    [("neg_mse_loss", "delta"), ("neg_mse_loss", "weight"), ("neg_huber_loss", "reduction"), ("accuracy", "axis")],
)
def test_options_are_checked_at_once(name, option):
    with pytest.raises(TypeError, match=f"{name}: expected .*, got '{option}'"):
        get_scorer(name, **{option: 1})


def test_example():
    results = doctest.testmod(fastloss.sklearn, optionflags=doctest.ELLIPSIS)
    assert results.attempted and not results.failed
