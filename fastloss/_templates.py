"""Templates: ordinary functions whose free names mean nothing yet, and copies of them in which they do.

What Numba compiles is made of such copies.  Its caches on disk look at neither globals nor other files, so every copy has a name of its
own that ends in a fingerprint of the sources it is made from: an edited formula is never answered with the machine code of the old one.
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
    """A copy of `template` in whose module the free names mean what `holes` says.

    Its name must tell it from all other copies: symbols are called after it, and where two kernels from the cache bring along
    the same symbol, the linker keeps one.
    """
    copy = types.FunctionType(template.__code__, {**template.__globals__, **holes}, template.__name__)
    copy.__module__ = template.__module__
    copy.__qualname__ = name
    copy.__doc__ = template.__doc__
    return copy


class Forgiving:
    """Put before one of Numba's caches on disk: one that can't be read or written costs a compilation, never an answer."""

    def load_overload(self, sig, target_context):
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a truncated or foreign file may fail in any way
            return None

    def save_overload(self, sig, data):
        try:
            super().save_overload(sig, data)
        except OSError:
            pass
        except Exception:  # the index is damaged: begin a new one
            with contextlib.suppress(Exception):
                self.flush()
                super().save_overload(sig, data)
