"""Indices that are not there, in every way in which a likelihood can have them, and those that are meant."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import glmmjax as gj
from glmmjax._precision import double_precision
from glmmjax.custom import LikelihoodSpec, joint_model, shape_of
from glmmjax.indices import check_indices
from glmmjax.promises import path_name, store
from glmmjax.solving import Problem

GROUPS, ROWS = 4, 12
G = np.repeat(np.arange(GROUPS), 3)
Y = np.random.default_rng(3).normal(size=ROWS)
BAD = {"missing": (7, -1), "beyond": (5, GROUPS), "far": (0, 99), "far below": (11, -50)}


def of_mean(data: Any, mean: Any) -> Any:
    return 0.5 * jnp.sum((data["y"] - mean) ** 2)


def plain(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, r["u"][d["g"]])


def taken(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jnp.take(r["u"], d["g"]))


def taken_along(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jnp.take_along_axis(r["u"], d["g"], 0))


def in_another(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jax.jit(lambda u, g: u[g])(r["u"], d["g"]))


def in_vmap(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jax.vmap(lambda j: r["u"][j])(d["g"]))


def in_scan(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jax.lax.scan(lambda c, j: (c, r["u"][j]), 0.0, d["g"])[1])


def in_loop(p: Any, r: Any, d: Any) -> Any:
    return jax.lax.fori_loop(0, ROWS, lambda t, s: s + (d["y"][t] - r["u"][d["g"][t]]) ** 2, 0.0)


def in_while(p: Any, r: Any, d: Any) -> Any:
    def body(state: Any) -> Any:
        t, total = state
        return t + 1, total + (d["y"][t] - r["u"][d["g"][t]]) ** 2

    return jax.lax.while_loop(lambda state: state[0] < ROWS, body, (0, 0.0))[1]


def in_branch(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jax.lax.cond(p["mu"] < 1.0, lambda u: u[d["g"]], lambda u: jnp.zeros(ROWS), r["u"]))


def of_parameters(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, p["beta"][d["g"]])


def of_data(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, d["table"][d["g"]] * p["mu"])


def sums(p: Any, r: Any, d: Any) -> Any:
    return jnp.sum(jax.ops.segment_sum(d["y"] - p["mu"], d["g"], num_segments=GROUPS) ** 2)


def added(p: Any, r: Any, d: Any) -> Any:
    return jnp.sum(jnp.zeros(GROUPS).at[d["g"]].add(d["y"] - p["mu"]) ** 2)


def one_of_two(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jnp.stack([r["u"], r["u"] ** 2], axis=1)[d["g"], d["g"] % 2])


def sliced(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jax.vmap(lambda j: jax.lax.dynamic_slice(r["u"], (j,), (1,))[0])(d["g"]))


def clipped(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, r["u"].at[d["g"]].get(mode="clip"))


def filled(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, r["u"].at[d["g"]].get(mode="fill", fill_value=0.0))


def taken_clipped(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jnp.take(r["u"], d["g"], mode="clip"))


def clipped_in_vmap(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jax.vmap(lambda j: r["u"].at[j].get(mode="clip"))(d["g"]))


def dropped(p: Any, r: Any, d: Any) -> Any:
    return jnp.sum(jnp.zeros(GROUPS).at[d["g"]].add(d["y"] - p["mu"], mode="drop") ** 2)


def masked(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jnp.where((d["g"] >= 0) & (d["g"] < GROUPS), r["u"][d["g"]], p["mu"]))


def limited(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, r["u"][jnp.clip(d["g"], 0, GROUPS - 1)])


def zero_added(p: Any, r: Any, d: Any) -> Any:
    inside = (d["g"] >= 0) & (d["g"] < GROUPS)
    return jnp.sum(jnp.zeros(GROUPS).at[d["g"]].add(jnp.where(inside, d["y"] - p["mu"], 0.0)) ** 2)


def from_the_end(p: Any, r: Any, d: Any) -> Any:
    u = r["u"]
    return u[-1] + u[np.array([0, -2])].sum() + u[jnp.arange(GROUPS) - 1].sum() + jnp.take(p["beta"], -1) + d["y"][-1]


def repeated(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jnp.repeat(r["u"], np.full(GROUPS, 3), total_repeat_length=ROWS))


def interpolated(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, jnp.interp(d["y"], jnp.arange(4.0), r["u"]))


def beyond_in_words(p: Any, r: Any, d: Any) -> Any:
    return of_mean(d, p["beta"][GROUPS])


def looked_over(nll: Any, g: np.ndarray) -> None:
    params = {"mu": np.array(0.3), "beta": np.zeros(GROUPS)}
    storage = store({"u": np.zeros(GROUPS)}, gj.Dense())
    spec = LikelihoodSpec(nll, storage, shape_of(params, path_name))
    data = {"y": Y, "g": g, "table": np.arange(1.0, GROUPS + 1)}
    problem = Problem((joint_model, spec), data, (np.zeros((1, GROUPS)),), spec.params.labels())
    with double_precision():
        check_indices(problem, spec, np.r_[np.zeros(GROUPS), 0.3])


CHECKED = {
    plain: "random['u']",
    taken: "random['u']",
    taken_along: "random['u']",
    in_another: "random['u']",
    in_vmap: "random['u']",
    in_scan: "random['u']",
    in_loop: "random['u']",
    in_while: "random['u']",
    in_branch: "random['u']",
    of_parameters: "params['beta']",
    of_data: "data['table']",
    sums: "an array of the function",
    added: "an array of the function",
    one_of_two: "an array computed from random['u']",
    sliced: "random['u']",
}
MEANT = [clipped, filled, taken_clipped, clipped_in_vmap, dropped, masked, limited, zero_added, from_the_end]
MEANT += [repeated, interpolated]


@pytest.mark.parametrize("nll", CHECKED, ids=lambda f: f.__name__)
def test_an_index_that_is_not_there_is_named(nll: Any) -> None:
    looked_over(nll, G)
    for row, value in BAD.values():
        g = G.copy()
        g[row] = value
        with pytest.raises(gj.DataError) as caught:
            looked_over(nll, g)
        text = str(caught.value)
        assert f"is {value} in row {row}, but it indexes {CHECKED[nll]}" in text or (nll is in_while), text
        assert "data['g']" in text and f"is {value}" in text and f"{GROUPS} entries, 0 to {GROUPS - 1}" in text


@pytest.mark.parametrize("nll", MEANT, ids=lambda f: f.__name__)
def test_indices_that_are_meant_are_left_alone(nll: Any) -> None:
    for g in (G, np.where(G == 2, -1, G), np.where(G == 2, 50, G)):
        looked_over(nll, g)


def test_codes_that_begin_at_one_and_indices_in_the_program() -> None:
    with pytest.raises(gj.DataError, match=r"is 4 in row 9 \(3 such entries\)"):
        looked_over(plain, G + 1)
    with pytest.raises(gj.DataError, match=r"an index of the function is 4, but it indexes params\['beta'\]"):
        looked_over(beyond_in_words, G)


def test_both_doors_look() -> None:
    g = G.copy()
    g[4] = -1
    with pytest.raises(gj.DataError, match=r"nll: data\['g'\] is -1 in row 4"):
        gj.fit(plain, {"mu": 0.0}, {"u": np.zeros(GROUPS)}, {"y": Y, "g": g})

    def row(p: Any, e: Any, r: Any) -> Any:
        return 0.5 * (r["y"] - p["beta"][r["period"]] - e["g"][0]) ** 2

    params = {"beta": np.zeros(2)}
    with pytest.raises(gj.DataError, match=r"nll_obs: row\['period'\] is 2 in row 2 \(4 such entries\)"):
        gj.fit_observations(row, params, {"g": 1}, {"y": Y, "g": G, "period": np.tile(np.arange(3), 4)})
