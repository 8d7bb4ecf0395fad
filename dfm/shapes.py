"""Shape checking of jaxtyping signatures: on in tests, free of cost elsewhere.

What decodes a file takes Bool, Float, Int, Num and UInt8 from here: `Float[np.ndarray, "rows"]` is jaxtyping's where
shapes are checked, by tests or by mypy, and np.ndarray elsewhere, as its import is a tenth of the time of a decode.

`DFM_CHECK_SHAPES=1`, set before dfm is imported, turns it on (tests/conftest.py does) and needs beartype.
Decorate functions and methods, never a whole Linen class; under `@nn.compact`, `@typechecked` goes below it.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

Function = TypeVar("Function", bound=Callable)

CHECK_SHAPES = os.environ.get("DFM_CHECK_SHAPES") == "1"

if TYPE_CHECKING or CHECK_SHAPES:
    from jaxtyping import Bool as Bool
    from jaxtyping import Float as Float
    from jaxtyping import Int as Int
    from jaxtyping import Num as Num
    from jaxtyping import UInt8 as UInt8
else:

    class Unchecked:
        """An array of any shape and type."""

        def __class_getitem__(cls, words: tuple[Any, str]) -> Any:
            return words[0]

    Bool = Float = Int = Num = UInt8 = Unchecked


def typechecked(function: Function) -> Function:
    """Checks types and shapes of arguments and result at each call (or trace) when checking is on."""
    if not CHECK_SHAPES:
        return function
    from beartype import beartype
    from jaxtyping import jaxtyped

    return jaxtyped(typechecker=beartype)(function)
