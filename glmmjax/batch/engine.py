"""Many fits as one compiled program: a fixed number of slots, in which every lane takes its Newton steps in turn.

All slots take one step of the outer iteration in one call of the program. A lane that has ended leaves its slot to the
next one, so that no lane waits for a slower one, one program serves from the first lane to the last, and a batch of
any size needs the memory of its slots only. Lanes that need many steps are finished one by one by the program of a
single fit, which is compiled for them alone. A lane whose end is suspicious is begun again from other starts, and its
best end is kept; see :mod:`glmmjax.alternatives`.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from glmmjax._errors import ArgumentError
from glmmjax._precision import double_precision, to_numpy
from glmmjax._status import Outcome
from glmmjax._types import Array
from glmmjax.alternatives import Ended, called_for, wanted
from glmmjax.batch.lanes import Lanes, stacked
from glmmjax.control import Control
from glmmjax.information import smallest_variances
from glmmjax.laplace import marginal_derivatives
from glmmjax.layout import ModelData
from glmmjax.multistart import better
from glmmjax.optimizer import NewtonState, newton_step
from glmmjax.programs import Source, compiled
from glmmjax.restricted import in_all_parameters, restricted_constant
from glmmjax.solving import Problem, resume

# Rows in all slots together: enough to be worth a call of the program, few enough for its arrays to stay in the cache.
ROWS_IN_SLOTS = 16_384
FEWEST_SLOTS, MOST_SLOTS = 4, 512
MOST_STEPS = 40  # of a lane in its slot
SAVE_EVERY = 20.0  # seconds
# A search from another start is given up when its step is shorter than this and what it promises, so many times over,
# would not lead to a better maximum than the one that is known.
NEAR, PROMISES, SAME = 0.5, 10.0, 1e-6
PLAIN = -1  # the number of a lane's first start
# Numbers that all steps go through, from which on a batch repays the compiler's optimizations.
FULL_WORK = 25_000_000


@dataclass(frozen=True, eq=False)
class LaneResults:
    """Where the lanes ended; a row for each.

    Attributes:
        flat: (m, k) parameters on the unconstrained scale.
        value: (m,) negative log-likelihood less the terms in y alone; NaN for lanes that were not run.
        gradient, hessian: (m, k), (m, k, k).
        outcome: (m,) codes of :class:`Outcome`.
        iterations: (m,) outer iterations.
        variances: (m, effects) the smallest variance given the data of each spherical effect over its groups.
    """

    flat: np.ndarray
    value: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray
    outcome: np.ndarray
    iterations: np.ndarray
    variances: np.ndarray

    @classmethod
    def empty(cls, m: int, k: int, n_effects: int) -> LaneResults:
        """Results of lanes none of which was run."""
        nan = np.nan
        return cls(
            np.full((m, k), nan),
            np.full(m, nan),
            np.full((m, k), nan),
            np.full((m, k, k), nan),
            np.full(m, int(Outcome.RUNNING)),
            np.zeros(m, dtype=int),
            np.full((m, n_effects), nan),
        )

    def record(self, lanes: np.ndarray, state: NewtonState, n_groups: np.ndarray) -> None:
        """Write down how some lanes ended: their states, stacked, and their numbers of groups (lanes, levels)."""
        at = state.at
        self.flat[lanes], self.value[lanes] = state.flat, at.value
        self.gradient[lanes], self.hessian[lanes] = at.gradient, at.hessian
        self.outcome[lanes], self.iterations[lanes] = state.outcome, state.iterations
        self.variances[lanes] = smallest_variances(at.modes_vcov, n_groups)

    def put(self, lanes: np.ndarray, own: LaneResults) -> None:
        """Write down where some lanes ended, run by themselves."""
        for field in fields(self):
            getattr(self, field.name)[lanes] = getattr(own, field.name)

    @property
    def done(self) -> np.ndarray:
        """Which lanes were run to their end (m,)."""
        return self.outcome != int(Outcome.RUNNING)


@dataclass(frozen=True)
class Slotting:
    """What of the data each slot has for itself, and the devices that the slots are spread over.

    Attributes:
        own: fields of :class:`ModelData`.
        devices: (platform, number) of each; none for the default device.
    """

    own: frozenset[str]
    devices: tuple[tuple[str, int], ...] = ()

    def marked(self, own: Any, shared: Any) -> Any:
        """A ModelData with one thing in the place of every slot's own fields, another in that of shared ones."""
        return ModelData(**{field.name: own if field.name in self.own else shared for field in fields(ModelData)})

    @property
    def mesh(self) -> jax.sharding.Mesh:
        """The devices in a row."""
        found = [device for platform, number in self.devices for device in jax.devices(platform) if device.id == number]
        return jax.sharding.Mesh(np.array(found), ("slots",))


def slots_program(
    source: Source,
    slotting: Slotting,
    state: NewtonState,
    T: Array,
    data: ModelData,
    tolerance: Array,
    max_iter: Array,
) -> NewtonState:
    """One step of every slot; on several devices each takes the steps of its own slots, and waits for no other."""
    model = source[0](source[1])

    def step(state: NewtonState, T: Array, data: ModelData, tolerance: Array, max_iter: Array) -> NewtonState:
        def derivatives(flat: Array, modes: Any, last: NewtonState) -> Any:
            return marginal_derivatives(model, flat, modes, data)

        return newton_step(derivatives, T, state, tolerance, max_iter, model.unit_free)

    steps = jax.vmap(step, in_axes=(0, 0, slotting.marked(0, None), None, None))
    if slotting.devices:
        along, whole = jax.sharding.PartitionSpec("slots"), jax.sharding.PartitionSpec()
        # what is checked otherwise is that results are alike on all devices, of which there are none here
        steps = jax.shard_map(
            steps,
            mesh=slotting.mesh,
            in_specs=(along, along, slotting.marked(along, whole), whole, whole),
            out_specs=along,
            check_vma=False,
        )
    return steps(state, T, data, tolerance, max_iter)


def run_lanes(
    lanes: Lanes,
    chosen: np.ndarray,
    control: Control,
    progress: Callable[[int, int], None] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    fingerprint: str = "",
    devices: Sequence[jax.Device] = (),
    room: int | None = None,
) -> tuple[LaneResults, float]:
    """Fit the chosen lanes; the others are left as not run. Returns the seconds spent compiling as well.

    Args:
        progress: called with the number of lanes done and to do.
        checkpoint: a file from which an interrupted run goes on, and to which it is saved.
        fingerprint: of all that the results depend on; a checkpoint of another run is refused.
        devices: over which the slots are spread; none for the default device.
        room: the number of lanes for which slots are made; default those chosen.

    Ctrl-C ends the run after the step at hand; the lanes that are done are returned, and saved.
    """
    results = LaneResults.empty(lanes.size, lanes.starts.shape[1], lanes.n_effects)
    if not len(chosen):
        return results, 0.0
    slots = _Slots(lanes, chosen, results, control, devices, room or len(chosen))
    file = None if checkpoint is None else Path(checkpoint)
    if file is not None and file.exists():
        _load(file, fingerprint, results, slots)
    saved = time.perf_counter()
    with double_precision(devices[0] if devices else None):
        compile_time = slots.compile()
        with interruptible() as interrupted:
            while slots.unfinished and not interrupted():
                slots.advance()
                if progress is not None:
                    progress(int(np.sum(results.done[chosen])), len(chosen))
                if file is not None and time.perf_counter() - saved > SAVE_EVERY:
                    _save(file, fingerprint, results, slots)
                    saved = time.perf_counter()
        if file is not None:
            _save(file, fingerprint, results, slots)
    return results, compile_time


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed, instead of an exception in the middle of a step; a second one raises as usual."""
    pressed: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False  # Python delivers signals to the main thread only
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: Any) -> None:
        pressed.append(number)
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


class _Slots:
    """The lanes that are in slots, those that wait, and those that were set aside."""

    def __init__(
        self,
        lanes: Lanes,
        chosen: np.ndarray,
        results: LaneResults,
        control: Control,
        devices: Sequence[jax.Device],
        room: int,
    ) -> None:
        self.lanes, self.chosen, self.results, self.control = lanes, chosen, results, control
        self.slotting = Slotting(lanes.own, tuple((device.platform, device.id) for device in devices))
        rows, n_devices = len(lanes.data(int(chosen[0])).y), max(1, len(devices))
        fitting = int(np.clip(ROWS_IN_SLOTS // rows, FEWEST_SLOTS, MOST_SLOTS))
        self.width = n_devices * min(fitting, 1 << (-(-room // n_devices) - 1).bit_length())
        self.work = 8 * room * rows * lanes.starts.shape[1]
        self.waiting = 0  # position in `chosen` of the next lane
        self.slots = np.full(self.width, -1)
        self.attempts = np.full(self.width, PLAIN)  # the number of the start of the lane in each slot
        self.again: list[tuple[int, int]] = []  # lanes that are to be begun again, and the numbers of the starts
        self.stragglers: list[tuple[int, int, NewtonState]] = []
        self.state: Any = None
        self._fill(np.arange(self.width))

    @property
    def unfinished(self) -> bool:
        """Whether a lane is still in a slot, waiting or set aside."""
        return bool(np.any(self.slots >= 0)) or bool(self.again) or bool(self.stragglers)

    def compile(self) -> float:
        """Get the program; the seconds that took."""
        in_full = self.control.compilation == "full" or (self.control.compilation == "auto" and self.work > FULL_WORK)
        static = (self.lanes.source, self.slotting)
        self.program, seconds = compiled(slots_program, static, self._arguments(), "full" if in_full else "quick")
        return seconds

    def advance(self) -> None:
        """One step of every slot, or the end of a lane that was set aside."""
        if not np.any(self.slots >= 0):
            self._finish(*self.stragglers[-1])
            self.stragglers.pop()
            self._fill(np.arange(self.width))
            return
        self.state = jax.tree.map(np.array, to_numpy(self.program(*self._arguments())))
        busy = self.slots >= 0
        ended = (self.state.outcome != int(Outcome.RUNNING)) & busy
        for attempt in np.unique(self.attempts[ended]):
            own = ended & (self.attempts == attempt)
            self._record(self.slots[own], int(attempt), jax.tree.map(lambda x, own=own: x[own], self.state))
        hopeless = self._hopeless() & busy & ~ended
        slow = (self.state.iterations >= MOST_STEPS) & busy & ~ended & ~hopeless
        for slot in np.flatnonzero(slow):
            self.stragglers.append((int(self.slots[slot]), int(self.attempts[slot]), _one(self.state, slot)))
        self._fill(np.flatnonzero(ended | slow | hopeless))

    def restore(self, standing: tuple[Any, ...]) -> None:
        """Stand where a saved run stood."""
        slots, attempts = standing[1:3]
        self._place(np.arange(self.width), np.where(slots >= 0, slots, self.chosen[0]), attempts)
        self.waiting, self.slots, self.attempts, self.state, self.again, self.stragglers = standing

    @property
    def standing(self) -> tuple[Any, ...]:
        """What :meth:`restore` takes."""
        return self.waiting, self.slots, self.attempts, self.state, self.again, self.stragglers

    def _hopeless(self) -> np.ndarray:
        """The slots in which another start nears a maximum that is no better than the one that is known."""
        best = self.results.value[np.maximum(self.slots, 0)] + restricted_constant(self.lanes.layout.reml)
        near = (self.attempts != PLAIN) & (self.state.length < NEAR) & (self.state.iterations > 1)
        with np.errstate(invalid="ignore"):
            return near & (self.state.at.value - PROMISES * self.state.promised > best - SAME)

    def _finish(self, lane: int, attempt: int, state: NewtonState) -> None:
        problem = Problem(self.lanes.source, self.lanes.data(lane), state.at.modes, ())
        T = self.lanes.begin(np.array([lane]))[1][0]
        ended = resume(problem, self.control, state, T)
        self._record(np.array([lane]), attempt, jax.tree.map(lambda x: np.asarray(x)[None], ended))

    def _record(self, lanes: np.ndarray, attempt: int, state: NewtonState) -> None:
        """Write down where lanes ended from one of their starts, if it is their best end; see where to begin again."""
        p = self.lanes.layout.reml
        if p:
            state = stacked([in_all_parameters(_one(state, i), p) for i in range(len(lanes))])
        if attempt == PLAIN:
            self.results.record(lanes, state, self.lanes.n_groups(lanes))
            self.again += _other_starts(self.lanes, lanes, self.results, self.control.starts)
            return
        ends = zip(state.at.value, state.outcome, self.results.value[lanes], self.results.outcome[lanes], strict=True)
        kept = np.array([better(*end) for end in ends])
        if np.any(kept):
            own = jax.tree.map(lambda x: x[kept], state)
            self.results.record(lanes[kept], own, self.lanes.n_groups(lanes[kept]))

    def _fill(self, free: np.ndarray) -> None:
        """Put the next lanes into free slots; a slot without a lane goes on with what is there, if that is sound."""
        new = self.chosen[self.waiting : self.waiting + len(free)]
        self.waiting += len(new)
        again = [self.again.pop() for _ in range(min(len(self.again), len(free) - len(new)))]
        taken = np.concatenate([new, np.array([lane for lane, _ in again], dtype=int)])
        attempts = np.concatenate([np.full(len(new), PLAIN), np.array([start for _, start in again], dtype=int)])
        used, idle = free[: len(taken)], free[len(taken) :]
        self.slots[used], self.slots[idle] = taken, -1
        self.attempts[used], self.attempts[idle] = attempts, PLAIN
        if self.state is not None:
            idle = idle[~np.isfinite(self.state.at.value[idle])]
        slots = np.concatenate([used, idle])
        if len(slots):
            nothing = np.full(len(idle), self.chosen[0])
            self._place(slots, np.concatenate([taken, nothing]), np.concatenate([attempts, np.full(len(idle), PLAIN)]))

    def _place(self, slots: np.ndarray, lanes: np.ndarray, attempts: np.ndarray) -> None:
        """Begin lanes in slots; the first time in all of them, in order."""
        (state, T), own = self.lanes.begin(lanes, attempts), self.lanes.arrays(lanes)
        if self.state is None:
            self.state, self.T = state, np.array(T)
            self.data = replace(self.lanes.data(int(lanes[0])), **own)
            return
        mine = {name: getattr(self.data, name) for name in own}
        jax.tree.map(lambda all_, x: _set(all_, slots, x), (self.state, self.T, mine), (state, T, own))

    def _arguments(self) -> tuple[Any, ...]:
        control = self.control
        return (self.state, self.T, self.data, np.array(control.tol), np.array(control.max_iter))


def _other_starts(lanes: Lanes, chosen: np.ndarray, results: LaneResults, starts: int | str) -> list[tuple[int, int]]:
    """Lanes, and numbers of other starts for them: those asked for, or those that their ends call for."""
    if starts == 1:
        return []
    if isinstance(starts, int):
        return [(int(lane), i) for lane in chosen for i in range(len(lanes.other_starts(int(lane), starts - 1)))]
    T = lanes.directions(chosen)
    ends = Ended(results.flat[chosen], results.outcome[chosen], results.variances[chosen], results.hessian[chosen], T)
    asked = wanted(lanes.design(int(chosen[0])), lanes.layout.family, lanes.layout, ends)
    found = []
    for i in np.flatnonzero(np.any(asked, axis=1)):
        lane = int(chosen[i])
        names = list(lanes.other_starts(lane, None))
        found += [(lane, names.index(name)) for name in called_for(names, asked[i])]
    return found


def _set(array: np.ndarray, slots: np.ndarray, values: Any) -> None:
    array[slots] = values


def _one(state: NewtonState, slot: Any) -> NewtonState:
    return jax.tree.map(lambda x: np.array(x[slot]), state)


def _save(file: Path, fingerprint: str, results: LaneResults, slots: _Slots) -> None:
    content = pickle.dumps((fingerprint, [getattr(results, f.name) for f in fields(results)], slots.standing))
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as draft:
        draft.write(content)
    os.replace(draft.name, file)


def _load(file: Path, fingerprint: str, results: LaneResults, slots: _Slots) -> None:
    try:
        saved, arrays, standing = pickle.loads(file.read_bytes())
    except Exception as error:
        raise ArgumentError(
            f"checkpoint: {file} is not a checkpoint of fit_many: delete it or give another path."
        ) from error
    if saved != fingerprint:
        raise ArgumentError(
            f"checkpoint: {file} was written for other data or another model: delete it or give another path."
        )
    for field, array in zip(fields(results), arrays, strict=True):
        getattr(results, field.name)[...] = array
    slots.restore(standing)
