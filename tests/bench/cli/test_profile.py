import dataclasses

from zsad.bench.cli.profile import profile
from zsad.bench.records.stages import STAGES


def test_a_profile_adds_up_the_seconds_of_a_method_over_its_records(make_record):
    timing = {"images": 100.0, **{f"seconds_{stage}": 1.5 for stage in STAGES}}
    records = [
        dataclasses.replace(make_record(method, dataset), timing=timing)
        for method in ("clip", "april_gan")
        for dataset in ("mvtec", "visa")
    ]
    header, _, *rows = profile(records).splitlines()
    assert header.split() == ["method", "images", *STAGES]
    assert [row.split() for row in rows] == [
        ["clip@official", "200", *["3.00"] * len(STAGES)],
        ["april-gan@official", "200", *["3.00"] * len(STAGES)],
    ]


def test_records_without_a_profile_give_no_table(make_record):
    assert profile([make_record("clip", "mvtec")]) == ""
