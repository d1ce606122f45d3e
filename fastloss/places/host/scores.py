"""Plans of `score`."""

import dataclasses

import numpy as np

from fastloss import _details, _plan
from fastloss._scores import Scores, is_in_top_k, kinds
from fastloss.places.host import details, layer_scores
from fastloss.places.host.labels import raise_bad_label
from fastloss.places.host.operands import REALS
from fastloss.places.host.rows import RowKernel
from fastloss.places.host.transformed import transformed_rows


def plan_of(resolved, arrays, out):
    """The plan of a `Scores` call."""
    if resolved.from_layer:
        return layer_scores.plan_of(resolved, arrays)
    if not resolved.has_details or _is_simple(resolved):
        return _Scores(resolved, arrays)
    return _Details(resolved, arrays) if resolved.transform is None else _TransformedDetails(resolved, arrays)


def _is_simple(resolved):
    """Whether entropies are all the details there are, and the kernel of scores gives them, too."""
    others = resolved.top is not None or resolved.n_ids is not None or resolved.transform is not None
    return not others and resolved.n_classes <= getattr(_plan.backend(), "ENTROPY_OF", 0)


class _Scores:
    def __init__(self, resolved, arrays):
        self.resolved, real = resolved, REALS[resolved.real]
        x, y = arrays[:2]
        casts, ignore_index = resolved.casts[:2], resolved.ignore_index
        self.any_target = None
        if y is None:  # a dummy target
            y = self.any_target = np.broadcast_to(np.int64(0), resolved.rows_shape)
            ignore_index = -1
        self.dtypes = [np.dtype(kind) for kind in kinds(real, resolved.top_k)[:5]]
        if resolved.entropy:
            self.dtypes += [None] * (5 - len(self.dtypes)) + [real]
        outs = [None if dtype is None else (dtype, False) for dtype in self.dtypes]
        self.rows = RowKernel(
            "score",
            real,
            (x, y, None),
            (*casts, None),
            resolved.axis,
            outs,
            ignore_index,
            transform=resolved.transform,
        )

    def __call__(self, operands, out, scale):
        resolved = self.resolved
        target = operands[1] if self.any_target is None else self.any_target
        x, y, _ = self.rows.prepared((operands[0], target, None))
        if self.rows.compares_first:
            self._raise_bad_label(operands)
        shape = resolved.rows_shape
        found = tuple([None if dtype is None else np.empty(shape, dtype) for dtype in self.dtypes])
        if self.rows.sums(x, y, None, found)[3] != np.inf:
            self._raise_bad_label(operands)
        entropy = found[5] if resolved.entropy else None
        if not resolved.has_target:
            return Scores(lse=found[1], argmax=found[2], entropy=entropy)
        if resolved.top_k is None:
            return Scores(*found[:4], entropy=entropy)
        return Scores(*found[:5], is_in_top_k(found[4], resolved.top_k), entropy=entropy)

    def _raise_bad_label(self, operands):
        raise_bad_label(operands[1], self.resolved.n_classes, self.resolved.ignore_index)


class _Details:
    """Scores that include entropies, or log-probabilities of classes other than the target."""

    def __init__(self, resolved, arrays):
        self.resolved, self.real = resolved, REALS[resolved.real]
        x, y = arrays[:2]
        self.m = details.n_first(resolved.top, resolved.n_classes)
        ranks = resolved.top_k is not None
        self.rows = details.kernel_of(
            x, y, resolved.casts[:2], resolved.axis, self.real, self.m, resolved.ignore_index, ranks
        )

    def __call__(self, operands, out, scale):
        resolved, shape = self.resolved, self.resolved.rows_shape
        target, ids = operands[1], operands[4]
        if ids is not None:
            raise_bad_label(ids, resolved.n_classes, resolved.ignore_index, "ids")
        x, y, _ = self.rows.prepared((operands[0], target, None))
        if self.rows.compares_first:
            raise_bad_label(target, resolved.n_classes, resolved.ignore_index)
        state, places, values = details.room_for(shape, self.m, self.real)
        rank = np.empty(shape, np.int64) if resolved.top_k else None
        if self.rows.sums(x, y, None, (state, places, values, rank))[3] != np.inf:
            raise_bad_label(target, resolved.n_classes, resolved.ignore_index)
        more = {} if target is None else _own(x, target, resolved)
        return _details.scores(
            resolved, self.real, state, places, values, rank=rank, **more, **_chosen(x, ids, resolved)
        )


class _TransformedDetails:
    """The same for transformed logits: the order of classes is that of the logits themselves, all else is computed for
    a few rows at a time in float64."""

    def __init__(self, resolved, arrays):
        self.resolved, self.real = resolved, REALS[resolved.real]
        self.places = _Details(dataclasses.replace(resolved, transform=None), arrays)
        self.sums = _Scores(dataclasses.replace(resolved, top_k=None, top=None, n_ids=None, entropy=False), arrays)
        self.m = details.n_first(resolved.top, resolved.n_classes)

    def __call__(self, operands, out, scale):
        resolved, shape = self.resolved, self.resolved.rows_shape
        found, sums = self.places(operands, out, scale), self.sums(operands, out, scale)
        x, _, _ = self.sums.rows.prepared((operands[0], self.sums.any_target, None))
        ids = None if operands[4] is None else details.wide_ids(operands[4], resolved.ignore_index)
        flat_ids = None if ids is None else ids.reshape(resolved.n_rows, -1)
        state, places, values = details.room_for((resolved.n_rows,), self.m, np.float64)
        chosen = None if ids is None else np.empty(flat_ids.shape)
        for rows, logits in transformed_rows(resolved.transform, np.moveaxis(x, resolved.axis, -1)):
            some = details.Gathered(len(logits), self.m, REALS["float64"], None if ids is None else flat_ids[rows])
            some.take(logits, 0)
            state[rows], places[rows], values[rows] = some.state, some.places, some.values
            if ids is not None:
                chosen[rows] = some.chosen
        arrays = [a.reshape(*shape, a.shape[1]) for a in (state, places, values)]
        more = {} if ids is None else {"ids": ids, "chosen": chosen.reshape(ids.shape)}
        own = _details.scores(resolved, self.real, *arrays, **more)
        changed = {name: getattr(own, name) for name in _details.FIELDS if name != "top_ids"}
        return found._replace(nll=sums.nll, lse=sums.lse, **changed)


def _own(x, target, resolved):
    """(targets, their logits)."""
    labels = details.wide_ids(target, resolved.ignore_index)
    if x.ndim == 2 and labels.size:  # in half the time
        rows, classes = np.arange(len(labels)), np.maximum(labels, 0)
        return {"labels": labels, "own": x[rows, classes] if resolved.axis else x[classes, rows]}
    return {"labels": labels, "own": _at(x, labels[..., None], resolved.axis)[..., 0]}


def _chosen(x, ids, resolved):
    """(the classes in `ids`, their logits)."""
    if ids is None:
        return {}
    labels = details.wide_ids(ids, resolved.ignore_index)
    return {"ids": labels, "chosen": _at(x, labels, resolved.axis)}


def _at(x, labels, axis):
    """The logits of k classes of each row, (rows..., k); arbitrary for negative ones."""
    if not labels.size:
        return np.empty(labels.shape)
    return np.take_along_axis(np.moveaxis(x, axis, -1), np.maximum(labels, 0), -1)
