"""Settings from arguments and from the environment; what is wrong is refused at once."""

from typing import Any

import pytest
from pydantic import ValidationError

from lg_streaming.settings import AuthSettings, LimitSettings, RetentionSettings, StreamingSettings

SECRET = "s" * 32


def test_the_defaults_need_nothing() -> None:
    settings = StreamingSettings()
    assert settings.log == "memory://"
    assert settings.auth.enabled is None
    assert settings.retention.max_updates == 10_000
    assert settings.retention.max_bytes == 8 * 1024 * 1024
    assert (settings.retention.ttl, settings.retention.record_ttl) == (900.0, 86_400.0)
    assert settings.limits.max_executions is None
    assert not settings.debug


def test_the_environment_sets_nested_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LG_STREAMING_DEBUG", "true")
    monkeypatch.setenv("LG_STREAMING_RETENTION__MAX_UPDATES", "5")
    monkeypatch.setenv("LG_STREAMING_AUTH__SECRET", SECRET)
    monkeypatch.setenv("LG_STREAMING_GATEWAY__CORS_ORIGINS", '["https://a.example"]')
    settings = StreamingSettings()
    assert settings.debug
    assert settings.retention.max_updates == 5
    assert settings.retention.ttl == 900.0
    assert settings.auth.secret is not None
    assert settings.auth.secret.get_secret_value() == SECRET
    assert settings.gateway.cors_origins == ("https://a.example",)


def test_arguments_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LG_STREAMING_RETENTION__MAX_UPDATES", "5")
    monkeypatch.setenv("LG_STREAMING_RETENTION__TTL", "7")
    settings = StreamingSettings(retention=RetentionSettings(max_updates=9, ttl=3))
    assert (settings.retention.max_updates, settings.retention.ttl) == (9, 3.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LG_STREAMING_RETENTION__MAX_UPDATE", "5"),
        ("LG_STREAMING_RETENTIONS__MAX_UPDATES", "5"),
        ("LG_STREAMING_DEBUGG", "1"),
        ("LG_STREAMING_RETENTION__MAX_UPDATES", "many"),
        ("LG_STREAMING_RETENTION__MAX_UPDATES", "0"),
        ("LG_STREAMING_LOG", "file://here"),
    ],
)
def test_a_typing_error_in_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        StreamingSettings()


def test_other_programs_variables_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LG_STREAM", "1")
    monkeypatch.setenv("MY_LG_STREAMING_DEBUGG", "1")
    StreamingSettings()


@pytest.mark.parametrize(
    ("section", "values"),
    [
        (StreamingSettings, {"unknown": 1}),
        (StreamingSettings, {"retention": {"unknown": 1}}),
        (StreamingSettings, {"gateway": {"prefix": "streaming"}}),
        (StreamingSettings, {"gateway": {"prefix": "/streaming/"}}),
        (StreamingSettings, {"gateway": {"namespace": "live"}}),
        (StreamingSettings, {"gateway": {"heartbeat_interval": 0}}),
        (AuthSettings, {"enabled": True}),
        (AuthSettings, {"secret": "short"}),
        (AuthSettings, {"secret": SECRET, "public_key": "PEM"}),
        (AuthSettings, {"secret": SECRET, "algorithms": ["RS256"]}),
        (AuthSettings, {"public_key": "PEM", "algorithms": ["HS256"]}),
        (AuthSettings, {"public_key": "PEM", "algorithms": ["ES256", "HS256"]}),
        (AuthSettings, {"secret": SECRET, "algorithms": ["none"]}),
        (AuthSettings, {"secret": SECRET, "leeway": -1}),
        (LimitSettings, {"update_bytes": 0}),
        (LimitSettings, {"max_executions": 0}),
        (RetentionSettings, {"ttl": 0}),
    ],
)
def test_what_makes_no_sense_is_refused(section: Any, values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        section.model_validate(values)


@pytest.mark.parametrize(
    "values",
    [
        {"enabled": False},
        {"secret": SECRET},
        {"enabled": True, "secret": SECRET, "algorithms": ["HS256", "HS512"]},
        {"enabled": True, "public_key": "PEM", "algorithms": ["EdDSA"]},
    ],
)
def test_what_goes_together_is_taken(values: dict[str, Any]) -> None:
    AuthSettings.model_validate(values)


def test_a_secret_is_not_shown() -> None:
    settings = StreamingSettings(auth=AuthSettings.model_validate({"secret": SECRET}))
    assert SECRET not in repr(settings)
    assert SECRET not in settings.model_dump_json()


def test_settings_do_not_change() -> None:
    settings: Any = StreamingSettings()
    with pytest.raises(ValidationError):
        settings.debug = True
    with pytest.raises(ValidationError):
        settings.limits.update_bytes = 1
