"""Fixtures for all tests."""

from tests.broker_fixtures import (  # noqa: F401 - pytest finds fixtures by name
    broker,
    broker_factory,
    proxy,
    pytest_report_header,
    raw_client,
)
