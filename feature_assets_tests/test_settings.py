"""The settings: where a value comes from, and what a wrong one is told."""

from __future__ import annotations

import datetime as dt
import json
import re

import pytest

from feature_assets.definitions import make_definitions
from feature_assets.errors import SettingError
from feature_assets.features.build import FeatureOptions
from feature_assets.settings import Settings, Symbol, load_settings
from feature_assets.splits.manifest import SplitManifest

FIT, TUNE = "FIT:2026-02-01..2026-02-03", "TUNE:2026-02-03..2026-02-04"


def _load(folder, **values: str) -> Settings:
    return load_settings({f"FEATURE_ASSETS_{name}": value for name, value in values.items()}, folder)


def _spans(manifest: SplitManifest) -> list[tuple[str, str, str]]:
    return [(split.split_id, f"{split.start:%Y-%m-%d}", f"{split.end:%Y-%m-%d}") for split in manifest.splits]


# Where a value comes from


def test_nothing_set_is_the_demo(tmp_path):
    settings = load_settings({}, tmp_path)
    assert settings.root == str(tmp_path / "data")
    assert settings.source == "synthetic"
    assert settings.symbols == (Symbol("BTCUSDT"), Symbol("ETHUSDT"), Symbol("SOLUSDT"))
    assert settings.end == settings.start + dt.timedelta(days=5)
    assert settings.options == FeatureOptions(("liquidations",), allow_incomplete_days=False, gaps="bridge")
    assert settings.splits.embargo_minutes == 0
    assert settings.splits.walk_forward_folds == 1


def test_the_demos_splits_lie_in_the_demos_dates_one_after_the_other(tmp_path):
    settings = load_settings({}, tmp_path)
    splits = settings.splits.splits
    assert [split.split_id for split in splits] == ["FIT", "TUNE", "VALIDATION_LOCKED"]
    assert splits[0].start.date() == settings.start
    assert splits[-1].end.date() == settings.end
    assert [split.end for split in splits[:-1]] == [split.start for split in splits[1:]]


@pytest.mark.parametrize("values", [{"START_DATE": "2026-02-01"}, {"END_DATE": "2026-02-06"}, {"END_DATE": "yesterday"}])
def test_there_are_no_splits_once_start_or_end_is_the_users(tmp_path, values):
    assert _load(tmp_path, **values).splits.splits == ()


def test_the_end_is_five_days_after_a_start_of_the_users(tmp_path):
    settings = _load(tmp_path, START_DATE="2025-06-28")
    assert (settings.start, settings.end) == (dt.date(2025, 6, 28), dt.date(2025, 7, 3))


def test_the_toml_file_wins_over_the_defaults_and_the_environment_over_the_toml_file(tmp_path):
    (tmp_path / "feature_assets.toml").write_text('root = "from_toml"\nsymbols = "AAA"\ngaps = "restart"\n')
    settings = _load(tmp_path, SYMBOLS="BBB")
    assert settings.symbol_names == ("BBB",)
    assert settings.root == str(tmp_path / "from_toml")
    assert settings.options.gaps == "restart"
    assert settings.source == "synthetic"


def test_an_empty_environment_variable_is_as_good_as_none(tmp_path):
    (tmp_path / "feature_assets.toml").write_text('symbols = "AAA"\n')
    settings = _load(tmp_path, SYMBOLS="", ROOT="", EMBARGO_MINUTES="", START_DATE="")
    assert settings.symbol_names == ("AAA",)
    assert settings.root == str(tmp_path / "data")
    assert len(settings.splits.splits) == 3


def test_toml_values_may_have_tomls_own_types(tmp_path):
    (tmp_path / "feature_assets.toml").write_text(
        'symbols = ["BBB", "AAA"]\nstart_date = 2026-01-01\nend_date = 2026-01-03\nallow_incomplete_days = true\n'
        'embargo_minutes = 60\nsplits = ["FIT:2026-01-01..2026-01-02", "TUNE:2026-01-02..2026-01-03"]\noptional_groups = []\n'
    )
    settings = load_settings({}, tmp_path)
    assert settings.symbol_names == ("AAA", "BBB")
    assert (settings.start, settings.end) == (dt.date(2026, 1, 1), dt.date(2026, 1, 3))
    assert settings.options == FeatureOptions((), allow_incomplete_days=True, gaps="bridge")
    assert settings.splits.embargo_minutes == 60
    assert _spans(settings.splits) == [("FIT", "2026-01-01", "2026-01-02"), ("TUNE", "2026-01-02", "2026-01-03")]


def test_without_arguments_the_processs_environment_and_working_directory_count(tmp_path, monkeypatch):
    (tmp_path / "feature_assets.toml").write_text('root = "here"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATURE_ASSETS_ROOT", raising=False)
    monkeypatch.setenv("FEATURE_ASSETS_SYMBOLS", "XRPUSDT")
    settings = load_settings()
    assert settings.root == str(tmp_path / "here")
    assert settings.symbol_names == ("XRPUSDT",)


# What the values mean


def test_a_relative_root_is_under_the_folder_and_an_absolute_one_is_kept(tmp_path):
    assert _load(tmp_path, ROOT="a/../b").root == str(tmp_path / "b")
    assert _load(tmp_path, ROOT=str(tmp_path / "c")).root == str(tmp_path / "c")


def test_a_root_url_is_kept_as_it_is(tmp_path):
    url = "s3://Bucket/some//prefix/?endpoint_override=localhost:9000"
    assert _load(tmp_path, ROOT=url).root == url


def test_a_root_url_with_credentials_is_refused_without_showing_them(tmp_path):
    with pytest.raises(SettingError, match="ROOT: the URL holds credentials; give them by the environment") as caught:
        _load(tmp_path, ROOT="s3://key:secret@bucket/x")
    assert "secret" not in str(caught.value)


def test_symbols_are_sorted_and_know_their_lifetime(tmp_path):
    settings = _load(tmp_path, SYMBOLS="SOLUSDT, LUNAUSDT:2020-08-01..2022-05-13,OLD:..2021-01-01,NEW:2023-01-01..")
    assert settings.symbol_names == ("LUNAUSDT", "NEW", "OLD", "SOLUSDT")
    assert settings.members(dt.date(2020, 7, 31)) == ("OLD", "SOLUSDT")
    assert settings.members(dt.date(2020, 8, 1)) == ("LUNAUSDT", "OLD", "SOLUSDT")
    assert settings.members(dt.date(2021, 1, 1)) == ("LUNAUSDT", "SOLUSDT")
    assert settings.members(dt.date(2022, 5, 12)) == ("LUNAUSDT", "SOLUSDT")
    assert settings.members(dt.date(2022, 5, 13)) == ("SOLUSDT",)
    assert settings.members(dt.date(2023, 1, 1)) == ("NEW", "SOLUSDT")


def test_an_end_of_yesterday_is_open_and_reaches_up_to_today_in_utc(tmp_path):
    settings = _load(tmp_path, END_DATE="yesterday")
    before = dt.datetime.now(dt.UTC).date()
    end = settings.end_date()
    assert settings.end is None
    assert before <= end <= dt.datetime.now(dt.UTC).date()


def test_an_end_in_the_past_is_the_end_and_one_in_the_future_waits_for_the_days(tmp_path):
    assert _load(tmp_path, END_DATE="2026-02-03").end_date() == dt.date(2026, 2, 3)
    assert _load(tmp_path, END_DATE="9000-01-01").end_date() <= dt.datetime.now(dt.UTC).date() + dt.timedelta(days=1)


@pytest.mark.parametrize(("text", "value"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("0", False)])
def test_a_boolean_may_be_a_word_or_a_digit(tmp_path, text, value):
    assert _load(tmp_path, ALLOW_INCOMPLETE_DAYS=text).options.allow_incomplete_days is value


def test_the_optional_groups_none_is_no_group(tmp_path):
    assert _load(tmp_path, OPTIONAL_GROUPS="none").options.optional_groups == ()


def test_optional_groups_are_a_set(tmp_path):
    assert _load(tmp_path, OPTIONAL_GROUPS="quotes, funding,quotes").options.optional_groups == ("funding", "quotes")


def test_splits_may_be_given_beside_the_users_dates(tmp_path):
    settings = _load(tmp_path, START_DATE="2026-02-01", SPLITS=f" {FIT} , {TUNE} ")
    assert _spans(settings.splits) == [("FIT", "2026-02-01", "2026-02-03"), ("TUNE", "2026-02-03", "2026-02-04")]


def test_a_splits_time_in_another_zone_is_taken_to_utc(tmp_path):
    (split,) = _load(tmp_path, SPLITS="FIT:2026-02-01T06:00+06:00..2026-02-01T12:00").splits.splits
    assert split.start == dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
    assert split.start.utcoffset() == dt.timedelta(0)
    assert split.end == dt.datetime(2026, 2, 1, 12, tzinfo=dt.UTC)


@pytest.mark.parametrize("where", ["relative", "absolute"])
def test_splits_may_come_from_a_manifest_file_of_the_reference(tmp_path, where):
    golden = {
        "splits": [
            {"split_id": "FIT", "start": "2025-01-01T00:00:00+00:00", "end": "2025-01-04T00:00:00+00:00"},
            {"split_id": "TUNE", "start": "2025-01-04T00:00:00+00:00", "end": "2025-01-05T00:00:00+00:00"},
            {"split_id": "VALIDATION_LOCKED", "start": "2025-01-05T00:00:00+00:00", "end": "2025-01-06T00:00:00+00:00"},
        ]
    }
    path = tmp_path / "split_manifest.json"
    path.write_text(json.dumps(golden, indent=2))
    settings = _load(tmp_path, SPLITS=f"file:{path if where == 'absolute' else path.name}", EMBARGO_MINUTES="30")
    assert _spans(settings.splits) == [
        ("FIT", "2025-01-01", "2025-01-04"),
        ("TUNE", "2025-01-04", "2025-01-05"),
        ("VALIDATION_LOCKED", "2025-01-05", "2025-01-06"),
    ]
    assert settings.splits.embargo_minutes == 30


def test_splits_may_come_from_our_own_stored_manifest(tmp_path):
    ours = _load(tmp_path, SPLITS=f"{FIT},{TUNE}").splits
    (tmp_path / "ours.json").write_bytes(ours.to_json())
    assert _load(tmp_path, SPLITS="file:ours.json").splits.to_json() == ours.to_json()


# What a wrong value is told

WRONG = [
    ("START_DATE", "2026-02-30", "START_DATE: '2026-02-30' is no date of the form YYYY-MM-DD."),
    ("START_DATE", "1.2.2026", "START_DATE: '1.2.2026' is no date of the form YYYY-MM-DD."),
    ("START_DATE", "yesterday", "START_DATE: 'yesterday' is no date of the form YYYY-MM-DD."),
    ("START_DATE", "2026-02-01T00:00", "START_DATE: '2026-02-01T00:00' is no date of the form YYYY-MM-DD."),
    ("END_DATE", "Yesterday", "END_DATE: 'Yesterday' is no date of the form YYYY-MM-DD."),
    ("END_DATE", "2026-02-1", "END_DATE: '2026-02-1' is no date of the form YYYY-MM-DD."),
    ("END_DATE", "2026-02-01", "END_DATE: 2026-02-01 is not after START_DATE 2026-02-01; it is the date after the last."),
    ("END_DATE", "2026-01-31", "END_DATE: 2026-01-31 is not after START_DATE 2026-02-01; it is the date after the last."),
    *(
        ("SYMBOLS", f"OK,{name}", f"SYMBOLS: {name!r} is no symbol; expected up to 40 of A-Z, 0-9, _ and -, beginning with")
        for name in ("A/B", "..", "A|B", "btcusdt", "A.B", "-A", "A B", "A=B", "Ä", "٣", "A" * 41, "A\x00")
    ),
    ("SYMBOLS", "A:2020-08-01", "SYMBOLS: 'A:2020-08-01' has no lifetime of the form A:2020-08-01..2022-05-13."),
    ("SYMBOLS", "A:", "SYMBOLS: 'A:' has no lifetime of the form A:2020-08-01..2022-05-13."),
    ("SYMBOLS", "A:2020..2021-01-01", "SYMBOLS: '2020' is no date of the form YYYY-MM-DD."),
    ("SYMBOLS", "A:2020-01-01..2021-13-01", "SYMBOLS: '2021-13-01' is no date of the form YYYY-MM-DD."),
    (
        "SYMBOLS",
        "A:2020-01-02..2020-01-02",
        "SYMBOLS: the lifetime of 'A:2020-01-02..2020-01-02' is empty; its end is the date after the last.",
    ),
    ("SYMBOLS", "A:2020-01-02..2019-01-02", "SYMBOLS: the lifetime of 'A:2020-01-02..2019-01-02' is empty;"),
    ("SYMBOLS", "B,A,C,A:2020-01-02..", "SYMBOLS: A is there twice; give it once."),
    ("SYMBOLS", " , ", "SYMBOLS: there is none; expected at least one, e.g. BTCUSDT."),
    ("SPLITS", "FIT", "SPLITS: 'FIT' is not of the form ID:START..END, e.g. FIT:2025-01-01..2025-01-04."),
    ("SPLITS", "FIT:2026-02-01", "SPLITS: 'FIT:2026-02-01' is not of the form ID:START..END"),
    ("SPLITS", "2026-02-01..2026-02-02", "SPLITS: '2026-02-01..2026-02-02' is not of the form ID:START..END"),
    ("SPLITS", "FIT:2026-02-01..", "SPLITS: '' is no ISO date or time, e.g. 2025-01-01 or 2025-01-01T12:00."),
    ("SPLITS", "FIT:soon..2026-02-01", "SPLITS: 'soon' is no ISO date or time, e.g. 2025-01-01 or 2025-01-01T12:00."),
    ("SPLITS", "TEST:2026-02-01..2026-02-02", "SPLITS: unknown split 'TEST'; expected FIT, TUNE, VALIDATION_LOCKED."),
    ("SPLITS", "fit:2026-02-01..2026-02-02", "SPLITS: unknown split 'fit'; expected FIT, TUNE, VALIDATION_LOCKED."),
    ("SPLITS", "EMBARGO:2026-02-01..2026-02-02", "SPLITS: unknown split 'EMBARGO'; expected FIT, TUNE, VALIDATION_LOCKED."),
    (
        "SPLITS",
        "FIT:2026-02-01..2026-02-02,FIT:2026-02-02..2026-02-03",
        "SPLITS: FIT is there twice: FIT 2026-02-01T00:00:00+00:00..2026-02-02T00:00:00+00:00 and "
        "FIT 2026-02-02T00:00:00+00:00..2026-02-03T00:00:00+00:00; give it once.",
    ),
    (
        "SPLITS",
        "TUNE:2026-02-01..2026-02-02,FIT:2026-02-02..2026-02-03",
        "SPLITS: FIT 2026-02-02T00:00:00+00:00..2026-02-03T00:00:00+00:00 comes after "
        "TUNE 2026-02-01T00:00:00+00:00..2026-02-02T00:00:00+00:00; the order is FIT, TUNE, VALIDATION_LOCKED.",
    ),
    (
        "SPLITS",
        "FIT:2026-02-01..2026-02-02T00:01,TUNE:2026-02-02..2026-02-03",
        "SPLITS: FIT 2026-02-01T00:00:00+00:00..2026-02-02T00:01:00+00:00 overlaps "
        "TUNE 2026-02-02T00:00:00+00:00..2026-02-03T00:00:00+00:00; a minute belongs to one split.",
    ),
    ("SPLITS", "FIT:2026-02-02..2026-02-02", "SPLITS: FIT 2026-02-02T00:00:00+00:00..2026-02-02T00:00:00+00:00 is empty"),
    ("SPLITS", "FIT:2026-02-01T00:00:30..2026-02-02", "does not begin and end on a minute."),
    ("EMBARGO_MINUTES", "-1", "EMBARGO_MINUTES: '-1' is no whole number of at least 0."),
    ("EMBARGO_MINUTES", "an hour", "EMBARGO_MINUTES: 'an hour' is no whole number of at least 0."),
    ("EMBARGO_MINUTES", "1.5", "EMBARGO_MINUTES: '1.5' is no whole number of at least 0."),
    ("WALK_FORWARD_FOLDS", "0", "WALK_FORWARD_FOLDS: '0' is no whole number of at least 1."),
    ("WALK_FORWARD_FOLDS", "two", "WALK_FORWARD_FOLDS: 'two' is no whole number of at least 1."),
    (
        "WALK_FORWARD_FOLDS",
        "4321",
        "WALK_FORWARD_FOLDS=4321: FIT has 4320 minutes before its EMBARGO_MINUTES=0; take fewer folds.",
    ),
    (
        "OPTIONAL_GROUPS",
        "quotes,trades",
        "OPTIONAL_GROUPS: unknown group trades; expected some of bars, taker_flow, funding, mark_index, open_interest, "
        "quotes, liquidations.",
    ),
    ("OPTIONAL_GROUPS", "none,quotes", "OPTIONAL_GROUPS: unknown group none; expected some of bars"),
    ("ALLOW_INCOMPLETE_DAYS", "maybe", "ALLOW_INCOMPLETE_DAYS: 'maybe' is neither true nor false."),
    ("GAPS", "Bridge", "GAPS: 'Bridge' is neither bridge nor restart."),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG, ids=[f"{name}-{value[:40]!r}" for name, value, _ in WRONG])
def test_a_wrong_setting_is_named_with_what_was_found(tmp_path, name, value, message):
    with pytest.raises(SettingError, match=re.escape(message)) as caught:
        _load(tmp_path, **{name: value})
    assert str(caught.value).startswith(name)
    assert "\n" not in str(caught.value)


def test_an_end_before_the_users_start_names_both(tmp_path):
    with pytest.raises(SettingError, match="END_DATE: 2026-02-06 is not after START_DATE 2026-03-01"):
        _load(tmp_path, START_DATE="2026-03-01", END_DATE="2026-02-06")


@pytest.mark.parametrize("embargo", ["1440", "1441"])
def test_a_split_that_another_follows_must_be_longer_than_its_embargo(tmp_path, embargo):
    message = (
        "SPLITS: FIT 2026-02-01T00:00:00+00:00..2026-02-02T00:00:00+00:00 has 1440 minutes, "
        f"not more than EMBARGO_MINUTES={embargo}; lengthen the split or shorten the embargo."
    )
    with pytest.raises(SettingError, match=re.escape(message)):
        _load(tmp_path, SPLITS="FIT:2026-02-01..2026-02-02,TUNE:2026-02-02..2026-02-05", EMBARGO_MINUTES=embargo)


def test_a_split_one_minute_longer_than_its_embargo_is_enough_and_the_last_split_needs_no_room(tmp_path):
    splits = "FIT:2026-02-01..2026-02-02,TUNE:2026-02-02..2026-02-02T00:01"
    settings = _load(tmp_path, SPLITS=splits, EMBARGO_MINUTES="1439")
    assert settings.splits.embargo_minutes == 1439


def test_a_fold_must_be_longer_than_the_embargo_too(tmp_path):
    message = "WALK_FORWARD_FOLDS=3: fold 1 of FIT has 480 minutes, not more than EMBARGO_MINUTES=480; take fewer folds"
    with pytest.raises(SettingError, match=re.escape(message)):
        _load(tmp_path, SPLITS="FIT:2026-02-01..2026-02-02", EMBARGO_MINUTES="480", WALK_FORWARD_FOLDS="3")


def test_a_missing_splits_file_is_named(tmp_path):
    with pytest.raises(SettingError, match=re.escape(f"SPLITS: {tmp_path / 'none.json'} is not readable as a split manifest")):
        _load(tmp_path, SPLITS="file:none.json")


@pytest.mark.parametrize("content", [b"", b"FIT, TUNE", b"\xff\xfe{}"])
def test_a_splits_file_that_is_not_json_is_named(tmp_path, content):
    (tmp_path / "splits.json").write_bytes(content)
    with pytest.raises(SettingError, match=re.escape(f"SPLITS: {tmp_path / 'splits.json'} is not readable as a split manifest")):
        _load(tmp_path, SPLITS="file:splits.json")


@pytest.mark.parametrize(
    "content", ["[]", "{}", "3", "null", '{"splits": 3}', '{"splits": "FIT"}', '{"splits": [{"split_id": 1}]}']
)
def test_a_splits_file_of_another_kind_is_told_what_was_expected(tmp_path, content):
    (tmp_path / "splits.json").write_text(content)
    with pytest.raises(SettingError, match=r"SPLITS: the file is no split manifest .*; expected .*split_id"):
        _load(tmp_path, SPLITS="file:splits.json")


def test_a_splits_file_obeys_the_same_rules(tmp_path):
    (tmp_path / "splits.json").write_text('{"splits": [{"split_id": "FIT", "start": "2026-02-02", "end": "2026-02-01"}]}')
    with pytest.raises(SettingError, match=r"SPLITS: FIT 2026-02-02.* is empty; its end must be after its start"):
        _load(tmp_path, SPLITS="file:splits.json")


@pytest.mark.parametrize("line", ['symbol = "A"', "ROOT = 'x'", "[feature_assets]"])
def test_an_unknown_toml_key_is_named_with_the_known_ones(tmp_path, line):
    (tmp_path / "feature_assets.toml").write_text(line)
    key = line.split(" =")[0].strip("[]")
    expected = (
        f"feature_assets.toml: unknown setting {key}; expected some of root, source, symbols, start_date, end_date, splits, "
        "embargo_minutes, walk_forward_folds, optional_groups, allow_incomplete_days, gaps, show_locked_medians."
    )
    with pytest.raises(SettingError, match=re.escape(expected)):
        load_settings({}, tmp_path)


@pytest.mark.parametrize("content", [b"root = ", b"root", b"\xff", b'root = "a"\nroot = "b"\n'])
def test_a_malformed_toml_file_is_named(tmp_path, content):
    (tmp_path / "feature_assets.toml").write_bytes(content)
    with pytest.raises(SettingError, match=re.escape("feature_assets.toml: not readable as TOML: ")):
        load_settings({}, tmp_path)


def test_a_wrong_toml_value_is_named_as_the_setting(tmp_path):
    (tmp_path / "feature_assets.toml").write_text("embargo_minutes = -5\n")
    with pytest.raises(SettingError, match="EMBARGO_MINUTES: '-5' is no whole number of at least 0"):
        load_settings({}, tmp_path)


# Wrong settings that are not met with a sentence


@pytest.mark.parametrize("text", ["20260201", "2026-W05-7"])
def test_a_date_has_one_form_alone(tmp_path, text):
    with pytest.raises(SettingError, match=r"START_DATE: .* is no date of the form YYYY-MM-DD"):
        _load(tmp_path, START_DATE=text)


def test_a_start_at_the_end_of_time_is_a_wrong_setting(tmp_path):
    with pytest.raises(SettingError, match="START_DATE"):
        _load(tmp_path, START_DATE="9999-12-31")


def test_a_split_before_the_beginning_of_time_is_a_wrong_setting(tmp_path):
    with pytest.raises(SettingError, match="SPLITS"):
        _load(tmp_path, SPLITS="FIT:0001-01-01T00:00+05:00..2026-02-02")


@pytest.mark.parametrize(
    ("name", "value"), [("ROOT", "~nobody-is-called-this/data"), ("SPLITS", "file:~nobody-is-called-this/s")]
)
def test_a_home_folder_of_nobody_is_a_wrong_setting(tmp_path, name, value):
    with pytest.raises(SettingError, match=name):
        _load(tmp_path, **{name: value})


def test_a_number_is_written_in_ascii_digits(tmp_path):
    with pytest.raises(SettingError, match="EMBARGO_MINUTES: '٣' is no whole number of at least 0"):
        _load(tmp_path, EMBARGO_MINUTES="٣")


@pytest.mark.parametrize("line", ["root = {folder = 1}", 'source = ""', 'root = ""'])
def test_a_toml_value_that_is_no_text_is_a_wrong_setting(tmp_path, line):
    (tmp_path / "feature_assets.toml").write_text(line + "\n")
    with pytest.raises(SettingError, match=line.split(" =")[0].upper()):
        load_settings({}, tmp_path)


def test_a_wrong_source_stops_the_code_location_from_loading(tmp_path):
    with pytest.raises(SettingError, match=r"^SOURCE: 'nonsense' is no source; expected synthetic, parquet:PATH"):
        make_definitions(_load(tmp_path, SOURCE="nonsense"))


def test_a_root_url_of_no_known_kind_stops_the_code_location_from_loading_and_its_secrets_stay_unshown(tmp_path):
    with pytest.raises(SettingError, match=r"^ROOT: ") as caught:
        make_definitions(_load(tmp_path, ROOT="nonsense://key:secret@bucket/x"))
    assert "secret" not in str(caught.value)


def test_a_split_manifests_own_embargo_and_folds_hold_unless_others_are_set(tmp_path):
    stored = _load(tmp_path, EMBARGO_MINUTES="60", WALK_FORWARD_FOLDS="3").splits.to_json()
    (tmp_path / "splits.json").write_bytes(stored)
    assert _load(tmp_path, SPLITS="file:splits.json").splits.to_json() == stored
    with pytest.raises(SettingError, match="EMBARGO_MINUTES: 30 is set, the file of SPLITS says 60; leave one out"):
        _load(tmp_path, SPLITS="file:splits.json", EMBARGO_MINUTES="30")


@pytest.mark.parametrize("url", ["file://relative/store", "s3://", "gs:///"])
def test_a_root_url_that_is_not_well_formed_is_a_wrong_setting(tmp_path, url):
    with pytest.raises(SettingError, match=r"ROOT: the .* URL is not well formed"):
        _load(tmp_path, ROOT=url)


def test_a_root_that_is_a_file_is_a_wrong_setting(tmp_path):
    (tmp_path / "store").write_text("")
    with pytest.raises(SettingError, match=r"ROOT: .*store is a file; expected a folder or a URL"):
        _load(tmp_path, ROOT="store")
