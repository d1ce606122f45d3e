"""Every error message users can get.  Each names the argument, what was expected and what came."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, SupportsInt


def not_numeric(name: str, dtype: object) -> TypeError:
    return TypeError(f"{name}: expected real numbers, got dtype {dtype}")


def not_an_array(name: str, value: object) -> TypeError:
    return TypeError(f"{name}: expected an array or something that converts to one, got {type(value).__name__}")


def missing_values(name: str, n: int) -> ValueError:
    return ValueError(f"{name}: expected numbers throughout, got {n} missing values: fill or drop them first")


def not_integer(name: str, value: object) -> TypeError:
    return TypeError(f"{name}: expected an integer, got {value!r}")


def not_a_number(name: str, value: object) -> TypeError:
    return TypeError(f"{name}: expected a real number, got {value!r}")


def not_a_flag(name: str, value: object) -> TypeError:
    return TypeError(f"{name}: expected True or False, got {value!r}")


def not_index_dtype(name: str, dtype: object) -> TypeError:
    return TypeError(f"{name}: expected integer class indices, got dtype {dtype}")


def unknown(name: str, value: object, choices: Iterable[object]) -> ValueError:
    listed = ", ".join(repr(c) for c in choices)
    return ValueError(f"{name}: expected one of {listed}, got {value!r}")


def out_of_range(name: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{name}: expected {expected}, got {value!r}")


def wrong_shape(name: str, shape: Iterable[int], expected: str) -> ValueError:
    return ValueError(f"{name}: expected shape {expected}, got {tuple(shape)}")


def not_broadcastable(shapes: Iterable[tuple[str, Iterable[int]]]) -> ValueError:
    listed = ", ".join(f"{name} {tuple(shape)}" for name, shape in shapes)
    return ValueError(f"shapes do not broadcast together: {listed}")


def no_axis(name: str) -> ValueError:
    return ValueError(f"{name}: expected at least one dimension, the class axis, got a 0-d array")


def bad_axis(axis: object, ndim: int) -> ValueError:
    return ValueError(f"axis: expected integers in [{-ndim}, {ndim}) without repetition, got {axis!r}")


def two_forms(shape: tuple[int, ...], target: Iterable[int], dtype: object, axis: int) -> ValueError:
    rows = shape[:axis] + shape[axis + 1 :]
    return ValueError(
        f"target: expected integer class indices of shape {rows} or floating class probabilities of shape {tuple(shape)}, "
        f"got shape {tuple(target)} and dtype {dtype}"
    )


def floating_indices(shape: Iterable[int], dtype: object) -> TypeError:
    return TypeError(
        f"target: expected integers for class indices of shape {tuple(shape)}, got dtype {dtype}; class probabilities "
        "have the shape of the predictions"
    )


def label_out_of_range(
    position: Sequence[SupportsInt], value: object, n_classes: int, ignore_index: int, name: str = "target"
) -> IndexError:
    where = ", ".join(str(int(i)) for i in position)
    what = f"{name}[{where}]" if position else name
    return IndexError(f"{what} = {value} is not in [0, {n_classes}) and not ignore_index ({ignore_index})")


def ignored_probabilities(ignore_index: int) -> ValueError:
    return ValueError(
        f"ignore_index: expected a negative number, as class probabilities have no index, got {ignore_index}"
    )


def z_loss_of_one_class(value: float) -> ValueError:
    return ValueError(f"z_loss: expected 0 with class probabilities or label_smoothing, got {value}")


def no_classes(name: str, shape: Iterable[int]) -> ValueError:
    return ValueError(f"{name}: expected at least one class, got shape {tuple(shape)}")


def outside(name: str, domain: Any, position: Sequence[SupportsInt], value: object) -> ValueError:
    where = ", ".join(str(int(i)) for i in position)
    low, high, is_open = domain
    bound = f"above {low:g}" if is_open else f"of at least {low:g}"
    interval = f"in [{low:g}, {high:g}]" if high < float("inf") else bound
    return ValueError(f"{name}: expected values {interval}, got {name}[{where}] = {value}")


def bad_out(expected_shape: Iterable[int], out: Any) -> ValueError:
    got = f"shape {out.shape} and dtype {out.dtype}" if hasattr(out, "dtype") else type(out).__name__
    return ValueError(f"out: expected a writeable floating array of shape {tuple(expected_shape)}, got {got}")


def read_only_out() -> ValueError:
    return ValueError("out: expected a writeable array, got a read-only one")


def narrow_out(dtype: object, out: Any) -> TypeError:
    return TypeError(f"out: expected a floating dtype, got {out}; the result is {dtype}")


def no_elementwise() -> ValueError:
    return ValueError("reduction: expected 'mean' or 'sum' for rmse_loss, which has no value per element, got 'none'")


def beyond_float(name: str) -> ValueError:
    return ValueError(f"{name}: expected a number within the range of float64, got one beyond it")


def batch_mean_axis(axis: object) -> ValueError:
    return ValueError(f"reduction: expected 'mean', 'sum' or 'none' with an axis, got 'batchmean' and axis={axis!r}")


def vector_gradient(what: str) -> ValueError:
    return ValueError(f"value_and_grad: expected a scalar loss, got {what}: a vector has no gradient")


def not_a_loss(fn: Any) -> TypeError:
    return TypeError(f"value_and_grad: expected a loss of fastloss, got {fn!r}")


def unknown_argument(name: object, known: Iterable[str]) -> ValueError:
    listed = ", ".join(map(repr, known))
    return ValueError(f"wrt: expected different names of arguments with a gradient, here {listed}, got {name!r}")


def not_differentiable(name: str) -> ValueError:
    return ValueError(f"{name}: expected a tensor that requires no gradient, as there is none: detach it")


def no_response(estimator: Any, methods: Any) -> AttributeError:
    return AttributeError(
        f"{type(estimator).__name__} has no {' and no '.join(methods)}, which the score is computed from"
    )


def unknown_class(value: object, classes: Any) -> ValueError:
    return ValueError(f"y: expected the estimator's classes, {', '.join(map(repr, classes.tolist()))}, got {value!r}")


def not_binary(classes: Any) -> ValueError:
    return ValueError(f"expected an estimator of two classes, or of several labels at once, got {len(classes)} classes")


def no_second_derivative() -> RuntimeError:
    return RuntimeError("fastloss.torch has no second derivatives: expected a backward pass without create_graph=True")


def layer_gradient_of_rows() -> ValueError:
    return ValueError(
        "reduction: expected 'mean' or 'sum' where the layer's weights or bias require a gradient, got 'none'"
    )


def not_a_tensor(name: str, value: object) -> TypeError:
    return TypeError(f"{name}: expected a tensor, got {type(value).__name__}")


def not_so_many_outs(n: int, out: Any) -> ValueError:
    return ValueError(f"out: expected a sequence of {n} arrays or None, one for each name in wrt, got {out!r}")


def gradient_of_nothing(name: str) -> ValueError:
    return ValueError(f"{name}: expected an array, as its gradient is asked for, got None")


def layer_alone(name: str) -> ValueError:
    what = "a bias" if name.endswith("bias") else "weights"
    return ValueError(f"{name}: expected None, as there is no linear_weight, got {what}")


def not_accumulated(fn: Any, metrics: Iterable[str]) -> TypeError:
    return TypeError(f"Accumulator: expected a loss of fastloss or one of {', '.join(map(repr, metrics))}, got {fn!r}")


def unknown_option(name: str, option: str, known: Iterable[str]) -> TypeError:
    return TypeError(f"Accumulator: {name} has no option {option!r} that can be accumulated; it has {', '.join(known)}")


def unknown_scorer_option(name: str, option: str, known: Iterable[str]) -> TypeError:
    listed = f"one of {', '.join(map(repr, known))}" if known else "no option"
    return TypeError(f"{name}: expected {listed}, got {option!r}")


def accumulated_none() -> ValueError:
    return ValueError(
        "reduction: expected 'mean' or 'sum' for an Accumulator, got 'none': losses of rows do not add up"
    )


def unlike_accumulators(mine: Any, other: Any) -> ValueError:
    return ValueError(f"merge: expected an Accumulator of the same loss and options, {mine!r}, got {other!r}")


def not_a_state(value: float) -> ValueError:
    return ValueError(
        f"array: expected sums of arrays that `to_array` gave, which are whole numbers, got {value!r} in it"
    )


def not_a_size(name: str, dtype: object) -> ValueError:
    return ValueError(f"{name}: expected integers of at least 0, got values of dtype {dtype} that are not")


def unknown_chunks(name: str, shape: Iterable[int]) -> ValueError:
    return ValueError(
        f"{name}: expected chunks of known sizes, got shape {shape}: call its compute_chunk_sizes() first"
    )


def not_numpy_chunks(name: str, kind: type) -> TypeError:
    return TypeError(f"{name}: expected a Dask array of NumPy arrays, got one of {kind.__module__}.{kind.__name__}")


def masked_array(name: str) -> TypeError:
    return TypeError(f"{name}: masked arrays are not supported, as the mask would be lost: fill or compress it first")


def lazy_out() -> TypeError:
    return TypeError("out: the results of Dask arrays are lazy and can't be written to an array: leave it out")


def chunks_on_device() -> RuntimeError:
    return RuntimeError(
        "backend: expected one of the host's for Dask arrays, whose chunks are computed there, got 'cuda': call with use_backend('auto')"
    )


def layer_gradient() -> ValueError:
    return ValueError(
        "value_and_grad: for Dask arrays only the gradient of hidden is available: that of the layer would need a copy of the layer "
        "per chunk of rows; sum it over the chunks yourself"
    )


def unknown_backend(name: str, choices: Iterable[object]) -> ValueError:
    return ValueError(f"backend: expected one of {', '.join(map(repr, choices))}, got {name!r}")


def missing_backend(name: str, reason: str) -> RuntimeError:
    return RuntimeError(f"backend {name!r} is not available: {reason}")


def slow_backend(reasons: Mapping[str, str | None]) -> str:
    listed = "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)
    return f"fastloss computes with NumPy alone, correctly but slowly, as no compiled backend is available ({listed})"


def device_array(name: str) -> ValueError:
    return ValueError(f"{name}: expected an array on the host, got one on a CUDA device")


def mixed_devices(where: Iterable[tuple[str, object]]) -> ValueError:
    listed = ", ".join(f"{name} on {place}" for name, place in where)
    return ValueError(f"expected all arrays on one device, got {listed}")


def sharded(shape: Iterable[int], n: int) -> ValueError:
    return ValueError(
        f"expected arrays on one device, got one of shape {tuple(shape)} that is spread over {n}: take its addressable_shards"
    )


def odd_strides(strides: Any, dtype: object) -> ValueError:
    return ValueError(
        f"expected strides that are multiples of the element's size on a CUDA device, got {tuple(strides)} for {dtype}: copy the array"
    )


def misaligned(name: str, size: Any) -> ValueError:
    return ValueError(f"{name}: expected elements at multiples of their {size} bytes on a CUDA device: copy the array")


def narrow_jax(dtype: object) -> TypeError:
    return TypeError(f"the result is {dtype}, which JAX supports only with jax_enable_x64")


def bad_device_out(expected_shape: Iterable[int], dtype: object, got: Any) -> ValueError:
    return ValueError(
        f"out: expected a writeable {dtype} array of shape {tuple(expected_shape)} on the device, got {got}"
    )


def no_matmul(library: str) -> TypeError:
    return TypeError(
        f"linear_cross_entropy on a device multiplies with torch or CuPy, and takes no arrays of {library}"
    )


def not_on_device(what: str) -> TypeError:
    return TypeError(f"{what} is not available for arrays on a CUDA device: copy them to the host")


def bad_environment(variable: Any, value: object, expected: str) -> ValueError:
    return ValueError(f"environment variable {variable}: expected {expected}, got {value!r}")


# --- losses of one's own ----------------------------------------------------------------------------------------------


def no_text(role: str, value: object) -> TypeError:
    return TypeError(f"{role}: expected a Python function or the text of one, got {value!r}")


def lambda_function(role: str) -> ValueError:
    return ValueError(f"{role}: expected a function with a name, got a lambda: write `def`")


def no_source(role: str, function: Any) -> ValueError:
    return ValueError(
        f"{role}: expected a function whose source can be read, got {function!r}: Python keeps no source of what is typed at its prompt or "
        "made by exec; give the function's text as a string"
    )


def changed_source(role: str, function: Any) -> ValueError:
    return ValueError(f"{role}: the source of {function.__name__!r} has changed since it was defined: import it again")


def another_function(role: str, name: str, meant: str) -> ValueError:
    return ValueError(f"{role}: {name!r} must be the function of the math module, got {meant!r}: choose another name")


def alias(role: str, name: str, meant: Callable[..., object]) -> ValueError:
    return ValueError(
        f"{role}: {name!r} is another name of {meant.__name__!r}: call functions by the name they were defined with"
    )


def several_functions(role: str, names: Iterable[str]) -> ValueError:
    if not names:
        return ValueError(f"{role}: expected the text of a function, `def f(x, y):` and what follows, got none")
    listed = ", ".join(map(repr, names))
    return ValueError(f"{role}: expected a text in which only one function is not called by others, got {listed}")


def not_a_pointwise_signature(name: str, arguments: Iterable[str], parameters: Iterable[str]) -> ValueError:
    listed = (
        f"and then the parameters {', '.join(parameters)}" if parameters else "and no parameters, as none were given"
    )
    return ValueError(
        f"value: expected a function of prediction, target, perhaps a third array, {listed}, got {name}({', '.join(arguments)})"
    )


def slope_signature(slope: Any, its: Any, name: str, arguments: Iterable[str]) -> ValueError:
    return ValueError(f"slope: expected the arguments of {name}({', '.join(arguments)}), got {slope}({', '.join(its)})")


def argument_twice(name: str, argument: Any) -> ValueError:
    return ValueError(f"{name}: {argument!r} is the name of an argument that all losses have: choose another name")


def bad_parameter_name(name: str, keywords: Any) -> ValueError:
    return ValueError(
        f"parameters: expected names of the function's arguments, and none of {', '.join(keywords)}, got {name!r}"
    )


def bad_parameter(name: str, value: object) -> ValueError:
    return ValueError(f"parameters[{name!r}]: expected a default, a domain, or (default, domain), got {value!r}")


def not_an_interval(name: str, value: object) -> ValueError:
    return ValueError(f"{name}: expected a domain, (low, high) or such as '(0, inf)', got {value!r}")


def open_domain(name: str, value: object) -> ValueError:
    return ValueError(f"{name}: expected bounds that are included in an array's domain, or infinite, got {value!r}")


def not_an_own_loss(name: str, value: object) -> TypeError:
    return TypeError(f"{name}: expected a loss from pointwise_loss or row_loss, got {value!r}")


def not_a_row_signature(
    name: str, arguments: Iterable[str], parameters: Iterable[str], known: Iterable[str]
) -> ValueError:
    listed = f"and the parameters {', '.join(parameters)}" if parameters else "and no parameters, as none were given"
    return ValueError(
        f"value: expected a function of some of {', '.join(known)}, {listed}, got {name}({', '.join(arguments)})"
    )


def not_a_mapping(name: str, given: object) -> TypeError:
    return TypeError(f"{name}: expected a dict of what is given by name, got {given!r}")


def unknown_slope(given: Any, known: Iterable[str]) -> TypeError:
    return TypeError(f"slope: expected a dict of functions by {', '.join(map(repr, known))}, got {given!r}")
