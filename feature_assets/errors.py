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
    """Replay bars miss a column, have a wrong type, or break the rules of a sound replay.

    unseen: the text for a day that is to stay unseen, without the values of rows; the text itself where it has none.
    """

    def __init__(self, text: str, unseen: str = "") -> None:
        super().__init__(text)
        self.unseen = unseen or text


class SourceError(FeatureAssetsError):
    """A day that is there cannot be read; iteration over the source can go on after it.

    unseen: the text for a day that is to stay unseen. It must not hold the value of any row; names of files and columns
    and numbers of rows it may. Without it nothing of the text is shown of such a day.
    """

    def __init__(self, text: str, unseen: str = "") -> None:
        super().__init__(text)
        self.unseen = unseen or "the source's own text is not shown, as it may hold values of locked rows"


class StoreError(FeatureAssetsError):
    """The store is another store than the settings say, or a file of it cannot be read."""


class MissingInputError(FeatureAssetsError):
    """A partition that a build reads is missing."""


class RefusedInputError(FeatureAssetsError):
    """A partition that a build reads carries a refusal marker."""


class LockError(FeatureAssetsError):
    """The validation lock holds something else than what would be published, or cannot be read."""


class StaleInputError(FeatureAssetsError):
    """A partition that a build reads was built from other inputs than there are now."""


class PartitionKeyError(FeatureAssetsError):
    """A partition key is not a date, a symbol, or a date and a symbol of the settings."""


class FeatureDeclarationError(FeatureAssetsError):
    """A feature's declaration contradicts the catalogue."""


class ProofError(FeatureAssetsError):
    """A process that proves features ended before it was done."""
