"""What generated code is called, where a new saga is put into an app, and what is never overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from sagabus.cli.group import main
from sagabus.errors import ConfigurationError
from sagabus.scaffold.names import SagaNames, key_field, package_name
from sagabus.scaffold.project import find_project
from sagabus.scaffold.registration import Registration

# -- names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "package"), [("shop", "shop"), ("My-Shop", "my_shop"), ("web shop 2", "web_shop_2"), ("_shop", "shop")]
)
def test_package_name_follows_from_the_folder(typed: str, package: str) -> None:
    """A project is imported as its folder is called, as far as Python allows."""
    assert package_name(typed) == package


@pytest.mark.parametrize("typed", ["sagas", "mergers", "transports", "sagabus", "json", "tests", "2shop", "class", "-"])
def test_package_name_that_would_hide_another_is_refused(typed: str) -> None:
    """Nothing at the top level may hide the packages beside the kernel, Python's own, or be no name at all."""
    with pytest.raises(ConfigurationError, match="--package NAME"):
        package_name(typed)


@pytest.mark.parametrize(
    ("typed", "names"),
    [
        ("RefundOrder", SagaNames("RefundOrder", "refund_order", "refund-order")),
        ("refund_order", SagaNames("RefundOrder", "refund_order", "refund-order")),
        ("refund-order", SagaNames("RefundOrder", "refund_order", "refund-order")),
        ("refund", SagaNames("Refund", "refund", "refund")),
        ("HTTPCheck", SagaNames("HTTPCheck", "http_check", "http-check")),
        ("Step2Done", SagaNames("Step2Done", "step_2_done", "step-2-done")),
    ],
)
def test_saga_names_follow_from_one_however_it_was_typed(typed: str, names: SagaNames) -> None:
    """CamelCase and snake_case give the same class, module, wire name and endpoint."""
    assert SagaNames.of(typed) == names


@pytest.mark.parametrize("typed", ["", "2fast", "a b", "refund!", "été", "class", "Saga", "x" * 40, "../up"])
def test_saga_name_that_names_nothing_is_refused(typed: str) -> None:
    """What could be no class or module is said before anything is written."""
    with pytest.raises(ConfigurationError, match=r"write one as|choose a"):
        SagaNames.of(typed)


@pytest.mark.parametrize("typed", ["", "a-b", "class", "_private", "fact", "x" * 40])
def test_key_that_is_no_field_is_refused(typed: str) -> None:
    """A key becomes a field of messages."""
    with pytest.raises(ConfigurationError, match="--key"):
        key_field(typed)


# -- putting a saga into an app ----------------------------------------------------------------------------------

REGISTRATION = Registration("shop.refund", "Refund", "refund", "bus")


def test_registration_goes_among_the_imports_and_behind_the_endpoints() -> None:
    """The import stands in alphabetical order, the endpoint behind those that are declared; all else stays."""
    app = (
        "from sagabus import Bus\n\nfrom shop.alpha import Alpha\nfrom shop.zulu import (\n    Zulu,\n)\n\n"
        'bus = Bus()\nbus.endpoint("alpha", Alpha)\nname = bus.endpoint("zulu", Zulu)\n'
    )
    assert REGISTRATION.inserted(app) == (
        "from sagabus import Bus\n\nfrom shop.alpha import Alpha\nfrom shop.refund import Refund\n"
        "from shop.zulu import (\n    Zulu,\n)\n\n"
        'bus = Bus()\nbus.endpoint("alpha", Alpha)\nbus.endpoint("refund", Refund)\nname = bus.endpoint("zulu", Zulu)\n'
    )


def test_registration_before_all_other_imports_of_the_package() -> None:
    """The first in the alphabet goes first; without endpoints its own stands behind the bus."""
    assert REGISTRATION.inserted("from shop.zulu import Zulu\n\nbus: Bus = Bus()\n") == (
        "from shop.refund import Refund\nfrom shop.zulu import Zulu\n\n"
        'bus: Bus = Bus()\nbus.endpoint("refund", Refund)\n'
    )


@pytest.mark.parametrize(
    "app",
    [
        "from shop.a import A\nbus = (\n",
        "from shop.a import A\nif True:\n    bus = Bus()\n",
        "from shop.a import A\nbus = Bus()\nbus = Bus()\n",
        "from shop.a import A; bus = Bus()\n",
        "from shop.a import A\nbus = Bus(); bus.endpoint('a', A)\n",
        "from shop.a import A\nbus = Bus()",
        "bus = Bus()\nfrom shop.a import A\n",
        "import shop.a\nbus = Bus()\n",
        "from shop.other import Refund\nbus = Bus()\n",
    ],
    ids=[
        *("no Python", "bus made below", "two buses", "on one line", "behind a semicolon", "no last line end"),
        *("imports behind the bus", "no import to go by", "name is taken"),
    ],
)
def test_app_that_is_not_plain_is_left_to_people(app: str) -> None:
    """Where nobody can say where the lines belong, nothing is changed."""
    assert REGISTRATION.inserted(app) is None


# -- projects ----------------------------------------------------------------------------------------------------


def test_project_is_found_from_a_folder_below_it(tmp_path: Path) -> None:
    """The nearest pyproject.toml upwards that speaks of sagabus is meant; others are passed over."""
    (tmp_path / "pyproject.toml").write_text('[tool.sagabus]\napp = "shop.app:bus"\n')
    inner = tmp_path / "shop" / "inner"
    inner.mkdir(parents=True)
    (inner / "pyproject.toml").write_text("[project]\nname = 'inner'\n")
    project = find_project(inner)
    assert (project.folder, project.app, project.package) == (tmp_path, "shop.app:bus", "shop")
    assert project.app_file == tmp_path / "shop" / "app.py"


@pytest.mark.parametrize("text", [None, "", "[tool.sagabus]\n", "[tool.sagabus]\napp = 'no app'\n", "[[[\n"])
def test_folder_without_a_project_says_what_is_missing(tmp_path: Path, text: str | None) -> None:
    """One line names the file, and what to put into it; exit code 2."""
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(ConfigurationError, match=r"pyproject\.toml"):
        find_project(tmp_path)


def test_init_overwrites_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One file in the way, and none is written: exit code 2, and the file is named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shop" / "shop").mkdir(parents=True)
    mine = tmp_path / "shop" / "shop" / "app.py"
    mine.write_text("mine\n")
    done = CliRunner().invoke(main, ["init", "shop"])
    assert done.exit_code == 2
    assert "shop/shop/app.py exist already, and nothing is overwritten" in done.stderr
    assert [path for path in (tmp_path / "shop").rglob("*") if path.is_file()] == [mine]
    assert mine.read_text() == "mine\n"


def test_init_in_a_folder_whose_name_is_ours_asks_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project in a folder called `sagas` gets a package of another name, or none."""
    folder = tmp_path / "sagas"
    folder.mkdir()
    monkeypatch.chdir(folder)
    done = CliRunner().invoke(main, ["init"])
    assert done.exit_code == 2
    assert "would hide the one of sagabus" in done.stderr
    assert CliRunner().invoke(main, ["init", "--package", "shop"]).exit_code == 0
    assert (folder / "shop" / "app.py").is_file()


@pytest.mark.parametrize(
    "left",
    [b"import shop\n", b"from shop.a import A\r\n\r\nbus = Bus()\r\n", b"from shop.a import A\nbus = Bus()  # \xff\n"],
    ids=["no bus", "other ends of lines", "no UTF-8"],
)
def test_new_saga_leaves_an_app_alone_that_is_not_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: bytes
) -> None:
    """Its files are written, and the lines are printed for people to put in."""
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["init", ".", "--package", "shop"]).exit_code == 0
    app = tmp_path / "shop" / "app.py"
    app.write_bytes(left)
    done = CliRunner().invoke(main, ["new", "saga", "Refund"])
    assert done.exit_code == 0
    assert "put these lines into shop/app.py:\n  from shop.refund import Refund\n" in done.stdout
    assert app.read_bytes() == left
    again = CliRunner().invoke(main, ["new", "saga", "refund"])
    assert again.exit_code == 2
    assert "shop/refund.py and 1 more of its files exist already" in again.stderr
