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


UNBOUNDED = ("aa_clip",)  # scores that are no probabilities


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_every_variant_answers_and_learns(name, variant, tiny, random_case):
    method = create(name, tiny, variant)
    case = random_case(method)
    with torch.no_grad():
        if method.remembers:
            method.remember(case.query, case.labels, case.masks)
            method.settle()
        prediction = method.predict(case.query).checked(3, name)
    assert prediction.maps.shape == (3, method.map_size, method.map_size)
    if prediction.parts is None and name not in UNBOUNDED:
        assert bool(((prediction.scores > 0) & (prediction.scores < 2)).all())  # VCP-CLIP adds two
    for stage in method.stages():
        totals = five_steps(method, stage, case)
        assert totals[-1] < totals[0], stage.name


def five_steps(method, stage, case):
    """The loss at each step, of the same draws where it draws random numbers."""
    learned = {n: p for n, p in method.named_parameters() if p.requires_grad}
    learning = [p for n, p in learned.items() if n.startswith(stage.learns)]
    optimizer = torch.optim.Adam(learning, lr=2e-3, betas=(0.5, 0.999))
    totals = []
    for _ in range(5):
        optimizer.zero_grad()
        torch.manual_seed(0)
        total = (stage.loss or method.loss)(case.query, case.labels, case.masks)["total"]
        total.backward()
        assert all(p.grad is not None for p in learning)
        totals.append(total.item())
        optimizer.step()
    return totals
