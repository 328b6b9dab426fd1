"""Named errors, each in three parts: what was given, what is needed, what to do."""


class DynFocusError(Exception):
    """A mistake that a user can mend; its message says what was given, what is needed and what to do."""

    def __init__(self, given: str, needed: str, do: str) -> None:
        super().__init__(f"{given}. Needed: {needed}. {do}")
        self.given, self.needed, self.do = given, needed, do

    def __reduce__(
        self,
    ) -> tuple[type, tuple[str, str, str]]:  # exceptions cross the process borders of data loader workers
        return type(self), (self.given, self.needed, self.do)


class ConfigError(DynFocusError):
    """A setting that cannot be used, alone or beside another."""


class CheckpointError(DynFocusError):
    """Weights that are absent, incomplete or of another shape than the model."""


class DataError(DynFocusError):
    """An annotation row or file that does not fit its format."""


class PathEscapeError(DataError):
    """A path that leads out of the folder that it has to stay in."""


class NoTargetError(DataError):
    """A row that fits its format and holds no answer to learn from."""


class VideoError(DynFocusError):
    """A video or image that cannot be read, or holds no frame."""


class MissingFileError(VideoError):
    """A video or image that is not there."""


class PromptError(DynFocusError):
    """A prompt that does not fit: too long, or its placeholders do not match the visual tokens."""


class ContextLengthError(PromptError):
    """A prompt that is longer than the language model's context."""


class FeatureError(DynFocusError):
    """Features that are not finite numbers, or not of the expected shape."""


class DiskError(DynFocusError):
    """A file that cannot be written, such as for want of room, or a store that cannot be read."""
