"""Our own modules as processes of their own."""

import os
from pathlib import Path

import pytest

from agent_preflight.sidecar.child import SidecarError, own_process, until_ready

pytestmark = pytest.mark.wire


async def test_a_process_that_ends_before_it_is_ready_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = await own_process("preflight_proxy", config=b"not json", stderr=log)
    with pytest.raises(SidecarError, match="did not start"):
        await until_ready(process, tmp_path / "ready.json")
    assert b"settings" in (tmp_path / "log").read_bytes()


async def test_it_has_a_session_of_its_own_and_none_of_our_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-secret")
    monkeypatch.setenv("OR_ADMIN_KEY", "sk-or-admin")
    ready_file = tmp_path / "ready.json"
    process = await own_process("openrouter_sim", "--listen", "127.0.0.1:0", "--ready-file", str(ready_file))
    try:
        ready = await until_ready(process, ready_file)
        assert ready["base_url"].startswith("http://127.0.0.1:")
        assert os.getsid(process.pid) == process.pid
        environ = Path(f"/proc/{process.pid}/environ")
        if environ.exists():
            assert b"sk-or-" not in environ.read_bytes()
    finally:
        process.terminate()
        await process.wait()
