"""What goes wrong, and says what, where, and what to do."""


class Error(Exception):
    """Any error of nnc."""


class ModelError(Error):
    """A model cannot be read or compiled."""


class SettingError(Error, ValueError):
    """What is asked of the compiler does not fit the model, or there is no such thing."""


class InputError(Error, ValueError):
    """The inputs or outputs of a run are not what the model takes, or its data turned out to be wrong."""


class ArtefactError(Error):
    """A compiled program is refused: damaged, of another version, or for another processor."""


class ResourceError(Error, RuntimeError):
    """There are not so many threads, or there is not so much memory."""
