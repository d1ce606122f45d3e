"""Make the predictions in this folder: small real models, scored on rows they have not seen.

    python tests/data/make.py

needs scikit-learn. Seeds are fixed; another scikit-learn or BLAS may change the last digits.
"""

from pathlib import Path

import numpy as np

try:
    from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
    from sklearn.linear_model import LogisticRegression, RidgeCV
    from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error, mean_squared_error
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
except ImportError:  # pytest imports this file in its search for doctests
    if __name__ == "__main__":
        raise

HERE = Path(__file__).parent
HELD_OUT, SEED = 0.3, 0


def digits() -> None:
    """Class logits of a logistic regression on 8x8 images of handwritten digits."""
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=HELD_OUT, random_state=SEED, stratify=y)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(x_train, y_train)
    logits = model.decision_function(x_test).astype(np.float32)
    np.save(HERE / "digits_logits.npy", logits)
    np.save(HERE / "digits_labels.npy", y_test.astype(np.int64))

    wide = logits.astype(np.float64)  # the scores are those of the numbers in the file
    probs = np.exp(wide - wide.max(axis=1, keepdims=True))
    probs /= probs.sum(axis=1, keepdims=True)
    loss = log_loss(y_test, probs)
    accuracy = accuracy_score(y_test, logits.argmax(axis=1))
    scores = f"log_loss {loss:.9f}  perplexity {np.exp(loss):.9f}  accuracy {accuracy:.9f}"
    print(f"digits    {scores}  rows {len(y_test)}")


def cancer() -> None:
    """Probabilities that a tumour is benign (label 1), by logistic regression."""
    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=HELD_OUT, random_state=SEED, stratify=y)
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x_train, y_train)
    probs = model.predict_proba(x_test)[:, 1]
    np.save(HERE / "cancer_probs.npy", probs)
    np.save(HERE / "cancer_labels.npy", y_test.astype(np.uint8))

    accuracy = accuracy_score(y_test, probs > 0.5)
    print(f"cancer    log_loss {log_loss(y_test, probs):.9f}  accuracy {accuracy:.9f}  rows {len(y_test)}")


def diabetes() -> None:
    """The progress of diabetes after a year, by ridge regression."""
    x, y = load_diabetes(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=HELD_OUT, random_state=SEED)
    pred = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 3, 21))).fit(x_train, y_train).predict(x_test)
    np.save(HERE / "diabetes_pred.npy", pred)
    np.save(HERE / "diabetes_target.npy", y_test)

    mse, mae = mean_squared_error(y_test, pred), mean_absolute_error(y_test, pred)
    print(f"diabetes  MSE {mse:.9f}  RMSE {np.sqrt(mse):.9f}  MAE {mae:.9f}  rows {len(y_test)}")


if __name__ == "__main__":
    digits()
    cancer()
    diabetes()
