"""The two subjects that are compared with other libraries: the package, and the oracle, which must be right itself."""

import pytest
import reference

import fastloss


class Oracle:
    """The oracle behind the package's interface."""

    @staticmethod
    def call(name, *arguments, **options):
        if name in ("log_softmax", "softmax", "logsumexp"):
            return getattr(reference, name)(*arguments, **options)
        return reference.loss(name, *arguments, **options)

    value_and_grad = staticmethod(reference.value_and_grad)


class Package:
    @staticmethod
    def call(name, *arguments, **options):
        return getattr(fastloss, name)(*arguments, **options)

    @staticmethod
    def value_and_grad(name, *arguments, **options):
        return fastloss.value_and_grad(getattr(fastloss, name))(*arguments, **options)


# Every comparison runs twice: for the oracle, to show that it is right, and for the package.
for_oracle_and_package = pytest.mark.parametrize("subject", [Oracle, Package], ids=["oracle", "package"])
