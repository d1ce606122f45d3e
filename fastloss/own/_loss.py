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


class OwnLoss:
    """A user-defined loss, called like the package's own.

    Attributes
    ----------
    row : its row, as if it were in the table of losses.
    text : the source of the functions that compute it.
    """

    def __init__(self, definition: Definition) -> None:
        self.row, self._definition = row_of(definition), definition
        n_arrays = len(self.row.arrays)
        # for calls with all arrays by position, which need no binding
        self._n_arrays, self._more = n_arrays, self.row.operands[n_arrays:]
        self._absent = (None,) * len(self._more)
        self._options = tuple([option.name for option in self.row.options])
        self._defaults = tuple([option.default for option in self.row.options])
        self._keywords = frozenset(self.row.keywords)
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
    def __call__(self, *args: Any, out: Any = None, **kwargs: Any) -> Any:
        if len(args) != self._n_arrays or not self._keywords.issuperset(kwargs):
            operands, options = bind(self.row, args, kwargs)
            return evaluate(self.row, operands, options, out)
        if not kwargs:
            return evaluate(self.row, args + self._absent, self._defaults, out)
        get = kwargs.get
        operands = args + self._absent if "weight" not in kwargs else (*args, *map(get, self._more))
        return evaluate(self.row, operands, tuple(map(get, self._options, self._defaults)), out)

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
