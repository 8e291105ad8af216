"""Papers' numbers: all of them come with the package, beside ours only in the same setting."""

from tests.bitsweep_suite.tables import cell, table

from bitsweep.analysis.published import beside, filtered, plain_name, published
from bitsweep.analysis.render import render
from bitsweep.analysis.selection import with_published
from bitsweep.store.history import Setting

CIFAR = Setting(data="cifar10", model="resnet-20", epochs=4)


def test_each_number_says_where_it_stands_and_from_whom_it_comes() -> None:
    rows = published()

    assert len(rows) == 368
    assert all(row.paper and row.place and row.source for row in rows)
    assert {row.provenance for row in rows} == {"primary", "secondary"}


def test_spellings_of_a_model_agree() -> None:
    assert plain_name("ResNet-20") == plain_name("resnet20") != plain_name("ResNet-200")
    assert plain_name("ImageNet-1K") == plain_name("imagenet")


def test_a_number_stands_beside_ours_only_where_model_data_and_bits_agree() -> None:
    found = beside(data="cifar10", model="resnet-20", bits=["w4a4"])

    assert found
    assert {(row.data, row.model, row.bits) for row in found} == {
        ("CIFAR-10", "ResNet-20", "w4a4")
    }
    assert beside(data="cifar10", model="small-cnn", bits=["w4a4"]) == []


def test_a_printed_difference_is_no_accuracy() -> None:
    deltas = [row for row in published() if row.top1.startswith("+")]

    assert deltas and all(row.top1_percent is None for row in deltas)


def test_the_filters_narrow_together() -> None:
    found = filtered(published(), data="imagenet", model="resnet-18", bits="w4a4", text="ABN")

    assert found and all("ABN" in row.method + row.paper + row.place for row in found)


def test_the_table_marks_printed_rows_and_tells_our_setting() -> None:
    ours = table(cell("a", "w4a4", (900, 910)))
    text = render(with_published(ours, [CIFAR]), "text")

    assert "(printed)" in text
    assert "Ours: resnet-20 on cifar10, trained for 4 epochs" in text


def test_without_a_number_in_this_setting_the_table_says_so() -> None:
    other = Setting(data="cifar10", model="small-cnn", epochs=4)
    text = render(with_published(table(cell("a", "w4a4", (900,))), [other]), "text")

    assert "no paper's number agrees in model, data and bits" in text and "(printed)" not in text
