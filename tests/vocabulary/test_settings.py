"""Settings from arguments and from the environment; what is wrong is refused at once."""

import pickle
from typing import Any

import pytest
from pydantic import ValidationError

from lg_streaming.settings import AuthSettings, LimitSettings, RedisSettings, RetentionSettings, StreamingSettings

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
    monkeypatch.setenv("LG_STREAMING_TOKEN", "for the commands of a client")
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
        (AuthSettings, {"secret": SECRET, "algorithms": ["HS256", "HS384"]}),
        (AuthSettings, {"secret": "-----BEGIN PUBLIC KEY-----\n" + SECRET}),
        (AuthSettings, {"secret": SECRET, "jwks_url": "https://login.example.com/keys"}),
        (AuthSettings, {"public_key": "PEM", "jwks_url": "https://login.example.com/keys"}),
        (AuthSettings, {"jwks_url": "https://login.example.com/keys", "algorithms": ["HS256"]}),
        (AuthSettings, {"jwks_url": ""}),
        (AuthSettings, {"jwks_url": "login.example.com/keys"}),
        (AuthSettings, {"jwks_url": "http://login.example.com/keys"}),
        (AuthSettings, {"jwks_url": "http://localhost.example.com/keys"}),
        (AuthSettings, {"jwks_url": "http://192.168.0.1/keys"}),
        (AuthSettings, {"jwks_url": "https:///keys"}),
        (AuthSettings, {"jwks_url": "https://login.example.com:port/keys"}),
        (AuthSettings, {"jwks_url": "https://alice:password@login.example.com/keys"}),
        (AuthSettings, {"jwks_url": "https://login.example.com/keys\r\nHost: evil.example.com"}),
        (AuthSettings, {"jwks_url": "https://[::1/keys"}),
        (AuthSettings, {"jwks_url": "file:///etc/passwd"}),
        (AuthSettings, {"cookie": ""}),
        (AuthSettings, {"cookie": "a b"}),
        (AuthSettings, {"cookie": "a=b"}),
        (LimitSettings, {"update_bytes": 0}),
        (LimitSettings, {"max_executions": 0}),
        (RetentionSettings, {"ttl": 0}),
        (StreamingSettings, {"log": "memory://here"}),
        (StreamingSettings, {"log": "redis"}),
        (StreamingSettings, {"log": ""}),
        (StreamingSettings, {"log": "http+redis://localhost"}),
        (RedisSettings, {"prefix": ""}),
        (RedisSettings, {"prefix": "a b"}),
        (RedisSettings, {"prefix": "{lg}"}),
        (RedisSettings, {"prefix": "lg\n"}),
        (RedisSettings, {"prefix": "x" * 65}),
        (RedisSettings, {"lease": 0.5}),
        (RedisSettings, {"check_interval": 0}),
        (RedisSettings, {"timeout": None}),
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
        {"enabled": True, "secret": SECRET * 2, "algorithms": ["HS256", "HS512"]},
        {"secret": SECRET, "cookie": "__Host-token"},
        {"secret": SECRET, "cookie": None},
        {"jwks_url": "https://login.example.com:8443/.well-known/jwks.json?v=1"},
        {"jwks_url": "http://localhost:8080/keys", "algorithms": ["PS256"]},
        {"jwks_url": "http://127.0.0.1/keys"},
        {"enabled": True, "jwks_url": "http://[::1]:9000/keys"},
        {"enabled": True, "public_key": "PEM", "algorithms": ["EdDSA"]},
    ],
)
def test_what_goes_together_is_taken(values: dict[str, Any]) -> None:
    AuthSettings.model_validate(values)


@pytest.mark.row("CFLOW-D7")
def test_a_secret_is_not_shown() -> None:
    settings = StreamingSettings(auth=AuthSettings.model_validate({"secret": SECRET}))
    assert SECRET not in repr(settings)
    assert SECRET not in settings.model_dump_json()


def test_an_error_does_not_show_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    for values in ({"secret": SECRET, "leeway": -1}, {"secret": SECRET, "public_key": "PEM"}, {"secret": [SECRET]}):
        with pytest.raises(ValidationError) as caught:
            AuthSettings.model_validate(values)
        assert SECRET not in str(caught.value)
    monkeypatch.setenv("LG_STREAMING_AUTH__SECRET", "hunter2")
    with pytest.raises(ValidationError) as caught:
        StreamingSettings()
    assert "hunter2" not in str(caught.value)
    assert "openssl rand -hex 32" in str(caught.value)


def test_settings_do_not_change() -> None:
    settings: Any = StreamingSettings()
    with pytest.raises(ValidationError):
        settings.debug = True
    with pytest.raises(ValidationError):
        settings.limits.update_bytes = 1


SCHEMES = ("redis", "rediss", "unix", "redis+cluster", "rediss+cluster", "redis+sentinel", "rediss+sentinel")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_password_of_a_log_is_used_and_never_shown(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    for secret in ("hunter2", "hun/ter2", "hun@ter2", "hun#ter2", "hun?ter2", "hun://ter2"):
        for url in (f"{scheme}://alice:{secret}@db.example:6379/0", f"{scheme}://db.example?password={secret}"):
            for settings in (StreamingSettings(log=url), _from_environment(monkeypatch, url)):
                assert settings.log == url
                assert StreamingSettings(**settings.model_dump()).log == url
                assert pickle.loads(pickle.dumps(settings)).log == url
                for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
                    assert "hun" not in text
                    assert "ter2" not in text
                    assert ("db.example" in text) or {"@", "?"} & set(secret)


def _from_environment(monkeypatch: pytest.MonkeyPatch, url: str) -> StreamingSettings:
    with monkeypatch.context() as patch:
        patch.setenv("LG_STREAMING_LOG", url)
        return StreamingSettings()


def test_an_unknown_log_is_refused_with_the_known_ones_and_without_its_password() -> None:
    with pytest.raises(ValidationError) as caught:
        StreamingSettings(log="postgres://alice:hunter2@db.example/0")
    assert "hunter2" not in str(caught.value)
    assert "'postgres'" in str(caught.value)
    for scheme in ("memory", *SCHEMES):
        assert f"{scheme}://" in str(caught.value)


def test_the_environment_sets_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LG_STREAMING_REDIS__PREFIX", "shop:eu")
    monkeypatch.setenv("LG_STREAMING_REDIS__LEASE", "3")
    assert StreamingSettings().redis == RedisSettings(prefix="shop:eu", lease=3.0)
