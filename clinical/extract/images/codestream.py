"""The size that compressed pixels say they have, before a decoder believes them.

The header of a DICOM file may say 64 x 64 where its JPEG says 60,000 x 60,000.
"""

import struct

# The markers of a JPEG frame's header (SOF), that of JPEG-LS included.
_FRAMES = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}


def coded_size(frame: bytes) -> tuple[int, int]:
    """Height and width of a JPEG, JPEG-LS or JPEG 2000 frame.

    Raises:
        ValueError: It is none of these.
        struct.error: It ends too early.
    """
    if frame[:2] == b"\xff\xd8":
        return _jpeg_size(frame)
    # JPEG 2000 as it stands in DICOM, or wrapped in boxes as in a file of its own.
    start = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
    if start == 0 or (start > 0 and frame[4:8] == b"jP  "):
        right, bottom, left, top = struct.unpack_from(">4I", frame, start + 8)
        return bottom - top, right - left
    raise ValueError("neither JPEG nor JPEG 2000")


def _jpeg_size(frame: bytes) -> tuple[int, int]:
    at = 2
    while True:
        fill, marker = struct.unpack_from("BB", frame, at)
        if fill != 0xFF:
            raise ValueError("no marker where one belongs")
        if marker == 0xFF:  # fill bytes may stand before a marker
            at += 1
        elif marker in _WITHOUT_LENGTH:
            at += 2
        elif marker in _FRAMES:
            height, width = struct.unpack_from(">HH", frame, at + 5)
            return height, width
        else:
            at += 2 + struct.unpack_from(">H", frame, at + 2)[0]
