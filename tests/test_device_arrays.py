"""What is read off other libraries' arrays, where it does not take a device: of arrays on the host, and of stand-ins for CuPy's."""

import types

import numpy as np
import pytest

from fastloss.places import on_device
from fastloss.places.cuda.arrays import CuPy, Jax, Numba, Torch, View, library_of, packed_strides, viewed


def read(view):
    """The values that a view of the host's memory stands for."""
    import ctypes

    dtype = np.dtype(view.name)
    values = np.empty(view.shape, dtype)
    for position in np.ndindex(view.shape):
        at = view.address + sum(i * s for i, s in zip(position, view.strides, strict=True)) * view.itemsize
        values[position] = np.frombuffer(ctypes.string_at(at, view.itemsize), dtype)[0]
    return values


def layouts(x):
    return {
        "plain": x,
        "transposed": x.T if hasattr(x, "T") else x,
        "steps": x[1:, ::2],
        "one row": x[2:3],
        "one column": x[:, 1:2],
        "empty": x[:0],
        "number": x[1, 1],
    }


def test_torch():
    torch = pytest.importorskip("torch")
    x = torch.arange(24.0).reshape(4, 6)
    for name, part in (layouts(x) | {"expanded": x[:, :1].expand(4, 5)}).items():
        view = viewed(part, "x")
        assert library_of(part) is Torch and view.name == "float32", name
        np.testing.assert_array_equal(read(view), part.numpy(), err_msg=name)
    for name in (
        "bool",
        "uint8",
        "int8",
        "int16",
        "uint16",
        "int32",
        "uint32",
        "int64",
        "uint64",
        "float16",
        "bfloat16",
        "float64",
    ):
        assert viewed(torch.zeros(2, dtype=getattr(torch, name)), "x").name == name
    assert library_of(torch.nn.Parameter(x)) is Torch
    np.testing.assert_array_equal(read(viewed(torch.nn.Parameter(x), "x")), x.numpy())  # requires a gradient
    with pytest.raises(TypeError, match="x: expected real numbers, got dtype complex64"):
        viewed(torch.zeros(2, dtype=torch.complex64), "x")
    # a negated view of an imaginary part, which lies in memory with the other sign
    negated = torch.tensor([1 + 2j, 3 + 4j]).conj().imag
    assert negated.is_neg()
    np.testing.assert_array_equal(read(viewed(negated, "x")), [-2, -4])
    assert not on_device(torch.zeros(2, device="meta"))


def test_jax():
    jax = pytest.importorskip("jax")
    x = jax.numpy.arange(24.0).reshape(4, 6)
    for name, part in layouts(x).items():
        view = viewed(part, "x")
        assert library_of(part) is Jax
        np.testing.assert_array_equal(read(view), np.asarray(part), err_msg=name)
    try:
        from jax.experimental.layout import Format, Layout
    except ImportError:
        return
    by_columns = jax.device_put(x, Format(Layout(major_to_minor=(1, 0)), x.sharding))
    view = viewed(by_columns, "x")
    assert view.strides == (1, 4)
    np.testing.assert_array_equal(read(view), np.asarray(x))


def test_jax_arrays_of_several_devices():
    spread = types.SimpleNamespace(devices=lambda: {1, 2}, shape=(4, 6))
    with pytest.raises(ValueError, match=r"on one device, got one of shape \(4, 6\) that is spread over 2"):
        Jax.device(spread)


def stand_in(a):
    """An array of the host with what is read off CuPy's."""
    data = types.SimpleNamespace(ptr=a.__array_interface__["data"][0])
    return types.SimpleNamespace(dtype=a.dtype, shape=a.shape, strides=a.strides, data=data, of=a)


def test_cupy():
    x = np.arange(24.0).reshape(4, 6)
    for name, part in (layouts(x) | {"backwards": x[::-1, ::-2], "broadcast": np.broadcast_to(x[0], (3, 6))}).items():
        part = np.asarray(part)
        np.testing.assert_array_equal(read(CuPy.view(stand_in(part))), part, err_msg=name)
    fields = np.zeros(4, [("a", "i1"), ("b", "f4")])["b"]  # 5 bytes apart
    with pytest.raises(
        ValueError, match=r"strides that are multiples of the element's size on a CUDA device, got \(5,\)"
    ):
        CuPy.view(stand_in(fields))


def test_elements_that_no_kernel_can_read(monkeypatch):
    odd = np.zeros(13, np.uint8)[1:].view(np.float32)
    monkeypatch.setattr("fastloss.places.cuda.arrays.library_of", lambda value: CuPy)
    with pytest.raises(ValueError, match="logits: expected elements at multiples of their 4 bytes"):
        viewed(stand_in(odd), "logits")


def test_library_of_others():
    class Array:
        pass

    assert library_of(Array()).__name__ == "Other" and issubclass(library_of(Array()), Numba)
    for module, library in [
        ("cupy", CuPy),
        ("cupy._core.core", CuPy),
        ("jaxlib._jax", Jax),
        ("torch.nn.parameter", Torch),
    ]:
        own = type("Array", (), {"__module__": module})
        assert library_of(type("Own", (own,), {"__module__": "mine"})()) is library


@pytest.mark.parametrize(
    ("other", "overlap", "same"),
    [
        (View(64, "float32", (4,), (1,)), True, True),
        (View(64, "float32", (2, 2), (2, 1)), True, False),
        (View(76, "float32", (4,), (1,)), True, False),
        (View(80, "float32", (4,), (1,)), False, False),
        (View(80, "float32", (4,), (-1,)), True, False),
        (View(92, "float32", (4,), (-1,)), False, False),
        (View(56, "float64", (2,), (0,)), False, False),
        (View(64, "float32", (0,), (1,)), False, False),
        (View(64, "int32", (4,), (1,)), True, False),
    ],
    ids=str,
)
def test_overlap(other, overlap, same):
    mine = View(64, "float32", (4,), (1,))
    assert mine.overlaps(other) is other.overlaps(mine) is overlap
    assert mine.same_elements(other) is same


def test_packed_strides_of_empty_and_long_axes():
    assert packed_strides(()) == () and packed_strides((2, 0, 3)) == (0, 3, 1)
    assert packed_strides((2**20, 2**20, 4)) == (2**22, 4, 1)
