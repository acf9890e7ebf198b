"""The environment that the stack's processes see: clean, local, and tuned for short waits on two cores."""

from __future__ import annotations

import base64
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

INHERITED = ("PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
INHERITED_PREFIXES = ("OPENBLAS_",)


def airflow_environment(
    *,
    home: Path,
    dags_folder: Path,
    plugins_folder: Path,
    database_url: str,
    users: Mapping[str, str],
    api_port: int,
    worker_log_port: int,
    trigger_log_port: int,
) -> dict[str, str]:
    """Return every variable of the stack's processes; nothing else is inherited, proxies included."""
    url = f"http://127.0.0.1:{api_port}"
    options = {
        "core": {
            "auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
            "dags_are_paused_at_creation": "False",
            "dags_folder": str(dags_folder),
            "execution_api_server_url": f"{url}/execution/",
            "executor": "LocalExecutor",
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "load_examples": "False",
            "min_serialized_dag_update_interval": "1",
            "parallelism": "8",
            "plugins_folder": str(plugins_folder),
            "simple_auth_manager_passwords_file": str(home / "passwords.json"),
            "simple_auth_manager_users": ",".join(f"{user}:{role}" for user, role in users.items()),
        },
        "api": {
            "base_url": url,
            "host": "127.0.0.1",
            "port": str(api_port),
            "secret_key": secrets.token_urlsafe(32),
            "workers": "1",
        },
        "api_auth": {"jwt_secret": secrets.token_urlsafe(64)},
        "database": {"sql_alchemy_conn": database_url, "load_default_connections": "False"},
        "dag_processor": {
            "bundle_refresh_check_interval": "1",
            "parsing_processes": "1",
            "refresh_interval": "5",
        },
        "logging": {
            "base_log_folder": str(home / "logs" / "tasks"),
            "colored_console_log": "False",
            "dag_processor_child_process_log_directory": str(home / "logs" / "parsing"),
            "trigger_log_server_port": str(trigger_log_port),
            "worker_log_server_port": str(worker_log_port),
        },
        "scheduler": {
            "job_heartbeat_sec": "2",
            "scheduler_heartbeat_sec": "1",
            "scheduler_idle_sleep_time": "0.2",
            "trigger_timeout_check_interval": "5",
        },
        "usage_data_collection": {"enabled": "False"},
    }
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in INHERITED or name.startswith(INHERITED_PREFIXES)
    }
    return {
        **inherited,
        "AIRFLOW_HOME": str(home),
        "DO_NOT_TRACK": "1",
        "PYTHONUNBUFFERED": "1",
        "SCARF_ANALYTICS": "false",
        **{
            f"AIRFLOW__{section.upper()}__{option.upper()}": value
            for section, values in options.items()
            for option, value in values.items()
        },
    }
