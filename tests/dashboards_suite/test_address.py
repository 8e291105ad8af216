"""Addresses: what is parsed comes out again, and nothing of it is trusted."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitsweep.errors import InputError
from bitsweep_dashboards.address import Place, parse_place
from bitsweep_dashboards.prefix import path_prefix

TEXT = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\t\x00"), min_size=1, max_size=30
)


@given(name=TEXT, value=TEXT, prefix=st.sampled_from(["/", "/lab/", "/a/b/"]))
def test_a_place_survives_its_address(name: str, value: str, prefix: str) -> None:
    place = Place(page="sweep", name=name, query=(("bits", value),), prefix=prefix)
    path, _, search = place.href.partition("?")

    assert parse_place(path, f"?{search}", prefix=prefix) == place


@given(path=TEXT, search=TEXT)
def test_no_address_breaks_the_parser(path: str, search: str) -> None:
    place = parse_place(f"/{path}", f"?{search}")

    assert place.href.startswith("/")


def test_one_choice_is_replaced_and_the_rest_stays() -> None:
    place = parse_place("/sweep/toy", "?bits=w2a2&hide=a&hide=b")

    assert place.having("hide", "a").href == "/sweep/toy?bits=w2a2&hide=a"
    assert place.having("bits").all("hide") == ("a", "b")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "ten", "9" * 30, "\u0661"])
def test_a_page_is_a_whole_number(text: str) -> None:
    place = Place(page="sweep", name="toy", query=(("page", text),))
    with pytest.raises(InputError, match="whole number"):
        place.number("page", default=1)


@pytest.mark.parametrize("text", ["/../", "/a b/", "/<x>/", "/a//b/", "/."])
def test_a_prefix_is_a_plain_path(text: str) -> None:
    with pytest.raises(ValueError, match="expected a path"):
        path_prefix(text)
