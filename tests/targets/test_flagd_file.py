"""A flagd file as a target: a real file, real locks."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from rollback_budget.exceptions import TargetError
from rollback_budget.model.target import FlagdTarget
from rollback_budget.targets.base import Serving
from rollback_budget.targets.flagd import FlagdFile
from tests.support.rollouts import race

pytestmark = pytest.mark.pure

SHIPPED, BASELINE = {"v2": 0.05, "v1": 0.95}, {"v2": 0.0, "v1": 1.0}
BY_USER = {"cat": [{"var": "$flagd.flagKey"}, {"var": "userId"}]}


def flag_file(folder: Path, targeting: Any = None, **flag: Any) -> Path:
    path = folder / "flags.json"
    model = {
        "state": "ENABLED",
        "variants": {"v1": "one", "v2": "two"},
        "defaultVariant": "v1",
        "targeting": targeting,
    }
    other = {"state": "DISABLED", "variants": {"on": True}, "defaultVariant": "on"}
    document = {"$schema": "https://flagd.dev/schema/v0/flags.json", "flags": {"other": other}}
    document["flags"] = {"other": other, "model": {**model, **flag}}
    path.write_text(json.dumps(document))
    return path


def target(path: Path, **further: Any) -> FlagdFile:
    return FlagdFile(FlagdTarget(path=str(path), flag="model", **further), "v2", "v1")


def test_traffic_moves_there_and_back_and_the_rest_of_the_file_stays(tmp_path: Path) -> None:
    path = flag_file(tmp_path, {"fractional": [BY_USER, ["v1", 100], ["v2", 0]]})
    path.chmod(0o640)
    flags = target(path)
    flags.apply(SHIPPED, expected=flags.read(), idempotency_key="k")
    assert flags.read().shares == pytest.approx(SHIPPED)
    written = json.loads(path.read_text())["flags"]
    assert written["model"]["targeting"] == {"fractional": [BY_USER, ["v1", 95], ["v2", 5]]}
    assert (written["other"]["state"], path.stat().st_mode & 0o777) == ("DISABLED", 0o640)
    flags.apply(BASELINE, expected=flags.read(), idempotency_key="k")
    assert flags.read().same_shares(BASELINE)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["flags.json", "flags.json.lock"]


def test_behind_a_symbolic_link_the_real_file_is_what_changes(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = flag_file(tmp_path / "real", {"fractional": [["v1", 95], ["v2", 5]]})
    link = tmp_path / "flags.json"
    link.symlink_to(real)
    flags = target(link)
    flags.apply(BASELINE, expected=flags.read(), idempotency_key="k")
    assert link.is_symlink()
    assert json.loads(real.read_text())["flags"]["model"]["defaultVariant"] == "v1"
    assert target(real).read().same_shares(BASELINE)


def test_a_file_that_is_mounted_by_itself_is_overwritten_and_preflight_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = flag_file(tmp_path, {"fractional": [["v1", 95], ["v2", 5]]})
    before = path.stat().st_ino

    def replace(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr("os.replace", replace)
    monkeypatch.setattr("rollback_budget.targets.flagd._is_mount", lambda _path: True)
    flags = target(path)
    assert any("mount its folder instead" in finding for finding in flags.rehearse(flags.read()))
    flags.apply(BASELINE, expected=flags.read(), idempotency_key="k")
    assert flags.read().same_shares(BASELINE)
    assert path.stat().st_ino == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["flags.json", "flags.json.lock"]


def test_a_flag_without_targeting_serves_its_default(tmp_path: Path) -> None:
    assert target(flag_file(tmp_path)).read().shares == {"v1": 1.0}


def test_who_gets_no_bucket_gets_the_version_that_has_all_traffic(tmp_path: Path) -> None:
    path = flag_file(tmp_path)
    flags = target(path)
    flags.apply({"v2": 1.0, "v1": 0.0}, expected=flags.read(), idempotency_key="k")
    assert json.loads(path.read_text())["flags"]["model"]["defaultVariant"] == "v2"


def test_an_edit_since_it_was_read_is_a_conflict_and_stays(tmp_path: Path) -> None:
    path = flag_file(tmp_path)
    flags = target(path)
    seen = flags.read()
    flag_file(tmp_path, {"fractional": [["v1", 1], ["v3", 1]]})
    with pytest.raises(TargetError, match="someone changed") as caught:
        flags.apply(SHIPPED, expected=seen, idempotency_key="k")
    assert caught.value.conflict
    assert flags.read().shares == {"v1": 0.5, "v3": 0.5}


def test_of_several_writers_that_read_the_same_state_one_wins(tmp_path: Path) -> None:
    flags = target(flag_file(tmp_path))
    seen = flags.read()

    def write(number: int) -> str:
        try:
            flags.apply(
                {"v2": number / 100, "v1": 1 - number / 100}, expected=seen, idempotency_key=str(number)
            )
        except TargetError as error:
            return "conflict" if error.conflict else str(error)
        return "won"

    outcomes = race(8, lambda number: write(number + 1))
    assert sorted(outcomes) == ["conflict"] * 7 + ["won"]


def test_the_way_back_needs_both_variants_and_the_right_to_write(tmp_path: Path) -> None:
    path = flag_file(tmp_path)
    flags = target(path, dry_run="write_current")
    assert "writing what is there already was accepted" in flags.rehearse(flags.read())
    assert flags.read().same_shares(BASELINE)
    with pytest.raises(TargetError, match="has no variant seven"):
        target(path, versions={"v2": "seven"}).rehearse(Serving(BASELINE))


@pytest.mark.parametrize(
    ("targeting", "flag", "said"),
    [
        ({"if": [True, "v1", "v2"]}, {}, "targeting other than one `fractional`"),
        ({"fractional": [["v1", "many"]]}, {}, "targeting other than one `fractional`"),
        (None, {"state": "DISABLED"}, "is DISABLED"),
    ],
)
def test_what_the_file_says_otherwise_is_not_guessed(
    tmp_path: Path, targeting: Any, flag: dict[str, Any], said: str
) -> None:
    with pytest.raises(TargetError, match=said):
        target(flag_file(tmp_path, targeting, **flag)).read()


def test_a_file_that_is_not_there_or_no_json_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"flags\.json"):
        target(tmp_path / "flags.json").read()
    (tmp_path / "flags.json").write_text("{")
    with pytest.raises(TargetError, match="cannot be read as JSON"):
        target(tmp_path / "flags.json").read()
