from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, SecretStr

from motadata.core.errors import ConfigurationError
from motadata.core.settings import Settings


class SampleSettings(Settings, prefix="SAMPLE_"):
    name: str = "default"
    limit: int = Field(default=5, gt=0)
    ratio: float | None = None
    enabled: bool = False
    key: SecretStr | None = None
    folder: Path = Path("data")
    tags: list[str] = Field(default_factory=list)
    weights: dict[str, float] = Field(default_factory=dict)
    keys: dict[str, SecretStr] | None = None


def read(**environment: str) -> SampleSettings:
    return SampleSettings.from_environment(
        {f"SAMPLE_{name.upper()}": value for name, value in environment.items()}
    )


def test_absent_and_empty_variables_leave_the_defaults() -> None:
    assert read() == SampleSettings()
    assert read(limit="", name="  ") == SampleSettings()


def test_values_are_read_by_prefix_and_name() -> None:
    settings = read(name="n", limit="7", ratio="0.5", enabled="true", folder="/tmp/x")

    assert settings == SampleSettings(
        name="n", limit=7, ratio=0.5, enabled=True, folder=Path("/tmp/x")
    )


def test_structured_values_are_json() -> None:
    settings = read(tags='["a", "b"]', weights='{"x": 1}', keys='{"openai": "sk-1"}')

    assert settings.tags == ["a", "b"]
    assert settings.weights == {"x": 1.0}
    assert settings.keys is not None
    assert settings.keys["openai"].get_secret_value() == "sk-1"


def test_variables_of_others_are_left_alone() -> None:
    assert SampleSettings.from_environment({"OTHER_NAME": "x", "SAMPLE_UNKNOWN": "y"}).name == (
        "default"
    )


def test_process_environment_is_read_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAMPLE_NAME", "from the process")

    assert SampleSettings.from_environment().name == "from the process"


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "many"), ("limit", "0"), ("enabled", "perhaps"), ("tags", "a,b"), ("tags", '"a"')],
)
def test_error_names_the_variable_and_not_the_value(name: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"SAMPLE_{name.upper()}"):
        read(**{name: value})


def test_secret_of_the_wrong_form_is_not_in_the_error() -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(keys='["hunter2"]')

    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_secret_does_not_show() -> None:
    assert "hunter2" not in repr(read(key="hunter2"))


def test_subclass_of_a_component_s_settings_has_a_prefix_of_its_own() -> None:
    class Inner(SampleSettings, prefix="INNER_"):
        pass

    assert Inner.from_environment({"INNER_NAME": "x", "SAMPLE_NAME": "y"}).name == "x"
    assert SampleSettings.prefix == "SAMPLE_"
    assert Settings.prefix == "MOTADATA_"
