"""The filters of templates: few, bounded, and none that forgets who wrote a text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from motadata.core.errors import PromptTemplateError
from motadata.core.prompts._limits import Meter
from motadata.core.prompts._values import Untrusted, origin_of


if TYPE_CHECKING:
    from jinja2.runtime import Context

METER: Final = " meter"
"""Where a rendering's meter is among its variables; no variable has a name with a space."""
EACH: Final = "_each"
"""The filter that every loop goes through."""
WEIGHED: Final = "_weighed"
"""The filter that both sides of a comparison go through."""

Filter = Callable[..., object]

_MAX_DIGITS: Final = 12


def _capitalize(value: object) -> str:
    return _text("capitalize", value).capitalize()


def _first(value: object) -> object:
    items = _items("first", value)
    return items[0] if items else None


def _last(value: object) -> object:
    items = _items("last", value)
    return items[-1] if items else None


def _int(value: object, default: int = 0) -> int:
    try:
        return int(value) if isinstance(value, str | int | float) else default
    except ValueError:
        return default


def _join(value: object, separator: object = "") -> str:
    glue = _text("join", separator)
    return glue.join(str(item) for item in _items("join", value))


def _length(value: object) -> int:
    if isinstance(value, str | list | tuple | Mapping):
        return len(value)
    raise _unfit("length", value)


def _lower(value: object) -> str:
    return _text("lower", value).lower()


def _round(value: object, digits: int = 0) -> object:
    if not isinstance(value, int | float):
        raise _unfit("round", value)
    rounded = round(value, max(-_MAX_DIGITS, min(_MAX_DIGITS, digits)))
    return int(rounded) if digits <= 0 else rounded


def _sort(value: object, key: object = None) -> list[object]:
    items = list(_items("sort", value))
    if key is None:
        keys = items
    elif all(isinstance(item, Mapping) and key in item for item in items):
        keys = [item[key] for item in items if isinstance(item, Mapping)]
    else:
        raise _unfit("sort", value)
    if not all(isinstance(item, str) for item in keys) and not all(
        isinstance(item, int | float) for item in keys
    ):
        raise _unfit("sort", value)
    order = sorted(range(len(items)), key=keys.__getitem__)  # type: ignore[arg-type]  # checked above
    return [items[position] for position in order]


def _title(value: object) -> str:
    return _text("title", value).title()


def _tojson(value: object, indent: int | None = None) -> str:
    width = None if indent is None else max(0, min(8, int(indent)))
    return json.dumps(value, ensure_ascii=False, indent=width, allow_nan=False)


def _trim(value: object) -> str:
    return _text("trim", value).strip()


def _truncate(value: object, length: int = 255) -> str:
    text = _text("truncate", value)
    if length < 1:
        raise _unfit("truncate", length)
    return text if len(text) <= length else text[: length - 1] + "…"


def _upper(value: object) -> str:
    return _text("upper", value).upper()


_FILTERS: Final[Mapping[str, Filter]] = {
    "capitalize": _capitalize,
    "first": _first,
    "int": _int,
    "join": _join,
    "last": _last,
    "length": _length,
    "lower": _lower,
    "round": _round,
    "sort": _sort,
    "title": _title,
    "tojson": _tojson,
    "trim": _trim,
    "truncate": _truncate,
    "upper": _upper,
}


def metered_filters() -> dict[str, Filter]:
    """Return the filters by name, each charging the meter and keeping texts marked."""
    filters = {name: _metered(function) for name, function in _FILTERS.items()}
    return {**filters, EACH: _each_filter(), WEIGHED: _weighed_filter()}


def meter_of(context: Context) -> Meter:
    """Return the meter of the rendering that a context belongs to."""
    meter = context.get(METER)
    assert isinstance(meter, Meter)
    return meter


def _metered(function: Filter) -> Filter:
    from jinja2 import pass_context
    from jinja2.runtime import Undefined

    @pass_context
    def run(context: Context, value: object, *args: object, **options: object) -> object:
        if isinstance(value, Undefined):
            # Raises, and says what is missing.
            str(value)
        given = (value, *args, *options.values())
        meter = meter_of(context)
        # Before, so that what is too much is not begun: a glue is repeated between all items.
        repeats = len(value) if isinstance(value, list | tuple) else 1
        meter.weigh(value)
        meter.weigh(given[1:], times=max(1, repeats))
        result = function(value, *args, **options)
        origin = origin_of(given)
        if isinstance(result, str) and origin is not None:
            return Untrusted.of(result, origin)
        return result

    return run


def _each_filter() -> Filter:
    from jinja2 import pass_context
    from jinja2.runtime import Undefined

    @pass_context
    def each(context: Context, value: object) -> Iterable[object]:
        if isinstance(value, Undefined):
            str(value)
        if not isinstance(value, list | tuple | Mapping):
            raise _unfit("for", value)
        return _turns(value, meter_of(context))

    return each


def _weighed_filter() -> Filter:
    from jinja2 import pass_context

    @pass_context
    def weighed(context: Context, value: object) -> object:
        meter_of(context).weigh(value)
        return value

    return weighed


def _turns(items: Iterable[object], meter: Meter) -> Iterator[object]:
    for item in items:
        meter.turn()
        yield item


def _text(name: str, value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return str(value)
    raise _unfit(name, value)


def _items(name: str, value: object) -> list[object] | tuple[object, ...]:
    if isinstance(value, list | tuple):
        return value
    raise _unfit(name, value)


def _unfit(name: str, value: object) -> PromptTemplateError:
    kind = "str" if isinstance(value, str) else type(value).__name__
    message = f"{name!r} is applied to a value of the type {kind}."
    return PromptTemplateError(message, remedy="Look at what its variable holds.")
