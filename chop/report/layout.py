"""A layered drawing of a directed acyclic graph (Sugiyama, Tagawa, Toda 1981)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Box", "Drawing", "Point", "draw_layers"]

_GAP, _LAYER_GAP, _MARGIN = 28.0, 44.0, 16.0
# Width that an edge takes where it passes a layer.
_LANE = 8.0
_SWEEPS = 12

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A node's place: its left upper corner and its size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Drawing:
    """`routes`: for each edge (from, to) the points that it passes, from box to box."""

    width: float
    height: float
    boxes: Mapping[str, Box]
    routes: Mapping[tuple[str, str], tuple[Point, ...]]


def draw_layers(
    sizes: Mapping[str, tuple[float, float]],
    edges: Sequence[tuple[str, str]],
    layer_gap: float = _LAYER_GAP,
) -> Drawing:
    """Places nodes of the given (width, height), named in topological order, from top to bottom.

    A node's layer is its longest path from a source; a source is put just above its first reader.
    Within the layers, crossings are reduced by barycentres and edges are straightened. An edge over
    several layers gets a lane of its own through each.
    """
    return _Layout(sizes, edges, layer_gap).draw()


class _Layout:
    def __init__(
        self,
        sizes: Mapping[str, tuple[float, float]],
        edges: Sequence[tuple[str, str]],
        layer_gap: float,
    ) -> None:
        self._gap = layer_gap
        self._sizes = dict(sizes)
        self._edges = list(dict.fromkeys(edges))
        self._rank = self._ranks()
        self._chains: dict[tuple[str, str], list[str]] = {}
        self._layers = self._fill()
        self._above, self._below = self._neighbours()
        self._x: dict[str, float] = {}

    def draw(self) -> Drawing:
        self._order()
        self._place()
        tops, y = [], _MARGIN
        for layer in self._layers:
            tops.append(y)
            y += max(self._sizes[name][1] for name in layer) + self._gap
        left = min(self._x[n] - self._sizes[n][0] / 2 for n in self._x) - _MARGIN
        right = max(self._x[n] + self._sizes[n][0] / 2 for n in self._x) + _MARGIN
        boxes = {}
        for name, rank in self._rank.items():
            width, height = self._sizes[name]
            boxes[name] = Box(self._x[name] - width / 2 - left, tops[rank], width, height)
        routes = {
            edge: self._route(edge, boxes, tops, left) for edge in self._edges if edge[0] != edge[1]
        }
        return Drawing(right - left, y - self._gap + _MARGIN, boxes, routes)

    def _ranks(self) -> dict[str, int]:
        rank = dict.fromkeys(self._sizes, 0)
        for name in rank:
            rank[name] = max((rank[a] + 1 for a, b in self._edges if b == name), default=0)
        fed = {b for _, b in self._edges}
        for name in rank:
            readers = [rank[b] for a, b in self._edges if a == name]
            if name not in fed and readers:
                rank[name] = min(readers) - 1
        return rank

    def _fill(self) -> list[list[str]]:
        """Returns the layers, with a stand-in wherever an edge passes one."""
        layers: list[list[str]] = [[] for _ in range(max(self._rank.values(), default=0) + 1)]
        for name, rank in self._rank.items():
            layers[rank].append(name)
        for a, b in self._edges:
            chain = [a]
            for rank in range(self._rank[a] + 1, self._rank[b]):
                name = f"{a}\n{b}\n{rank}"  # No node's name has a line break.
                self._sizes[name] = (_LANE, 0.0)
                layers[rank].append(name)
                chain.append(name)
            self._chains[(a, b)] = [*chain, b]
        return layers

    def _neighbours(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        above: dict[str, list[str]] = {name: [] for layer in self._layers for name in layer}
        below: dict[str, list[str]] = {name: [] for layer in self._layers for name in layer}
        for chain in self._chains.values():
            for a, b in pairwise(chain):
                below[a].append(b)
                above[b].append(a)
        return above, below

    def _order(self) -> None:
        """Sorts layers by the mean place of the neighbours; keeps the order of fewest crossings."""
        best, fewest = [list(layer) for layer in self._layers], self._crossings()
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            near = self._above if down else self._below
            pairs = list(pairwise(self._layers))
            for upper, lower in pairs if down else reversed(pairs):
                fixed, layer = (upper, lower) if down else (lower, upper)
                place = {name: i for i, name in enumerate(fixed)}
                own = {name: i for i, name in enumerate(layer)}
                layer.sort(key=lambda n: (_mean([place[m] for m in near[n]], own[n]), own[n]))
            crossings = self._crossings()
            if crossings < fewest:
                best, fewest = [list(layer) for layer in self._layers], crossings
        self._layers = best

    def _crossings(self) -> int:
        count = 0
        for upper, lower in pairwise(self._layers):
            place = {name: i for i, name in enumerate(lower)}
            ends = [place[b] for a in upper for b in sorted(self._below[a], key=place.__getitem__)]
            count += sum(a > b for i, a in enumerate(ends) for b in ends[i + 1 :])
        return count

    def _place(self) -> None:
        for layer in self._layers:
            self._pack(layer, {name: 0.0 for name in layer})
        for sweep in range(_SWEEPS):
            down = sweep % 2 == 0
            near = self._above if down else self._below
            for layer in self._layers if down else reversed(self._layers):
                wanted = {n: _mean([self._x[m] for m in near[n]], self._x[n]) for n in layer}
                self._pack(layer, wanted)

    def _pack(self, layer: list[str], wanted: Mapping[str, float]) -> None:
        """Sets x as near to what is wanted as order and gaps allow: least squares, by merging."""
        offsets, at = {}, 0.0
        for i, name in enumerate(layer):
            if i:
                before = layer[i - 1]
                at += (self._sizes[before][0] + self._sizes[name][0]) / 2 + _GAP
            offsets[name] = at
        groups: list[tuple[list[str], float]] = []
        for name in layer:
            members, x = [name], wanted[name] - offsets[name]
            while groups and groups[-1][1] > x:
                others, _ = groups.pop()
                members = others + members
                x = sum(wanted[m] - offsets[m] for m in members) / len(members)
            groups.append((members, x))
        for members, x in groups:
            for name in members:
                self._x[name] = x + offsets[name]

    def _route(
        self, edge: tuple[str, str], boxes: Mapping[str, Box], tops: Sequence[float], left: float
    ) -> tuple[Point, ...]:
        a, b = edge
        start, end = boxes[a], boxes[b]
        points = [(start.x + start.width / 2, start.y + start.height)]
        for i, name in enumerate(self._chains[edge][1:-1], self._rank[a] + 1):
            x = self._x[name] - left
            depth = max(self._sizes[n][1] for n in self._layers[i])
            points += [(x, tops[i]), (x, tops[i] + depth)]
        return (*points, (end.x + end.width / 2, end.y))


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else float(otherwise)
