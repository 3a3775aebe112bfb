"""The inputs with which fuzzing reached new branches of the readers: see guided.py."""

from collections.abc import Iterator, Mapping

import pytest
from guided import NAMES, Target, kept, targets, tried


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Target]]:
    with targets(tmp_path_factory.mktemp("guided")) as found:
        assert {*found} == {*NAMES}
        yield found


@pytest.mark.parametrize("name", NAMES)
def test_kept_inputs_are_read_or_refused(readers: Mapping[str, Target], name: str) -> None:
    inputs = kept(name)
    assert inputs
    for content in readers[name].seeds:
        readers[name].read(content)
    for content in inputs:
        tried(readers[name], content)
