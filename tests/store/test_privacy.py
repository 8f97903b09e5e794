"""What is advised where a file with keys belongs to somebody else."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from config_daemon.store.privacy import check_private

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def _env(folder: Path, uid: int, folder_uid: int) -> Path:
    path = folder / ".env"
    path.write_text("A=1")
    path.chmod(0o600)
    os.chown(path, uid, uid)
    os.chown(folder, folder_uid, folder_uid)
    return path


def test_root_is_told_to_act_as_the_daemons_user_and_not_to_take_its_file(tmp_path: Path) -> None:
    user = pwd.getpwnam("nobody")
    (problem,) = check_private(_env(tmp_path, user.pw_uid, user.pw_uid))
    assert "`runuser -u nobody -- config-daemon …`" in str(problem.suggestion)
    assert "chown" not in str(problem.suggestion)


def test_a_user_without_a_name_is_told_by_number(tmp_path: Path) -> None:
    (problem,) = check_private(_env(tmp_path, 54_321, 54_321))
    assert "sudo -u '#54321' config-daemon" in str(problem.suggestion)


def test_a_strangers_file_in_our_own_folder_is_looked_at_first(tmp_path: Path) -> None:
    (problem,) = check_private(_env(tmp_path, 54_321, 0))
    assert "chown 0" in str(problem.suggestion)
