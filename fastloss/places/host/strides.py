"""Merges axes: arrays have any number of them, kernels only a few."""


def layout(a, strides):
    """An array's layout for backends: dtype, and strides in bytes along the kernel's three axes."""
    return (a.dtype.name, *strides)


def broadcast_strides(a, shape):
    """The array's strides when broadcast to this shape."""
    lead = len(shape) - a.ndim
    own = zip(a.shape, a.strides, shape[lead:], strict=True)
    return (0,) * lead + tuple(0 if n == 1 else stride for n, stride, _ in own)


def merged(shape, strides):
    """(shape, strides of several arrays) with as few axes as possible: axes that follow one another in all of them are
    merged."""
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
    """The stride of a group of axes merged into one, or None if they do not follow one another."""
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
    """The strides of a C-contiguous array, in bytes."""
    strides, step = [], itemsize
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))
