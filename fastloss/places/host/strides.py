"""Axes taken together: the few that kernels know, of arrays that have any number."""


def layout(a, strides):
    """An array's layout as backends take it: dtype, and strides in bytes for the kernel's three axes."""
    return (a.dtype.name, *strides)


def broadcast_strides(a, shape):
    """Strides with which the array has that shape."""
    lead = len(shape) - a.ndim
    own = zip(a.shape, a.strides, shape[lead:], strict=True)
    return (0,) * lead + tuple(0 if n == 1 else stride for n, stride, _ in own)


def merged(shape, strides):
    """A shape without needless axes, and the strides of several arrays: axes that follow one another in all of them become one."""
    lengths, kept = [], [[] for _ in strides]
    for axis, length in enumerate(shape):
        if length == 1:
            continue
        if lengths and all(k[-1] == s[axis] * length for k, s in zip(kept, strides, strict=True)):
            lengths[-1] *= length
            for k, s in zip(kept, strides, strict=True):
                k[-1] = s[axis]
        else:
            lengths.append(length)
            for k, s in zip(kept, strides, strict=True):
                k.append(s[axis])
    return tuple(lengths), [tuple(k) for k in kept]


def stride_of(group, lengths, strides):
    """The stride of some axes taken as one, or None if they do not follow one another."""
    found, length = 0, 1
    for axis in reversed(group):
        if lengths[axis] == 1:
            continue
        if length == 1:
            found = strides[axis]
        elif strides[axis] != found * length:
            return None
        length *= lengths[axis]
    return found


def packed_strides(shape, itemsize):
    """Those of a C-contiguous array, in bytes."""
    strides, step = [], itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))
