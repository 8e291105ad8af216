"""Comparisons of rules that choose bits per sample: declared, tested, shown in each format."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.bitsweep_suite.rules import COMPARED, RULED, rules_store
from tests.bitsweep_suite.sweep_texts import read

from bitsweep.analysis.glance import among, significance
from bitsweep.analysis.paired import sign_flip_p
from bitsweep.analysis.render import FORMATS, Format, json_rows, render
from bitsweep.analysis.selection import against, narrowed
from bitsweep.analysis.table import Table, sweep_table
from bitsweep.bits import Rule, parse_rule, tied
from bitsweep.errors import InputError
from bitsweep.exchange import export_sweeps, import_results
from bitsweep.report import sweep_report
from bitsweep.store.database import open_to_read
from bitsweep.store.reader import Reader
from bitsweep.sweep import Comparison

POLICY_SWEEP = """schema = 1
name = "rules"
question = "?"
reproduces = "-"
expects = "-"
cost = "-"

[task]
data = "fashion-mnist-6k"
model = "small-cnn"
epochs = 1
bits = [2, 3, 4]

[[arms]]
name = "free"
method = "abn"
parameters = { policy = "double_dqn", policy_anchor = false }

[[arms]]
name = "anchored"
method = "abn"
parameters = { policy = "double_dqn" }

[[arms]]
name = "plain"
method = "abn"

[[arms]]
name = "full"
method = "fp32"

[[objectives]]

[confirm]
seeds = [0, 1]

[[comparisons]]
"""
RULES = "learned, shuffled, random, greedy, evolutionary, ilp, cascade"


def declared(folder: Path, **keys: str) -> Comparison:
    """The comparison that a file declares with these keys, as TOML values."""
    lines = [f"{name} = {value}" for name, value in keys.items()]
    (found,) = read(POLICY_SWEEP + "\n".join(lines), folder).comparisons
    return found


def test_a_comparison_names_two_rules_of_one_arm(tmp_path: Path) -> None:
    found = declared(
        tmp_path,
        arm='"free"',
        at='"learned@0.05"',
        against='"free"',
        against_at='"policy:shuffled@0.05"',
    )

    assert found.at == Rule(allocator="learned", price=0.05)
    assert found.against_at == Rule(allocator="shuffled", price=0.05)
    assert (found.at_label, found.against_at_label) == (
        "policy:learned@0.05",
        "policy:shuffled@0.05",
    )


@pytest.mark.parametrize(
    "keys",
    [
        {"arm": '"free"', "at": '"learned@0.2"', "against": '"free"', "against_at": '"w2a2"'},
        {"arm": '"free"', "at": '"learned@0.2"', "against": '"free"', "against_at": "2"},
        {"arm": '"free"', "at": '"learned@0.2"', "against": '"anchored"'},
        {"arm": '"free"', "at": "2", "against": '"free"', "against_at": "4"},
        {"arm": '"free"', "at": '"learned@0.2"', "against": '"full"'},
        {
            "arm": '"free"',
            "at": '"learned@0.05"',
            "against": '"anchored"',
            "against_at": '"cascade@0.2"',
        },
    ],
)
def test_rules_are_compared_with_bits_and_between_arms(
    keys: dict[str, str], tmp_path: Path
) -> None:
    assert declared(tmp_path, **keys).arm == "free"


@pytest.mark.parametrize(
    ("keys", "key", "message"),
    [
        (
            {"at": '"lerned@0.05"'},
            "at",
            f"arm 'free' has no rule 'lerned' (did you mean 'learned'?); rules: {RULES}",
        ),
        (
            {"at": '"learned@0.1"'},
            "at",
            "arm 'free' never measures lambda 0.1: it is measured at 0.05, 0.2, 0.8",
        ),
        (
            {"at": '"learned@0.05"', "against_at": '"oracle@0.05"'},
            "against_at",
            "an oracle reads the labels: it is an upper bound, and nothing is compared to it; "
            f"rules: {RULES}",
        ),
        (
            {"at": '"learned@0.05"', "against": '"plain"'},
            "at",
            "arm 'plain' has no policy, so that no rule is measured; expected bits such as "
            "'w4a4', got 'policy:learned@0.05'",
        ),
        (
            {"at": '"learned@0.05"', "against": '"free"', "against_at": '"learned@0.05"'},
            "against_at",
            "an arm against itself: name another arm, or other bits or another rule in against_at",
        ),
        (
            {"at": '"learned@0.05"', "against": '"free"'},
            "against",
            "an arm against itself: name another arm, or other bits or another rule in against_at",
        ),
        (
            {"at": '"learned@0.05"', "against": '"full"', "against_at": "2"},
            "against_at",
            "arm 'full' has full precision alone: leave this key out",
        ),
        (
            {"at": '"learned@x"'},
            "at",
            "expected a rule at a lambda such as 'learned@0.05', got 'learned@x'",
        ),
    ],
)
def test_a_rule_that_cannot_be_compared_is_refused_in_one_line(
    keys: dict[str, str], key: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as raised:
        declared(tmp_path, **{"arm": '"free"', "against": '"anchored"', **keys})
    text = str(raised.value)

    assert text.endswith(f": comparisons[0].{key}: {message}") and "\n" not in text


def test_a_lambda_counts_where_every_configuration_of_the_search_measures_it(
    tmp_path: Path,
) -> None:
    searched = POLICY_SWEEP.replace(
        'parameters = { policy = "double_dqn", policy_anchor = false }',
        'parameters = { policy = "double_dqn" }\n'
        'space = { policy_lambdas = { choice = ["three", "curve"] } }',
    ).replace("[[objectives]]", "[search]\nconfigurations_per_arm = 2\n[[objectives]]")
    rest = 'arm = "free"\nagainst = "free"\nat = "learned@0.8"\nagainst_at = "greedy@0.8"'

    assert read(searched + rest, tmp_path).comparisons
    with pytest.raises(InputError, match=r"never measures lambda 0\.1: it .* 0\.05, 0\.2, 0\.8"):
        read(searched + rest.replace("0.8", "0.1"), tmp_path)


@pytest.mark.parametrize("text", ["learned", "learned@", "@0.1", "w2a2", "learned@-1", "a b@0.1"])
def test_what_is_no_rule_at_a_lambda_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a rule at a lambda"):
        parse_rule(text)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    folder = tmp_path_factory.mktemp("rules")
    return table_of(rules_store(folder))


def table_of(store: Path) -> Table:
    reader = Reader(open_to_read(str(store)))
    made = sweep_table(reader, "toy")
    reader.close()
    return made


def test_rules_are_tested_as_arms_are(table: Table) -> None:
    mixed, static = table.comparisons[:2]
    differences = [learned - shuffled for learned, shuffled in zip(*RULED, strict=True)]
    assert mixed.result is not None and static.result is not None

    assert (mixed.result.n, mixed.is_primary) == (6, True)
    assert mixed.result.mean == pytest.approx(sum(differences) / 6 / 10)
    assert mixed.result.p_permutation == sign_flip_p(differences) == 2 / 2**6
    assert mixed.adjusted_p == 3 * 2 / 2**6  # Holm's family is all three, one not measured yet
    assert mixed.attainable == 3 * 2 / 2**6
    assert static.result.mean == pytest.approx(sum(RULED[0]) / 60 - 70.0)


def test_what_is_not_measured_yet_counts_in_the_family(table: Table) -> None:
    missing = table.comparisons[2]

    assert (missing.result, missing.adjusted_p, missing.is_primary) == (None, None, True)


@pytest.mark.parametrize("form", [one for one in FORMATS if one not in ("csv", "json")])
def test_the_comparison_stands_under_the_table_in_each_format(form: Format, table: Table) -> None:
    text = render(table, form)

    assert "+2.50" in text and "exact paired p = 0.03125, Holm 0.09375" in text
    assert "10.5 k against 7.3 k BitOps" in text or form == "latex"
    if form != "latex":  # which breaks signs of its own
        name = "fixed at policy:learned@0.2 - fixed at policy:shuffled@0.2: +2.50"
        assert name in text
        assert "fixed at policy:learned@0.2 - fixed at w2a2: " in text
        assert "fixed at policy:learned@0.2 - b at w2a2: not measured on common seeds yet" in text


def test_json_has_the_comparisons_of_a_cell_with_it(table: Table) -> None:
    by_allocation = {one["allocation"]: one["comparisons"] for one in json_rows(table)}
    first, _, missing = by_allocation.pop("policy:learned@0.2")

    assert first["against_at"] == "policy:shuffled@0.2" and first["result"]["n"] == 6
    assert (first["holm_p"], first["is_primary"]) == (0.09375, True)
    assert missing["result"] is None and json.loads(render(table, "json"))
    assert not any(by_allocation.values())


def test_a_table_of_some_bits_keeps_what_compares_these_alone(table: Table) -> None:
    both = narrowed(table, ["w2a2", "policy:learned@0.2"])

    assert [one.against_at for one in both.comparisons] == ["w2a2", "w2a2"]
    assert narrowed(table, ["w2a2"]).comparisons == ()


def test_a_star_names_the_rule_that_lost(table: Table) -> None:
    mixed = replace(table.comparisons[0], adjusted_p=0.01)
    starred = replace(table, comparisons=(mixed,))

    assert significance(starred) == {("fixed", "policy:learned@0.2"): "fixed policy:shuffled@0.2"}
    assert among(starred, {"fixed"}).comparisons == ()


def test_a_difference_of_two_arms_is_not_declared_by_rules(table: Table) -> None:
    compared = replace(table.comparisons[0], arm="b")
    asked = against(replace(table, comparisons=(compared,)), "fixed")

    assert not any(one.is_declared for one in asked.differences)


def test_the_report_tells_of_rules(tmp_path: Path) -> None:
    reader = Reader(open_to_read(str(rules_store(tmp_path))))
    page = sweep_report(reader, "toy")
    reader.close()

    assert "fixed at policy:learned@0.2 - fixed at policy:shuffled@0.2: +2.50" in page


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_comparisons_of_rules_are_exported_and_imported(suffix: str, tmp_path: Path) -> None:
    store = rules_store(tmp_path)
    reader = Reader(open_to_read(str(store)))
    export_sweeps(reader, ["toy"], tmp_path / f"rules{suffix}")
    reader.close()
    import_results(tmp_path / f"rules{suffix}", str(tmp_path / "other.db"))

    assert table_of(tmp_path / "other.db").comparisons == table_of(store).comparisons


def test_a_file_of_before_rules_could_be_compared_is_imported(tmp_path: Path) -> None:
    reader = Reader(open_to_read(str(rules_store(tmp_path))))
    export_sweeps(reader, ["toy"], tmp_path / "new.csv")
    reader.close()
    head, _, rest = (tmp_path / "new.csv").read_text(encoding="utf-8").partition("\n")
    document = json.loads(head.removeprefix("#bitsweep "))
    for row in document["rows"]["comparisons"]:
        del row["against_at"]
    old = f"#bitsweep {json.dumps(document)}\n{rest}"
    (tmp_path / "old.csv").write_text(old, encoding="utf-8")
    import_results(tmp_path / "old.csv", str(tmp_path / "other.db"))

    assert {one.against_at for one in table_of(tmp_path / "other.db").comparisons} == {
        "policy:learned@0.2"
    }


def test_an_allocation_that_two_rules_gave_a_trial_counts_once(tmp_path: Path) -> None:
    cell = table_of(rules_store(tmp_path)).cells["fixed", "w=[2,3] a=[2,3]"]

    assert (cell.n, cell.is_own) == (6, False)


def test_the_record_of_a_comparison_stands_on_one_side_by_default() -> None:
    plain = Comparison(arm="a", against="b", at=tied(2))

    assert (plain.at_label, plain.against_at_label, plain.other_at) == ("w2a2", "w2a2", tied(2))
    assert Comparison(arm="a", against="b", at=None).against_at_label == "learned"
    assert COMPARED[0].at != COMPARED[0].other_at
