"""A schedule within budgets: the shortest interval that fits, or the reason why none does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chop.errors import ConfigError
from chop.ir.meta import Cost, Folding
from chop.ops.base import RomOptions
from chop.schedule.costs import unit_costs
from chop.schedule.folding import choose_foldings, intervals, least_cost
from chop.schedule.options import HardwareOptions
from chop.schedule.plan import Plan, UnevenError, make_plan
from chop.schedule.units import Dataflow

__all__ = ["Budget", "Scheduled", "schedule"]

_WORDS = {"luts": "LUTs", "ffs": "flip-flops", "dsps": "DSPs", "brams": "block RAMs"}
# How many of the largest layers a refusal names.
_NAMED = 3
# Over how many intervals, evenly spread over all, the search begins.
_PROBES = 8
_SMALLER = "use fewer bits, a smaller network or a larger budget"


@dataclass(frozen=True, slots=True)
class Budget:
    """What a design may take at most; a resource that is not in `limits` is not limited.

    `limits` are by the names of `Cost`; `who` says where the limit of each comes from.
    """

    limits: Mapping[str, int]
    who: Mapping[str, str]

    def exceeded(self, cost: Cost) -> bool:
        """Returns whether the cost is too much of anything."""
        return any(getattr(cost, name) > most for name, most in self.limits.items())

    def scarcest(self, cost: Cost) -> str:
        """Returns the resource of which the cost takes the largest share."""
        return max(self.limits, key=lambda name: getattr(cost, name) / max(self.limits[name], 1))


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A plan and the estimate of what each of its units costs, streams included."""

    plan: Plan
    costs: Mapping[str, Cost]

    @property
    def total(self) -> Cost:
        return sum(self.costs.values(), Cost())


def schedule(
    dataflow: Dataflow, options: HardwareOptions, rom: RomOptions, budget: Budget
) -> Scheduled:
    """Returns the schedule of a design.

    With an interval as target: that one. Else, with a budget of resources, the shortest interval
    whose estimate keeps it, as far as probing finds it (of `_PROBES` intervals the shortest that
    fits, then bisection before it). Raises ConfigError where the target, or every interval probed,
    exceeds the budget.
    """
    search = _Search(dataflow, options, rom, budget)
    if not budget.limits:
        return search.made(options)
    if options.target_initiation_interval is not None:
        asked = search.made(options)
        if not budget.exceeded(asked.total):
            return asked
        found = search.shortest()
        what = f"hardware: target_initiation_interval = {options.target_initiation_interval}"
        if found is None:
            raise search.refusal(what, asked, f"no interval fits, {_SMALLER}")
        interval = found.plan.initiation_interval
        raise search.refusal(what, asked, f"use an interval of {interval} or more")
    found = search.shortest()
    if found is None:
        closest = search.closest()
        interval = closest.plan.initiation_interval
        what = f"hardware: the smallest design found, a sample every {interval} cycles,"
        raise search.refusal(what, closest, _SMALLER)
    return found


class _Search:
    def __init__(
        self, dataflow: Dataflow, options: HardwareOptions, rom: RomOptions, budget: Budget
    ) -> None:
        self._dataflow = dataflow
        self._options = options
        self._rom = rom
        self._budget = budget
        self._found: dict[int, Scheduled] = {}
        target = options.target_initiation_interval
        free = options.model_copy(update={"target_initiation_interval": None})
        every = [n for n in intervals(dataflow, free) if target is None or n > target]
        # What costs too much without any queue needs no closer look.
        self._intervals = [
            n
            for n in every
            if not budget.limits or not budget.exceeded(least_cost(dataflow, free, rom, n))
        ] or every[-1:]

    def made(self, options: HardwareOptions) -> Scheduled:
        plan = self._plan(options)
        return Scheduled(plan, unit_costs(self._dataflow, plan))

    def _plan(self, options: HardwareOptions) -> Plan:
        """Returns a plan in which no samples take turns.

        A unit that gives them in turns at the interval of the others does not at its own: so all
        get that one, if the budget of multipliers allows it, else the unit gets other lanes.
        """
        uneven: list[tuple[str, Folding]] = []
        while True:
            foldings = choose_foldings(self._dataflow, options, self._rom, uneven)
            try:
                return make_plan(self._dataflow, foldings, self._rom)
            except UnevenError as error:
                found = error
            update = {"target_initiation_interval": found.folding.cycles}
            try:
                faster = choose_foldings(
                    self._dataflow, options.model_copy(update=update), self._rom, uneven
                )
                return make_plan(self._dataflow, faster, self._rom)
            except ConfigError:
                uneven.append((found.node, found.folding))

    def shortest(self) -> Scheduled | None:
        """Returns the schedule of the shortest interval that fits."""
        count = len(self._intervals)
        low = 0
        for probe in sorted({(count - 1) * i // (_PROBES - 1) for i in range(_PROBES)}):
            if self._fits(self._intervals[probe]):
                break
            low = probe + 1
        else:
            return None
        high = probe
        while low < high:
            middle = (low + high) // 2
            if self._fits(self._intervals[middle]):
                high = middle
            else:
                low = middle + 1
        return self._at(self._intervals[high])

    def closest(self) -> Scheduled:
        """Returns, of the schedules that were made, the one that exceeds the budget least."""
        return min(self._found.values(), key=self._excess)

    def refusal(self, what: str, scheduled: Scheduled, remedy: str) -> ConfigError:
        """Returns the error for a design that takes too much."""
        name = self._budget.scarcest(scheduled.total)
        takes = getattr(scheduled.total, name)
        costs = {unit: getattr(cost, name) for unit, cost in scheduled.costs.items()}
        largest = sorted(costs, key=lambda unit: -costs[unit])[:_NAMED]
        listed = ", ".join(f"{unit} {costs[unit]}" for unit in largest if costs[unit])
        return ConfigError(
            f"{what} takes {takes} {_WORDS[name]}, more than the {self._budget.limits[name]} of "
            f"{self._budget.who[name]} (largest: {listed}); {remedy}"
        )

    def _at(self, interval: int) -> Scheduled:
        if interval not in self._found:
            update = {"target_initiation_interval": interval, "max_multipliers": None}
            self._found[interval] = self.made(self._options.model_copy(update=update))
        return self._found[interval]

    def _excess(self, found: Scheduled) -> float:
        name, total = self._budget.scarcest(found.total), found.total
        share: float = getattr(total, name) / max(self._budget.limits[name], 1)
        return share

    def _fits(self, interval: int) -> bool:
        return not self._budget.exceeded(self._at(interval).total)
