"""scripts/graph: the picture of the house, drawn from its imports."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent


def graph(*arguments: str | Path) -> str:
    return subprocess.run(
        [sys.executable, ROOT / "scripts" / "graph", *arguments], capture_output=True, text=True, check=True
    ).stdout


def house(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in {"__init__.py": "", **files}.items():
        path = folder / "codechunk" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def drawn(folder: Path, *arguments: str) -> Any:
    return json.loads(graph(folder, "--json", *arguments))


def test_a_floor_is_the_longest_way_down(tmp_path: Path) -> None:
    found = drawn(
        house(
            tmp_path,
            {
                "top.py": "from codechunk import middle, ground\n",
                "middle/__init__.py": "",
                "middle/a.py": "import codechunk.ground\n",
                "ground.py": "import os\n",
            },
        )
    )
    # `from codechunk import middle` is the package's front; what stands in it is another module of the same room.
    assert {name: room["floor"] for name, room in found["rooms"].items()} == {"top": 2, "middle": 1, "ground": 0}
    assert [(arrow["from"], arrow["to"]) for arrow in found["arrows"]] == [
        ("middle", "ground"),
        ("top", "ground"),
        ("top", "middle"),
    ]
    assert found["upward"] == []


def test_of_a_circle_the_weaker_arrow_points_up(tmp_path: Path) -> None:
    files = {
        "a.py": "from codechunk.b import one\n",
        "c/x.py": "from codechunk.b import one\n",
        "c/y.py": "from codechunk.b import two\n",
        "b.py": "def late():\n    from codechunk.c import x\n",
    }
    assert drawn(house(tmp_path, files))["upward"] == [["b", "c"]]


def test_long_functions_and_modules_are_named(tmp_path: Path) -> None:
    body = "    x = 1\n"
    files = {
        "fits.py": "def fits():\n" + body * 59,
        "long.py": "class A:\n    def long(self):\n" + f"    {body}" * 60,
        "huge.py": "x = 1\n" * 601,
    }
    found = drawn(house(tmp_path, files))
    assert [(each["module"], each["function"]) for each in found["long_functions"]] == [("codechunk.long", "long")]
    assert found["long_modules"] == [{"lines": 601, "module": "codechunk.huge"}]


def test_a_walk_visits_the_rooms_that_mention_a_name_and_counts_climbs(tmp_path: Path) -> None:
    files = {
        "top.py": "from codechunk.left import f\nfrom codechunk.right import g\nsize = 1\n",
        "left.py": "def f(size): ...\n",
        "right.py": "def g(): ...\n",
    }
    walk = drawn(house(tmp_path, files), "--walk", "size")["walks"]["size"]
    assert walk == {"rooms": ["top", "left", "top"], "distinct": 2, "climbs": 1}


def test_what_people_read_says_the_same_as_the_document() -> None:
    found = drawn(ROOT)
    text = graph(ROOT)
    first = text.splitlines()[0]
    assert first.startswith(f"{len(found['rooms'])} rooms on ")
    assert f"{found['modules']} modules" in first
    assert all(f"{name} ({room['lines']:,})" in text for name, room in found["rooms"].items())


def test_no_arrow_of_this_house_points_up_and_nothing_in_it_is_too_long() -> None:
    found = drawn(ROOT)
    assert found["upward"] == []
    assert found["long_modules"] == []
    assert found["long_functions"] == []


def test_a_folder_without_the_package_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        graph(tmp_path)
    assert failed.value.stderr == f"graph: {tmp_path}/codechunk is not there; name a checkout of codechunk.\n"
