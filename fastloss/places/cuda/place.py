"""The place of CUDA arrays: what `_pointwise`, `_classes`, `_score` and `_linear` do on the host, done where the arrays are.

Each call is a kernel or two on the caller's stream.  It is waited for only where the host must know something: whether a label was bad or a
value outside the loss's domain, what a gradient of a weighted mean or of a root is divided by, or the result itself if it goes to the host.
`use_wait(False)` leaves the first two to the result: NaN.
"""

from fastloss._device.classes import evaluate as classes
from fastloss._device.classes import normalise, score
from fastloss._device.linear import evaluate as linear
from fastloss._device.linear import score as linear_score
from fastloss._device.pointwise import evaluate as pointwise

__all__ = ["classes", "linear", "linear_score", "normalise", "pointwise", "score"]
