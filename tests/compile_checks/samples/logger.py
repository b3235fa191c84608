"""A call to a logger."""

import logging

_LOGGER = logging.getLogger(__name__)


def audited(x):
    _LOGGER.debug("called")  # finding: graph-break GB0291
    return x + 1
