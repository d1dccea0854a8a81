"""The errors a user can meet, one class a failure.

Every message names the culprit (setting, symbol, date, column, file, row), what was expected, what was
found, and what to do. Code that only propagates them lives elsewhere.
"""

from __future__ import annotations


class FeatureAssetsError(Exception):
    """Base of every error this package raises on purpose."""


class SettingError(FeatureAssetsError):
    """A setting is wrong; the code location does not load."""


class ReplayError(FeatureAssetsError):
    """Replay bars miss a column, have a wrong type, or break the rules of a sound replay."""


class SourceError(FeatureAssetsError):
    """A day that is there cannot be read; iteration over the source can go on after it."""


class StoreError(FeatureAssetsError):
    """The store is another store than the settings say, or a file of it cannot be read."""


class MissingInputError(FeatureAssetsError):
    """A partition that a build reads is missing."""


class RefusedInputError(FeatureAssetsError):
    """A partition that a build reads carries a refusal marker."""


class StaleInputError(FeatureAssetsError):
    """A partition that a build reads was built from other inputs than there are now."""


class PartitionKeyError(FeatureAssetsError):
    """A partition key is not a date, a symbol, or a date and a symbol of the settings."""


class FeatureDeclarationError(FeatureAssetsError):
    """A feature's declaration contradicts the catalogue."""
