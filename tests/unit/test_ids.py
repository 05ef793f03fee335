"""The forms of ids."""

import pytest

from peekaping_producer.model.ids import is_go_node, is_monitor_id, is_object_id, is_uuid
from support.node_ids import GO_NODES, OTHER_NODES

UUID = "0b8f6b4c-1c1e-4f5f-9f0a-0123456789ab"
OBJECT_ID = "0123456789abcdef01234567"


def test_a_monitor_id_is_a_uuid_or_an_object_id() -> None:
    assert (is_uuid(UUID), is_object_id(UUID), is_monitor_id(UUID)) == (True, False, True)
    assert (is_uuid(OBJECT_ID), is_object_id(OBJECT_ID), is_monitor_id(OBJECT_ID)) == (False, True, True)


@pytest.mark.parametrize("id_", ["", UUID.upper(), f"{UUID}\n", UUID.replace("-", ""), OBJECT_ID[1:], f" {OBJECT_ID}"])
def test_any_other_text_is_not_a_monitor_id(id_: str) -> None:
    assert not is_monitor_id(id_)


@pytest.mark.parametrize("node_id", GO_NODES)
def test_a_go_node_id_ends_in_a_hyphen_and_digits(node_id: str) -> None:
    assert is_go_node(node_id)


@pytest.mark.parametrize("node_id", ["", *OTHER_NODES])
def test_any_other_node_id_is_not_a_go_node(node_id: str) -> None:
    assert not is_go_node(node_id)
