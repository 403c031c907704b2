"""What a wrong call raises. A wrong packet raises nothing: it gets a verdict."""


class FastpathError(Exception):
    """The root of all errors of this package."""


class AddressError(FastpathError, ValueError):
    """A text or number that is no address, prefix or MAC."""


class ConfigError(FastpathError, ValueError):
    """A configuration that contradicts itself."""


class CaptureError(FastpathError, ValueError):
    """A file that is no capture, or of a kind that cannot be read."""


class TableFileError(FastpathError, ValueError):
    """A file or image that is no saved table, or a damaged one."""


class TableFull(FastpathError):
    """A bounded table has no room for an entry that the control plane wants in."""


class CaptureWarning(UserWarning):
    """A capture file that could be read in part only; says where it broke."""
