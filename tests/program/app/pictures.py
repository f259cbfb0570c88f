"""Pictures to try the page on."""

from __future__ import annotations

from io import BytesIO

from PIL import Image, ImageDraw


def digit(side: int = 280, ink: str = "white", ground: str = "black") -> Image.Image:
    """A seven drawn with a pen."""
    image = Image.new("RGB", (side, side), ground)
    corners = [(side * x, side * y) for x, y in ((0.3, 0.28), (0.68, 0.28), (0.45, 0.8))]
    ImageDraw.Draw(image).line(corners, fill=ink, width=side // 11, joint="curve")
    return image


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    """The bytes of a file of it."""
    out = BytesIO()
    image.save(out, kind)
    return out.getvalue()
