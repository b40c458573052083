"""The errors people can cause: each says what was wrong, what was given and what would work."""


class T2VError(Exception):
    """Base of every error that a person can mend. The command line prints it as one line and exits 1."""


class SettingsError(T2VError):
    """A recipe, an option or a `--set` holds a name or a value that t2v does not know."""


class DatasetError(T2VError):
    """A folder of clips cannot be trained on as it is."""


class ClipError(T2VError):
    """One file cannot be read or written as a clip."""


class TextEncoderError(T2VError):
    """The text encoder cannot be found, or its files are not the ones expected."""


class CheckpointError(T2VError):
    """A checkpoint is missing, broken or of another kind."""


class RunError(T2VError):
    """A run folder cannot be started, resumed or extended as asked."""


class GenerationError(T2VError):
    """A prompt with these settings cannot be generated."""
