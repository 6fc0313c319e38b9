"""The bundled data: complete, as published, labels kept as text."""

from __future__ import annotations

import tomllib
from importlib.resources import files

import pandas as pd
import pytest
from pandas.api.types import is_numeric_dtype

import glmmjax
from glmmjax import datasets

CATALOGUE = tomllib.loads((files("glmmjax.datasets") / "catalogue.toml").read_text())
# name: rows, columns, one column and its sum or its number of levels: counted in the published tables
FACTS = {
    "sleepstudy": (180, 4, "Subject", 18),
    "cbpp": (56, 5, "incidence", 99),
    "contraception": (1934, 7, "y", 759),
    "salamanders": (644, 9, "site", 23),
    "owls": (599, 8, "Nest", 27),
    "epil2": (236, 12, "subject", 59),
    "grouseticks": (403, 7, "BROOD", 118),
    "wine": (72, 6, "judge", 9),
    "toenail": (1908, 6, "patientID", 294),
    "dyestuff": (30, 2, "Yield", 45825),
    "pastes": (60, 4, "sample", 30),
    "verbagg": (7584, 10, "id", 316),
}


def test_every_data_set_has_its_facts() -> None:
    assert datasets.names() == tuple(sorted(FACTS)) == tuple(sorted(CATALOGUE))


@pytest.mark.parametrize("name", FACTS)
def test_size_and_content(name: str) -> None:
    rows, columns, column, fact = FACTS[name]
    frame = datasets.load(name)
    assert frame.shape == (rows, columns)
    assert not frame.isna().any(axis=None)
    assert (frame[column].sum() if is_numeric_dtype(frame[column]) else frame[column].nunique()) == fact


@pytest.mark.parametrize("name", FACTS)
def test_catalogue_describes_exactly_the_columns(name: str) -> None:
    frame, entry = datasets.load(name), CATALOGUE[name]
    assert list(frame.columns) == list(entry["columns"])
    assert [c for c in frame if not is_numeric_dtype(frame[c])] == entry["text"]
    assert all(isinstance(label, str) for c in entry["text"] for label in frame[c])
    text = datasets.describe(name)
    assert datasets.source(name) in " ".join(text.split())
    assert all(column in text for column in frame)


def test_derived_columns_agree_with_what_they_are_derived_from() -> None:
    women, owls, epil2 = (datasets.load(name) for name in ("contraception", "owls", "epil2"))
    assert (women["y"] == (women["use"] == "Y")).all()
    assert (owls["SiblingNegotiation"] == (owls["NegPerChick"] * owls["BroodSize"]).round()).all()
    assert (epil2["Visit"] - (epil2["period"] - 2.5) / 5).abs().max() < 1e-12


def test_each_load_is_a_fresh_copy() -> None:
    first = datasets.load("cbpp")
    first["incidence"] = 0
    pd.testing.assert_index_equal(first.index, datasets.load("cbpp").index)
    assert datasets.load("cbpp")["incidence"].sum() > 0


@pytest.mark.parametrize("ask", [datasets.load, datasets.describe, datasets.source])
def test_unknown_name_offers_the_nearest(ask: object) -> None:
    assert callable(ask)
    with pytest.raises(glmmjax.GlmmjaxError, match=r"'salamander'\. Did you mean 'salamanders'\?"):
        ask("salamander")


def test_files_are_small() -> None:
    for file in files("glmmjax.datasets").iterdir():
        if file.name.endswith(".csv"):
            assert len(file.read_bytes()) < 500_000, file.name
