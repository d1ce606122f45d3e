"""Each test runs on the backend that its name says, and so do the processes that it starts."""

import os

from fastloss import _config


def test_the_backend_is_the_one_in_the_name(request):
    name = request.node.callspec.params["backend"]
    assert _config.backend.get() == os.environ["FASTLOSS_BACKEND"] == name
