"""Names for signatures that carry shapes: ``Float[Tensor, "*batch n n"]``.

They mean what they mean in jaxtyping, which is used where it is installed, and imported when a
signature is resolved (`typing.get_type_hints`), not before; elsewhere they resolve to the class of
the array alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

__all__ = ["Bool", "Float", "Int64", "Integer", "Num", "SampleShape", "Shaped"]

SampleShape = int | list[int] | tuple[int, ...] | torch.Size

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int64, Integer, Num, Shaped
else:

    class _Annotation:
        """A name of jaxtyping's, looked up when it is subscripted."""

        def __init__(self, name: str) -> None:
            self.name = name

        def __getitem__(self, array_and_shape: tuple[type, str]) -> type:
            try:
                import jaxtyping
            except ModuleNotFoundError:
                return array_and_shape[0]
            return getattr(jaxtyping, self.name)[array_and_shape]

    Bool, Float, Int64, Integer, Num, Shaped = map(
        _Annotation, ("Bool", "Float", "Int64", "Integer", "Num", "Shaped")
    )
