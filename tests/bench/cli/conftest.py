from __future__ import annotations

import pytest
from typer.testing import CliRunner
from zsad.bench.cli.app import app


@pytest.fixture
def call():
    """A function that calls `zsad` with words; errors of zsad are raised."""

    def invoke(*words):
        result = CliRunner().invoke(app, [str(word) for word in words])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke
