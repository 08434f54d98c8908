"""What holds for every variant of every trainable method."""

import pytest
import torch
from zsad.bench import create
from zsad.bench.method import TrainableMethod
from zsad.bench.registry import method_class, names

TRAINABLE = {
    name: cls for name in names("method") if issubclass(cls := method_class(name), TrainableMethod)
}
VARIANTS = [(name, variant) for name, cls in TRAINABLE.items() for variant in cls.variants]


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_every_variant_answers_and_learns(name, variant, tiny, random_case):
    method = create(name, tiny, variant)
    case = random_case(method)
    with torch.no_grad():
        prediction = method.predict(case.query).checked(3, name)
    assert prediction.maps.shape == (3, method.map_size, method.map_size)
    assert bool(((prediction.scores > 0) & (prediction.scores < 2)).all())  # VCP-CLIP adds two
    optimizer = torch.optim.Adam(method.parameters(), lr=2e-3, betas=(0.5, 0.999))
    totals = []
    for _ in range(5):
        optimizer.zero_grad()
        total = method.loss(case.query, case.labels, case.masks)["total"]
        total.backward()
        assert all(p.grad is not None for p in method.parameters() if p.requires_grad)
        totals.append(total.item())
        optimizer.step()
    assert totals[-1] < totals[0]
