"""Shape checking of jaxtyping signatures: on in tests, free of cost elsewhere.

`DFM_CHECK_SHAPES=1`, set before dfm is imported, turns it on (tests/conftest.py does) and needs beartype.
Decorate functions and methods, never a whole Linen class; under `@nn.compact`, `@typechecked` goes below it.
"""

import os
from collections.abc import Callable
from typing import TypeVar

Function = TypeVar("Function", bound=Callable)

CHECK_SHAPES = os.environ.get("DFM_CHECK_SHAPES") == "1"


def typechecked(function: Function) -> Function:
    """Checks types and shapes of arguments and result at each call (or trace) when checking is on."""
    if not CHECK_SHAPES:
        return function
    from beartype import beartype
    from jaxtyping import jaxtyped

    return jaxtyped(typechecker=beartype)(function)
