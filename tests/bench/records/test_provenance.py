"""Records say which code and packages made them."""

import subprocess

import pytest
from zsad.bench.records import provenance


def test_the_environment_names_versions_and_the_checkout():
    found = provenance.environment()
    assert {"python", "platform", "zsad", "torch", "numpy", "commit"} <= set(found)
    assert found["numpy"] != "absent"


@pytest.mark.parametrize("folder", ["bench", "methods", "datasets"])
def test_untracked_code_makes_the_recorded_checkout_dirty(tmp_path, monkeypatch, folder):
    own = tmp_path / "bench" / "records.py"
    own.parent.mkdir()
    own.write_text("")
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (("init",), ("add", "."), (*who, "commit", "-m", "first")):
        subprocess.run(["git", "-C", tmp_path, *command], check=True, capture_output=True)
    monkeypatch.setattr(provenance, "__file__", str(own))
    (tmp_path / "notes.txt").write_text("untracked, but no code")
    clean = provenance._git_commit()
    assert clean and not clean.endswith("+changes")
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "own.py").write_text("")
    assert provenance._git_commit() == f"{clean}+changes"
