"""Roles: which column is which."""

import pytest

from atft.data.roles import Roles
from atft.errors import UseError


def file(tmp_path, text):
    path = tmp_path / "roles.yaml"
    path.write_text(text)
    return path


def test_columns_are_called_like_their_roles_unless_said_otherwise(tmp_path):
    roles = Roles.read(file(tmp_path, "close: px_last\nvolume: null\nfeatures: [alpha_*]\n"))
    assert roles.columns() == {
        "date": "date", "code": "code", "open": "open", "high": "high", "low": "low", "close": "px_last",
        "industry": "industry",
    }  # fmt: skip
    assert Roles.read(file(tmp_path, "")) == Roles()


def test_patterns_take_columns_once_in_their_order_and_leave_roles_alone():
    roles = Roles(features=("b*", "a_1", "*_1", "c?"))
    assert roles.own(["date", "close", "a_1", "a_2", "b_1", "c1", "b_0"]) == ["b_1", "b_0", "a_1", "c1"]
    assert Roles().own(["date", "x"]) == []


def test_a_pattern_without_a_column_is_refused_with_the_nearest_name():
    with pytest.raises(UseError, match=r"'alfa' fits none.*Did you mean 'alpha'\?"):
        Roles(features=("alfa",)).own(["date", "alpha"])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("closing: px\n", r"closing: Extra inputs are not permitted.*Roles are date, code"),
        ("close: null\n", "close: Input should be a valid string"),
        ("- close\n", "roles are lines 'role: column', got list"),
        ("close: [\n", "cannot be read"),
        ("open: px\nclose: px\n", "'px' is given to more than one role"),
    ],
)
def test_wrong_roles_are_refused_in_one_paragraph(tmp_path, text, told):
    with pytest.raises(UseError, match=told):
        Roles.read(file(tmp_path, text))


def test_a_missing_roles_file_is_refused(tmp_path):
    with pytest.raises(UseError, match="cannot be read"):
        Roles.read(tmp_path / "none.yaml")
