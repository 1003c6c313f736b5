"""Reads image files that lie in the image root, and refuses every other path and thing."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import re
import stat
import unicodedata
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:  # pydantic would cost every decoding process half a second
    from labelclean.config import DecodeConfig


class ReasonCode(StrEnum):
    """Why an image is refused; the values of `reason_code` in `rejects`."""

    NO_IMAGE = "no_image"  #: the row holds neither a path nor image bytes
    ABSOLUTE_PATH = "absolute_path"  #: the path does not start at the image root
    PARENT_PATH = "parent_path"  #: the path holds a `..` part
    NUL_IN_PATH = "nul_in_path"  #: the path holds a NUL character
    WINDOWS_PATH = "windows_path"  #: the path holds a backslash or a drive letter
    OUTSIDE_ROOT = "outside_root"  #: a symbolic link leads out of the image root
    MISSING = "missing"  #: there is no such file
    NOT_A_FILE = "not_a_file"  #: a folder, pipe, socket or device
    PERMISSION = "permission"  #: the file may not be read
    UNREADABLE = "unreadable"  #: the file system gave another error
    EMPTY = "empty"  #: zero bytes
    TOO_MANY_BYTES = "too_many_bytes"  #: larger than decode.max_bytes
    NOT_AN_IMAGE = "not_an_image"  #: not PNG, JPEG, BMP, TIFF or WebP, whatever its name says
    TOO_MANY_PIXELS = "too_many_pixels"  #: larger than decode.max_pixels
    SEVERAL_PAGES = "several_pages"  #: several pages or frames, and decode.page is `refuse`
    UNSUPPORTED_MODE = "unsupported_mode"  #: a pixel format that cannot be read without loss
    TRANSPARENT = "transparent"  #: every pixel is fully transparent, so that nothing can be seen
    TRUNCATED = "truncated"  #: the file ends early
    DAMAGED = "damaged"  #: the decoder cannot make sense of it
    NOT_FINITE = "not_finite"  #: floating-point pixels that are NaN or infinite
    OUT_OF_RANGE = "out_of_range"  #: pixel values that the window would clip
    OUT_OF_MEMORY = "out_of_memory"  #: decoding needs more memory than there is
    BOX_EMPTY = "box_empty"  #: a box without area
    BOX_OUTSIDE = "box_outside"  #: a box whose middle lies outside its image
    DECODER_CRASHED = "decoder_crashed"  #: the decoding process died, twice
    DECODE_TIMEOUT = "decode_timeout"  #: longer than decode.timeout_s


class ImageReject(Exception):  # noqa: N818 - a refusal, not an error: the run goes on
    """One image cannot be used; caught where the image's path and sample are known.

    Attributes:
        reason_code: Which of the closed list.
        message: What was wanted, what was found and what to do.
    """

    def __init__(self, reason_code: ReasonCode, message: str) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.message = message


def content_hash(data: bytes) -> str:
    """Return the SHA-256 of an image file's bytes.

    Args:
        data: The file.

    Returns:
        64 hexadecimal digits.

    Examples:
        >>> content_hash(b"")[:12]
        'e3b0c44298fc'
    """
    return hashlib.sha256(data).hexdigest()


def read_image_bytes(image_root: Path, image_path: str, policy: DecodeConfig) -> bytes:
    """Return the bytes of an image file that lies in the image root.

    Args:
        image_root: Folder that no path may leave, not even through a symbolic link.
        image_path: Path below it, with forward slashes. Where the exact name is missing, its
            composed and decomposed Unicode forms (NFC, NFD) are tried.
        policy: Gives the size limit.

    Returns:
        The whole file.

    Raises:
        ImageReject: If the path is unsafe or the file missing, empty, too large, no regular
            file or not readable.
    """
    with open_image_file(image_root, image_path, policy) as file:
        data = file.read(policy.max_bytes + 1)
    if len(data) > policy.max_bytes:
        raise _too_many_bytes(len(data), policy)
    return data


def hash_image_file(image_root: Path, image_path: str, policy: DecodeConfig) -> str:
    """Return the SHA-256 of an image file without holding it in memory.

    Args:
        image_root: As for `read_image_bytes`.
        image_path: As for `read_image_bytes`.
        policy: Gives the size limit.

    Returns:
        64 hexadecimal digits.

    Raises:
        ImageReject: As for `read_image_bytes`.
    """
    with open_image_file(image_root, image_path, policy) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def unusable_images(image_root: Path, image_paths: Iterable[str], policy: DecodeConfig) -> dict[str, str]:
    """Return which image files cannot be opened; nothing is decoded.

    Args:
        image_root: As for `read_image_bytes`.
        image_paths: Paths below it.
        policy: Gives the size limit.

    Returns:
        Why, by path.
    """
    refused = {}
    for path in image_paths:
        try:
            open_image_file(image_root, path, policy).close()
        except ImageReject as reject:
            refused[path] = reject.message
    return refused


def open_image_file(image_root: Path, image_path: str, policy: DecodeConfig) -> io.BufferedReader:
    """Open a regular, readable, non-empty, not too large file below the root.

    Args:
        image_root: As for `read_image_bytes`.
        image_path: As for `read_image_bytes`.
        policy: Gives the size limit.

    Returns:
        The file, for the caller to close.

    Raises:
        ImageReject: As for `read_image_bytes`.
    """
    check_image_path(image_path)
    try:
        place = _resolved(image_root, image_path)
        _check_regular(place.stat(), policy)
        flags = ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY")  # a pipe swapped in now must not block
        descriptor = os.open(place, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))
        file = os.fdopen(descriptor, "rb")
        try:
            _check_regular(os.fstat(descriptor), policy)
        except ImageReject:
            file.close()
            raise
        return file
    except (OSError, RuntimeError) as fault:  # RuntimeError: a loop of symbolic links, before Python 3.13
        _refuse_system_error(fault)


def check_image_path(image_path: str) -> None:
    """Refuse a path that is not a plain relative path with forward slashes.

    Args:
        image_path: As written in the labels table.

    Raises:
        ImageReject: If it is absolute, climbs, or is written for Windows.

    Examples:
        >>> check_image_path("line_3/傷_0017.png")
    """
    if "\0" in image_path:
        code, found = ReasonCode.NUL_IN_PATH, "it holds a NUL character"
    elif image_path.startswith("/"):
        code, found = ReasonCode.ABSOLUTE_PATH, "it is absolute"
    elif "\\" in image_path or re.match(r"[A-Za-z]:", image_path):
        code, found = ReasonCode.WINDOWS_PATH, "it holds a backslash or a drive letter"
    elif ".." in PurePosixPath(image_path).parts:
        code, found = ReasonCode.PARENT_PATH, "it holds a '..' part"
    else:
        return
    raise ImageReject(
        code,
        f"image_path must be relative to data.image_root, with forward slashes, but {found}; "
        "write the path as seen from the image root.",
    )


def _resolved(image_root: Path, image_path: str) -> Path:
    """The real place of a file, all symbolic links followed, if it lies in the root."""
    root = image_root.resolve()
    forms = dict.fromkeys([image_path, *(unicodedata.normalize(form, image_path) for form in ("NFC", "NFD"))])
    place = root / next((form for form in forms if os.path.lexists(root / form)), image_path)
    place = place.resolve(strict=True)
    if not place.is_relative_to(root):
        raise ImageReject(
            ReasonCode.OUTSIDE_ROOT,
            "the file must lie in data.image_root, but a symbolic link leads out of it; copy the file into the root.",
        )
    return place


def _check_regular(status: os.stat_result, policy: DecodeConfig) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ImageReject(
            ReasonCode.NOT_A_FILE,
            "image_path must name a regular file, but names a folder, pipe, socket or device; correct the path.",
        )
    if status.st_size == 0:
        raise ImageReject(ReasonCode.EMPTY, "the file must hold an image, but has 0 bytes; copy it again.")
    if status.st_size > policy.max_bytes:
        raise _too_many_bytes(status.st_size, policy)


def _too_many_bytes(found: int, policy: DecodeConfig) -> ImageReject:
    return ImageReject(
        ReasonCode.TOO_MANY_BYTES,
        f"the file may have {policy.max_bytes:,} bytes (decode.max_bytes), but has {found:,} or more; "
        "raise the limit if such images are meant.",
    )


def _refuse_system_error(fault: OSError | RuntimeError) -> NoReturn:
    """Turn the file system's refusal into ours."""
    if isinstance(fault, (FileNotFoundError, NotADirectoryError)):
        reject = ImageReject(
            ReasonCode.MISSING,
            "the file must exist in data.image_root, but there is none; copy it there or correct image_path.",
        )
    elif isinstance(fault, PermissionError):
        reject = ImageReject(
            ReasonCode.PERMISSION, "the file must be readable, but permission is denied; change its permissions."
        )
    else:
        number = fault.errno if isinstance(fault, OSError) else errno.ELOOP
        text = os.strerror(number or errno.EIO)
        reject = ImageReject(ReasonCode.UNREADABLE, f"the file must be readable, but: {text}; check path and disk.")
    raise reject from None
