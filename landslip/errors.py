"""One root, one class per kind of refusal. A message names the file, both values and the remedy.

The command line prints the message of any `LandslipError` and leaves with exit code 2; anything else is a bug.
"""

HEAD, TAIL = 1500, 500  # characters that are shown of a message that repeats what is no name or number of a person's


class LandslipError(Exception):
    """Root of everything landslip refuses."""

    def __init__(self, message: str = "") -> None:
        long = len(message) > HEAD + TAIL
        super().__init__(f"{message[:HEAD]} ... {message[-TAIL:]}" if long else message)


class SiteError(LandslipError):
    """A site file, or an input that it names, cannot be used."""


class RunError(LandslipError):
    """A run file, or a flag that overrides it, cannot be used."""


class RasterError(LandslipError):
    """A raster is missing, truncated or lacks what is asked of it."""


class PatchError(LandslipError):
    """A data set of patches cannot be imported."""


class VectorError(LandslipError):
    """A vector file is missing, unreadable or lacks what is asked of it."""


class GridError(LandslipError):
    """Two layers do not lie on one grid, or a grid cannot be used."""


class ChannelError(LandslipError):
    """A stack's channels are not the ones asked for."""


class LabelError(LandslipError):
    """The landslides given cannot train or score a map."""


class SplitError(LandslipError):
    """The site cannot be split as asked."""


class ModelError(LandslipError):
    """A model folder is missing, altered, or does not fit what it is used on."""


class TrainingError(LandslipError):
    """Training cannot go on (a loss that is not finite, say)."""


class OutputError(LandslipError):
    """An output exists already, or cannot be written (disk full, read-only)."""


class ResumeError(LandslipError):
    """What a killed run left behind does not belong to the run asked for."""


class ReviewError(LandslipError):
    """A decision on a landslide cannot be taken."""


class ConflictError(ReviewError):
    """A decision was made on a state that another window has changed meanwhile."""


class DependencyError(LandslipError):
    """An optional library is needed and not installed."""
