"""Templates: functions with undefined global names ("holes"), and copies of them in which these are defined.

Numba compiles such copies.  Its caches on disk check neither globals nor other files, so the name of each copy ends in
a fingerprint of the sources it is made from: after a formula is edited, the machine code of the old one is never used.
"""

import contextlib
import hashlib
import types


def fingerprint(sources) -> str:
    """Digest of source files."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(source.read_bytes())
    return digest.hexdigest()[:12]


def filled(template, name, holes):
    """A copy of `template` in which the names in `holes` are defined as it says.

    `name` must be unique among all copies: symbols are named after it, and if two kernels from the cache contain the
    same symbol, the linker keeps only one.
    """
    copy = types.FunctionType(template.__code__, {**template.__globals__, **holes}, template.__name__)
    copy.__module__ = template.__module__
    copy.__qualname__ = name
    copy.__doc__ = template.__doc__
    return copy


class Forgiving:
    """Mixed in before one of Numba's disk caches: if it can't be read or written, the kernel is compiled again, and the
    call succeeds."""

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a truncated or unrelated file may fail in any way
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError:
            pass
        except Exception:  # the index is damaged: start a new one
            with contextlib.suppress(Exception):
                self.flush()
                super().save_overload(sig, data)
