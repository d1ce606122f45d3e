"""What `pointwise_loss` and `row_loss` return."""

from __future__ import annotations

import inspect
from typing import Any, Literal, overload

from numpy.typing import ArrayLike

from fastloss._types import AnyArray, DeviceT, LazyT, OutT, Real, RealArray
from fastloss.calls.bind import bind
from fastloss.evaluate import evaluate
from fastloss.losses import Option
from fastloss.own._definition import NOTHING, Definition, row_of

_POSITIONAL, _KEYWORD = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY

_ABSENT: Any = object()  # an argument that a call does not have


class OwnLoss:
    """A user-defined loss, called like the package's own.

    Attributes
    ----------
    row : its row, as if it were in the table of losses.
    text : the source of the functions that compute it.
    """

    def __init__(self, definition: Definition) -> None:
        self.row, self._definition = row_of(definition), definition
        # for calls with all arrays by position, which need no binding
        self._is_rowwise, self._has_third = self.row.rowwise, len(self.row.arrays) > 2
        axis, _, *others = self.row.options
        self._axis = axis.default
        self._others = tuple([option.name for option in others])
        self._defaults = tuple([option.default for option in others])
        self._known = frozenset(self._others)
        self.__name__ = self.__qualname__ = definition.name
        if definition.doc:
            self.__doc__ = definition.doc

    @overload
    def __call__(self, *args: LazyT, out: None = ..., **kwargs: Any) -> LazyT: ...
    @overload
    def __call__(self, *args: DeviceT, out: None = ..., **kwargs: Any) -> DeviceT | Real | RealArray: ...
    @overload
    def __call__(
        self,
        *args: ArrayLike,
        axis: None = ...,
        reduction: Literal["mean", "sum"] = ...,
        out: None = ...,
        **kwargs: Any,
    ) -> Real: ...
    @overload
    def __call__(
        self, *args: ArrayLike, axis: None = ..., reduction: Literal["none"], out: None = ..., **kwargs: Any
    ) -> RealArray: ...
    @overload
    def __call__(self, *args: ArrayLike, out: None = ..., **kwargs: Any) -> Real | RealArray: ...
    @overload
    def __call__(self, *args: AnyArray, out: OutT, **kwargs: Any) -> OutT: ...
    # Python binds these arguments faster than anything here could; names of arrays are among `others`, as they differ.
    def __call__(  # type: ignore[misc]  # mypy does not see that `x`, `y` and `third` are the first of the others' *args
        self,
        x: Any = _ABSENT,
        y: Any = _ABSENT,
        third: Any = _ABSENT,
        /,
        *rest: Any,
        weight: Any = None,
        axis: Any = _ABSENT,
        reduction: Any = "mean",
        out: Any = None,
        **others: Any,
    ) -> Any:
        if axis is _ABSENT:
            axis = self._axis
        if (
            rest
            or y is _ABSENT
            or (third is _ABSENT) is self._has_third
            or others
            and not self._known.issuperset(others)
        ):
            args = [a for a in (x, y, third, *rest) if a is not _ABSENT]
            operands, options = bind(self.row, args, {"weight": weight, "axis": axis, "reduction": reduction, **others})
            return evaluate(self.row, operands, options, out)
        more = tuple(map(others.get, self._others, self._defaults)) if others else self._defaults
        operands = (x, y, weight) if self._is_rowwise else (x, y, None if third is _ABSENT else third, weight)
        return evaluate(self.row, operands, (axis, reduction) + more, out)

    @property
    def text(self) -> str:
        return self._definition.text

    @property
    def __signature__(self) -> inspect.Signature:
        row = self.row
        arrays = [inspect.Parameter(name, _POSITIONAL) for name in row.arrays]
        more = [inspect.Parameter(name, _KEYWORD, default=None) for name in row.more_arrays]
        options = [inspect.Parameter(o.name, _KEYWORD, default=_default(o)) for o in row.options]
        # `out` comes last, as in every function
        return inspect.Signature([*arrays, *more, *options, inspect.Parameter("out", _KEYWORD, default=None)])

    def __eq__(self, other: object) -> bool:
        return self.row is other.row if isinstance(other, OwnLoss) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.row)

    def __reduce__(self) -> tuple[type[OwnLoss], tuple[Definition]]:
        return OwnLoss, (self._definition,)

    def __repr__(self) -> str:
        return f"<loss {self.__name__}{self.__signature__}>"


def _default(option: Option) -> Any:
    return inspect.Parameter.empty if option.default is NOTHING else option.default
