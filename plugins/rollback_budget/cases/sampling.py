"""Choosing cases that cover: every slice its share, and within a slice the texts that differ most."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

_T = TypeVar("_T")
#: Characters of a text that are compared; the rest of a long one rarely distinguishes requests.
COMPARED = 4000
_GRAM = 4
#: Texts are compared by this many of their hashed n-grams: a sketch that keeps their overlap.
_SKETCH = 64


def select_diverse(
    items: Sequence[_T], limit: int, *, slice_of: Callable[[_T], Hashable], text_of: Callable[[_T], str]
) -> list[_T]:
    """Return at most ``limit`` of ``items``, in their order.

    Slices share the limit as evenly as they can, the small ones whole. Within a slice the first is the most
    typical one, and each next one is the one least like those chosen (greedy k-centre: Gonzalez, 1985). The
    order of ``items`` decides nothing but ties between equal texts.
    """
    if len(items) <= limit:
        return list(items)
    by_slice: dict[Hashable, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        by_slice[slice_of(item)].append(place)
    chosen: list[int] = []
    shares = _shares({name: len(places) for name, places in by_slice.items()}, limit)
    for name, places in by_slice.items():
        texts = [text_of(items[place]) for place in places]
        chosen += (places[at] for at in _farthest_first(texts, shares[name]))
    return [items[place] for place in sorted(chosen)]


def _shares(sizes: dict[Hashable, int], limit: int) -> dict[Hashable, int]:
    """Return how many each slice may give: nothing is left over while a slice has more."""
    shares = dict.fromkeys(sizes, 0)
    left = limit
    # The largest slices first, so that with more slices than places the common ones have a case.
    order = sorted(sizes, key=lambda name: (-sizes[name], str(name)))
    while left > 0:
        open_slices = [name for name in order if shares[name] < sizes[name]]
        if not open_slices:
            break
        for name in open_slices[:left]:
            shares[name] += 1
        left -= min(left, len(open_slices))
    return shares


def _farthest_first(texts: Sequence[str], count: int) -> list[int]:
    """Return the places of ``count`` texts that are as unlike one another as a greedy choice finds."""
    if count <= 0:
        return []
    sketches = [_sketch(text) for text in texts]
    # Equal texts in whatever order give the same choice.
    order = sorted(range(len(texts)), key=lambda at: (texts[at], at))
    chosen = [_most_typical(sketches, order)]
    distance = {at: _distance(sketches[at], sketches[chosen[0]]) for at in order if at != chosen[0]}
    while len(chosen) < count and distance:
        farthest = max(distance, key=distance.__getitem__)
        del distance[farthest]
        chosen.append(farthest)
        for at in distance:
            distance[at] = min(distance[at], _distance(sketches[at], sketches[farthest]))
    return chosen


def _most_typical(sketches: Sequence[frozenset[int]], order: Sequence[int]) -> int:
    """Return the place of the text that shares most with all others."""
    shared: dict[int, int] = defaultdict(int)
    for sketch in sketches:
        for gram in sketch:
            shared[gram] += 1
    return max(order, key=lambda at: sum(shared[gram] for gram in sketches[at]) / (len(sketches[at]) or 1))


def _sketch(text: str) -> frozenset[int]:
    """Return the smallest hashes of a text's character n-grams: a fair sample of them."""
    plain = f" {' '.join(text[:COMPARED].casefold().split())} "
    grams = {plain[at : at + _GRAM] for at in range(max(len(plain) - _GRAM + 1, 1))}
    return frozenset(sorted(_hash(gram) for gram in grams)[:_SKETCH])


def _hash(gram: str) -> int:
    # Python's own hash differs from one process to the next.
    return zlib.crc32(gram.encode("utf-8", "surrogatepass"))


def _distance(one: frozenset[int], other: frozenset[int]) -> float:
    """Return 1 less the Jaccard similarity of two sketches."""
    both = len(one & other)
    return 1.0 - both / (len(one) + len(other) - both)
