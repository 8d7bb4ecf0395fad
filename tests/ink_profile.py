"""A colour profile of inks, by hand: Pillow makes none."""

import struct


def cmyk_profile() -> bytes:
    """Ink to Lab through a table of two steps an ink: paper L=100, and all inks of L=100 (1 - most ink), a=b=0."""
    table = bytearray()
    for corner in range(16):
        lightness = 0 if corner else 255
        table += bytes([lightness, 128, 128])
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = (
        b"mft1"
        + struct.pack(">4xBBBx", 4, 3, 2)
        + identity
        + bytes(range(256)) * 4
        + bytes(table)
        + bytes(range(256)) * 3
    )
    text = b"desc" + struct.pack(">4xI", 5) + b"inks\0" + bytes(78)
    text += bytes(-len(text) % 4)
    entries = struct.pack(">4sII4sII", b"desc", 156, len(text), b"A2B0", 156 + len(text), len(lut))
    white = struct.pack(">3i", 63190, 65536, 54061)
    size = 156 + len(text) + len(lut)
    header = struct.pack(">I4xI4s4s4s12x4s28x12s48x", size, 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp", white)
    return header + struct.pack(">I", 2) + entries + text + lut
